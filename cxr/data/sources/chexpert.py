"""CheXpert v1.0: `train.csv` and `valid.csv`, the full release, its four batches, or the small edition.

Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison", AAAI 2019.
"""

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError
from cxr.findings import CHEXPERT, NO_FINDING

LAYOUT = "train.csv, valid.csv and .../patient00001/study1/view1_frontal.jpg"
_PATH = r"(patient\d+)/study(\d+)(?:/(view\d+_(?:frontal|lateral)\.\w+))?$"


def read_chexpert(
    root: str | None, uncertain: str = "ignore", blank: str = "unknown", views: str = "frontal"
) -> Catalog:
    """Thirteen findings of `train.csv` and `valid.csv` (`val`), and of the test labels where they are below the root.

    Args:
        root: the folder of the tables, or the one above it.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell is: `unknown` or `zeros`.
        views: `frontal` or `all`.

    Raises:
        CxrError: a file or column is missing, or a cell is not as published.
    """
    files = Published(root, LAYOUT)
    train, valid = files.path("train.csv"), files.path("valid.csv")
    needs = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING, *CHEXPERT)
    frame = pd.concat(
        [files.table("train.csv", needs=needs, split="train"), files.table("valid.csv", needs=needs, split="val")]
    )
    test = files.find("test_labels.csv", "*test_official.csv")
    if test is not None:
        labels = text_of(test, ("Path", *(name for name in CHEXPERT if name != "Lung Opacity")), "test")
        labels = labels.rename(columns={"Airspace Opacity": "Lung Opacity"})
        frame = pd.concat([frame, labels.reindex(columns=frame.columns, fill_value="")])
    parts = frame["Path"].str.extract(_PATH)
    wrong = parts.isna().any(axis=1)
    if wrong.any():
        raise CxrError(
            f"{train} has the path {frame['Path'][wrong].iloc[0]!r} (row {frame.index[wrong.to_numpy()][0]}); expected "
            "one that ends in patient00001/study1/view1_frontal.jpg"
        )
    lateral = frame["Frontal/Lateral"].where(frame["Frontal/Lateral"] != "", parts[2].str.extract("(lateral)")[0])
    is_frontal = ~lateral.fillna("").str.lower().str.startswith("lateral")
    frame = frame.assign(
        image=frame["split"].replace("val", "valid") + "/" + parts[0] + "/study" + parts[1] + "/" + parts[2],
        patient=parts[0],
        study=parts[1],  # in the order of time
        sex=frame["Sex"],
        age=frame["Age"].where(frame["Age"] != "0", ""),  # 0 is unknown
        view=frame["AP/PA"].where(frame["AP/PA"].isin(["AP", "PA"]), "").where(is_frontal, "LATERAL"),
    )
    frame = frontal(frame, is_frontal, views)
    return published(frame, f"{train} and {valid.name}", files.folder, CHEXPERT, uncertain, blank, parts=3)

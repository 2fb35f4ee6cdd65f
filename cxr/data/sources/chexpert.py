"""CheXpert v1.0: `train.csv` and `valid.csv`, the full release, its four batches, or the small edition.

Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison", AAAI 2019. The
masks are those of Saporta et al., "Benchmarking saliency methods for chest X-ray interpretation", Nature Machine
Intelligence, 2022.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.images import files_below, in_archives
from cxr.data.sources.masks import Mask, coco_runs, mask_boxes
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError, counted
from cxr.files.reading import read_text
from cxr.findings import CHEXPERT, NO_FINDING

LAYOUT = "train.csv, valid.csv and .../patient00001/study1/view1_frontal.jpg"
_PATH = r"(patient\d+)/study(\d+)(?:/(view\d+_(?:frontal|lateral)\.\w+))?$"
_IMAGE = r"(patient\d+/study\d+)/(view\d+_(?:frontal|lateral))\.\w+$"


def read_chexpert(
    root: str | None,
    uncertain: str = "ignore",
    blank: str = "unknown",
    views: str = "frontal",
    labels: str | None = None,
) -> Catalog:
    """Thirteen findings of `train.csv` and `valid.csv` (`val`), and of the test labels where they are below the root.

    Test labels are `test_labels.csv`, or `groundtruth.csv` for every image of its studies. The masks of CheXlocalize,
    where they are below the root, are the boxes, see `cxr.data.sources.masks`.

    Args:
        root: the folder of the tables, or the one above it.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell is: `unknown` or `zeros`.
        views: `frontal` or `all`.
        labels: a table with other labels of the training images, such as `train_cheXbert.csv`: a path, or a name below
            the root. Training images that it lacks are left out.

    Raises:
        CxrError: a file or column is missing, or a cell is not as published.
    """
    files = Published(root, LAYOUT)
    origin, valid = files.path("train.csv"), files.path("valid.csv")
    needs = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING, *CHEXPERT)
    train = text_of(origin, needs, "train")
    if labels is not None:
        train = _relabelled(train, files.given("labels", labels))
    frame = pd.concat([train, text_of(valid, needs, "val")])
    test = _test(files)
    if test is not None:
        frame = pd.concat([frame, test.reindex(columns=frame.columns, fill_value="")])
    parts = frame["Path"].str.extract(_PATH)
    wrong = parts.isna().any(axis=1)
    if wrong.any():
        raise CxrError(
            f"{origin} has the path {frame['Path'][wrong].iloc[0]!r} (row {frame.index[wrong.to_numpy()][0]}); "
            "expected one that ends in patient00001/study1/view1_frontal.jpg"
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
    boxes = [
        mask_boxes(_masks(path, frame["image"]), str(path))
        for name in ("gt_segmentations_val.json", "gt_segmentations_test.json")
        if (path := files.find(name)) is not None
    ]
    return published(
        frame, f"{origin} and {valid.name}", files.folder, CHEXPERT, uncertain, blank, parts=3,
        boxes=pd.concat(boxes) if boxes else None,
    )  # fmt: skip


def _relabelled(train: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of a frame that a table of labels has, with its cells."""
    labels = text_of(path, ("Path", NO_FINDING, *CHEXPERT))
    ends, wanted = (table["Path"].str.extract(_IMAGE).fillna("").agg("/".join, axis=1) for table in (labels, train))
    labels = labels.set_index(ends)[[NO_FINDING, *CHEXPERT]]
    known = wanted.isin(labels.index)
    if not known.any() or labels.index.duplicated().any():
        raise CxrError(f"data.labels={path} does not have one row for each training image; is it the published file?")
    if not known.all():
        print(f"left out, since {path} lacks them: {counted((~known).sum(), 'training image')}", flush=True)
    train = train[known]
    return train.assign(**{name: labels[name].reindex(wanted[known]).to_numpy() for name in (NO_FINDING, *CHEXPERT)})


def _test(files: Published) -> pd.DataFrame | None:
    """The test images and their labels; those of a study are the labels of each of its images below the root."""
    path = files.find("test_labels.csv", "*test_official.csv", "groundtruth.csv")
    if path is None:
        return None
    frame = text_of(path, [name for name in CHEXPERT if name != "Lung Opacity"], "test")
    frame = frame.rename(columns={"Airspace Opacity": "Lung Opacity"})
    if "Path" in frame:
        return frame
    if "Study" not in frame:
        raise CxrError(f"{path} lacks the column Path or Study; is it the published file?")
    below = {name: str(files.folder / name) for name in files_below(files.folder)}
    images = pd.Series([*below, *in_archives(below)], dtype=object).str.extract(_IMAGE).dropna().drop_duplicates()
    frame["key"] = frame["Study"].str.extract(r"(patient\d+/study\d+)$")
    without = int((~frame["key"].isin(images[0])).sum())
    if without == len(frame):
        raise CxrError(
            f"data.root={files.root} has no image of the {without} studies of {path}; move the test images below it, "
            "or the file out of it"
        )
    if without:
        studies = counted(len(frame), "study", "studies")
        print(f"left out, since they have no image: {without} of {studies} of {path}", flush=True)
    frame = frame.reset_index(names="row").merge(images, left_on="key", right_on=0).set_index("row")
    return frame.assign(Path=frame["Study"] + "/" + frame[1] + ".jpg")


def _masks(path: Path, images: pd.Series) -> Iterator[Mask]:
    """The masks of CheXlocalize for images of the catalog; it calls them `patient64541_study1_view1_frontal`."""
    named = {image.partition("/")[2].rpartition(".")[0].replace("/", "_"): image for image in images}
    try:
        for name, findings in json.loads(read_text(path)).items():
            for finding, mask in findings.items() if name in named else ():
                height, width = (int(side) for side in mask["size"])
                yield named[name], finding, coco_runs(mask["counts"]), width, height
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CxrError(f"{path} is not the published file of masks, {{image: {{finding: {{size, counts}}}}}}") from None

"""MIMIC-CXR-LT: images of MIMIC-CXR-JPG with one of 19 findings each, with its own splits.

See `cxr.data.sources.long_tail`. The files have no age, sex or view.
"""

from pathlib import Path

import pandas as pd

from cxr.data.catalog import Catalog, check, root_folder
from cxr.data.sources.images import find_images
from cxr.data.sources.long_tail import BALANCED, read_splits

MIMIC_CXR_LT = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
    "Pneumoperitoneum", "Pneumomediastinum", "Subcutaneous Emphysema", "Tortuous Aorta", "Calcification of the Aorta",
)  # fmt: skip


def read_mimic_lt(root: str | None, labels: str | None = None) -> Catalog:
    """The catalog of 19 findings, with the column `split` and the further test split `balanced_test`.

    Args:
        root: the folder with `files/p10/...`, the images of MIMIC-CXR-JPG.
        labels: folder of the files `mimic-cxr-lt_single-label_{train,balanced-val,test,balanced-test}.csv`, by default
            `root`.

    Raises:
        CxrError: a table is missing or is not as published, or the balanced test images are not among the test images.
    """
    images = root_folder(root, "files/p10/..., the images of MIMIC-CXR-JPG")
    folder = Path(labels or root or "").expanduser()
    splits, balanced = read_splits(folder, "mimic-cxr-lt", MIMIC_CXR_LT, ["path", "subject_id"])
    found = find_images(splits["path"], images, str(folder))
    ids = dict(zip(splits["path"], found.ids, strict=True))
    known = {"image": found.ids, "path": found.paths, "patient": splits["subject_id"], "split": splits["split"]}
    table = pd.DataFrame({**known, **{name: splits[name] for name in MIMIC_CXR_LT}})
    table = table.assign(followup=0, age=float("nan"), sex="", view="")
    tests = {BALANCED: tuple(ids[name] for name in balanced)}
    return check(Catalog(table, MIMIC_CXR_LT, str(folder), tests=tests))

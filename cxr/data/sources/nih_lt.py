"""NIH-CXR-LT: images of NIH ChestX-ray14 with one of 20 findings each, with its own splits.

Holste et al., "Long-Tailed Classification of Thorax Diseases on Chest X-Ray", 2022; label files in
https://github.com/VITA-Group/LongTailCXR. Most of its test images are in NIH's official training list.
"""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.data.catalog import COLUMNS, Catalog, check, some
from cxr.data.sources.nih import read_nih
from cxr.errors import CxrError, first_line
from cxr.files.reading import read_text

# From the most to the least frequent in training.
NIH_CXR_LT = (
    "No Finding", "Infiltration", "Atelectasis", "Effusion", "Nodule", "Mass", "Pneumothorax", "Consolidation",
    "Pleural_Thickening", "Cardiomegaly", "Fibrosis", "Edema", "Tortuous Aorta", "Emphysema", "Pneumonia",
    "Calcification of the Aorta", "Pneumoperitoneum", "Hernia", "Subcutaneous Emphysema", "Pneumomediastinum",
)  # fmt: skip
_SPLITS = {"train": "train", "val": "balanced-val", "test": "test"}
_BALANCED = "balanced-test"


def read_nih_lt(root: str | None, labels: str | None = None) -> Catalog:
    """The catalog of 20 findings, with the column `split` and the further test split `balanced_test`.

    Args:
        root: the folder of NIH ChestX-ray14, see `read_nih`, from which age, sex, view and boxes come.
        labels: folder of the files `nih-cxr-lt_single-label_{train,balanced-val,test,balanced-test}.csv`, by default
            `root`.

    Raises:
        CxrError: a table is missing or is not as published, names an image that NIH's lacks, or the balanced test
            images are not among the test images.
    """
    nih = read_nih(root)
    folder = Path(labels or root or "").expanduser()
    tables = [_read(folder, name).assign(split=split) for split, name in _SPLITS.items()]
    balanced = _read(folder, _BALANCED)["image"]
    _check_inside(pd.concat(tables)["image"], nih.table["image"], folder, nih.origin)
    _check_inside(balanced, tables[-1]["image"], _path(folder, _BALANCED), str(_path(folder, _SPLITS["test"])))
    table = nih.table[list(COLUMNS)].merge(pd.concat(tables), on="image", validate="one_to_many")
    boxes = nih.boxes[nih.boxes["image"].isin(table["image"]) & nih.boxes["finding"].isin(NIH_CXR_LT)]
    catalog = replace(nih, table=table, findings=NIH_CXR_LT, origin=str(folder), boxes=boxes.reset_index(drop=True))
    return check(replace(catalog, tests={"balanced_test": tuple(balanced)}))


def _check_inside(images: pd.Series, known: pd.Series, origin: Path, other: str) -> None:
    absent = images[~images.isin(known)].tolist()
    if absent:
        raise CxrError(f"{origin} names {len(absent)} images that {other} lacks: {some(absent)}")


def _path(folder: Path, name: str) -> Path:
    return folder / f"nih-cxr-lt_single-label_{name}.csv"


def _read(folder: Path, name: str) -> pd.DataFrame:
    """`image` and the 20 findings of one label file, float32.

    Raises:
        CxrError: it is missing, lacks a column, or a row does not have exactly one finding.
    """
    path = _path(folder, name)
    try:
        table = pd.read_csv(StringIO(read_text(path)), dtype={"id": str})
    except FileNotFoundError:
        raise CxrError(
            f"{path} is missing; pass data.labels=DIR, the folder with the label files of NIH-CXR-LT (see docs/data.md)"
        ) from None
    except ValueError as error:
        raise CxrError(
            f"{path} cannot be read as a CSV table: {first_line(error)}; is it the published file?"
        ) from None
    lacks = [column for column in ("id", *NIH_CXR_LT) if column not in table]
    if lacks:
        raise CxrError(f"{path} lacks the column {', '.join(lacks)}; is it the published file?")
    values = table[list(NIH_CXR_LT)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    wrong = ~(np.isin(values, (0, 1)).all(axis=1) & (values.sum(axis=1) == 1)) | table["id"].isna().to_numpy()
    if wrong.any():
        raise CxrError(f"{path} line {int(wrong.argmax()) + 2}: expected an image and exactly one 1 among 20 findings")
    return pd.DataFrame(values, columns=list(NIH_CXR_LT)).assign(image=table["id"].str.strip())

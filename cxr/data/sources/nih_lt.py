"""NIH-CXR-LT: images of NIH ChestX-ray14 with one of 20 findings each, with its own splits.

Most of its test images are in NIH's official training list. See `cxr.data.sources.long_tail`.
"""

from dataclasses import replace
from pathlib import Path

from cxr.data.catalog import COLUMNS, Catalog, check
from cxr.data.sources.long_tail import BALANCED, check_inside, read_splits
from cxr.data.sources.nih import read_nih

# From the most to the least frequent in training.
NIH_CXR_LT = (
    "No Finding", "Infiltration", "Atelectasis", "Effusion", "Nodule", "Mass", "Pneumothorax", "Consolidation",
    "Pleural_Thickening", "Cardiomegaly", "Fibrosis", "Edema", "Tortuous Aorta", "Emphysema", "Pneumonia",
    "Calcification of the Aorta", "Pneumoperitoneum", "Hernia", "Subcutaneous Emphysema", "Pneumomediastinum",
)  # fmt: skip


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
    splits, balanced = read_splits(folder, "nih-cxr-lt", NIH_CXR_LT, ["id"])
    splits = splits.rename(columns={"id": "image"})
    check_inside(splits["image"], nih.table["image"], folder, nih.origin)
    table = nih.table[list(COLUMNS)].merge(splits, on="image", validate="one_to_many")
    boxes = nih.boxes[nih.boxes["image"].isin(table["image"]) & nih.boxes["finding"].isin(NIH_CXR_LT)]
    catalog = replace(nih, table=table, findings=NIH_CXR_LT, origin=str(folder), boxes=boxes.reset_index(drop=True))
    return check(replace(catalog, tests={BALANCED: balanced}))

"""VinDr-CXR as PhysioNet publishes it: three readers per training image, a consensus of five per test image.

Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", 2022.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.data.boxes import BOX_COLUMNS
from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, by_end, published, text_of
from cxr.data.sources.table import check_choices
from cxr.errors import CxrError
from cxr.findings import VINDR

LAYOUT = "annotations/image_labels_train.csv, annotations/image_labels_test.csv, train/*.dicom and test/*.dicom"
READERS = ("majority", "any", "mean")


def read_vindr(root: str | None, readers: str = "majority") -> Catalog:
    """27 findings with the official split; each image is a patient, since none are published.

    Args:
        root: the folder of `annotations`, `train` and `test`.
        readers: how the three readers of a training image become a label: `majority`, `any`, or `mean`, which is the
            majority with the share of readers as soft training target.

    Raises:
        CxrError: a file or column is missing, or a cell is not 0 or 1.
    """
    check_choices(readers=(readers, READERS))
    files = Published(root, LAYOUT)
    origin = files.path("image_labels_train.csv")
    train, test = (_table(files.path(f"image_labels_{split}.csv"), split) for split in ("train", "test"))
    votes = train[list(VINDR)].apply(pd.to_numeric).groupby(train["image_id"], sort=False).mean()
    labels, soft = aggregated(votes, readers)
    labels = labels.assign(image_id=votes.index, split="train").set_index(pd.Index(np.arange(len(votes)) + 2))
    frame = pd.concat([labels, test])
    frame = frame.assign(
        image=frame["split"] + "/" + frame["image_id"] + ".dicom", patient=frame["image_id"], view="PA"
    )
    if soft is not None:
        soft = pd.concat([soft, pd.DataFrame(np.nan, index=range(len(test)), columns=soft.columns)])
    boxes = []
    for split in ("train", "test"):
        path = files.find(f"annotations_{split}.csv")
        if path is not None:
            boxes.append(boxes_of(text_of(path, BOX_CELLS), f"{split}/", files.folder))
    found = pd.concat(boxes) if boxes else None
    return published(frame, origin, files.folder, VINDR, soft=soft, boxes=found)


def _table(path: Path, split: str) -> pd.DataFrame:
    frame = text_of(path, ("image_id", *(name for name in VINDR if name != "Other diseases")), split)
    frame = frame.rename(columns={"Other disease": "Other diseases"})  # both are published
    if "Other diseases" not in frame:
        raise CxrError(f"{path} lacks the column Other diseases; is it the published file?")
    wrong = ~frame[list(VINDR)].isin(["0", "1", "0.0", "1.0"]).all(axis=1)
    if wrong.any():
        raise CxrError(
            f"{path} row {frame.index[wrong.to_numpy()][0]}: a label is not 0 or 1; is it the published file?"
        )
    return frame


def aggregated(votes: pd.DataFrame, readers: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Labels as text of the shares of readers (N, L) who saw a finding, and with `mean` these as soft targets."""
    present = votes > (0 if readers == "any" else 0.5)
    labels = pd.DataFrame(np.where(present, "1", "0"), columns=votes.columns)
    return labels, votes.reset_index(drop=True) if readers == "mean" else None


BOX_CELLS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")


def boxes_of(cells: pd.DataFrame, above: str, root: Path) -> pd.DataFrame | None:
    """The boxes of all readers, in pixels of the DICOM files, whose headers have the size; others have no boxes.

    Args:
        cells: text, a row per box with `BOX_CELLS`; a row without numbers is no box.
        above: folder of the images, before their id.
        root: the data set.

    Raises:
        CxrError: pydicom is missing.
    """
    numbers = cells[list(BOX_CELLS[2:])].apply(pd.to_numeric, errors="coerce").dropna()
    cells = cells.loc[numbers.index] if cells.index.is_unique else cells
    image = above + cells["image_id"] + ".dicom"
    distinct = pd.Series(image.unique(), dtype=object)
    paths = by_end(1)(distinct, root, str(root)).paths
    sizes = dict(zip(distinct, _sizes(paths.tolist()), strict=True))
    table = pd.DataFrame(
        {
            "image": image, "finding": cells["class_name"], "x": numbers["x_min"], "y": numbers["y_min"],
            "width": numbers["x_max"] - numbers["x_min"], "height": numbers["y_max"] - numbers["y_min"],
            "image_width": [sizes[name][0] for name in image], "image_height": [sizes[name][1] for name in image],
        }
    )  # fmt: skip
    return table[(table["image_width"] > 0) & (table["width"] > 0) & (table["height"] > 0)][list(BOX_COLUMNS)]


def _sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Width and height in the header of each DICOM file, 0 of others."""
    sizes = [(0, 0)] * len(paths)
    dicom = [row for row, path in enumerate(paths) if path.lower().endswith((".dcm", ".dicom"))]
    if not dicom:
        return sizes
    try:
        from cxr.imaging.dicom_header import read_dataset
    except ImportError:
        raise CxrError("DICOM files need the extra `dicom`; make setup EXTRAS=dicom") from None
    for row in dicom:
        try:
            with Path(paths[row]).open("rb") as file:
                header = read_dataset(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            sizes[row] = int(header.Columns), int(header.Rows)
        except Exception:  # of pydicom, many kinds
            continue  # decoding names the file
    return sizes

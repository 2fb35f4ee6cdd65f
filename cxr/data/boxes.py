"""Bounding boxes of findings, in pixels of the published images."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.findings import check_known
from cxr.imaging.preprocessing import Preprocessing

BOX, IMAGE_SIZE = ("x", "y", "width", "height"), ("image_width", "image_height")
BOX_COLUMNS = ("image", "finding", *BOX, *IMAGE_SIZE)


def no_boxes() -> pd.DataFrame:
    """An empty table of boxes."""
    return pd.DataFrame(columns=list(BOX_COLUMNS))


def check_boxes(boxes: pd.DataFrame, images: Collection[str], findings: Sequence[str], origin: str) -> None:
    """Checks the schema of a table of boxes.

    Args:
        boxes: one row per box with `BOX_COLUMNS`: upper left corner and sides of the box, and size of the image.
        images: ids of the catalog's images.
        findings: of the catalog.
        origin: name of the catalog in errors.

    Raises:
        CxrError: a column is missing, an image or a finding is not in the catalog, a value is not a number, a side is
            not positive, or a box is outside its image. The message names the row, from 1.
    """
    missing = [column for column in BOX_COLUMNS if column not in boxes]
    if missing:
        raise CxrError(f"the boxes of {origin} lack the column {', '.join(missing)}; expected {', '.join(BOX_COLUMNS)}")
    if boxes.empty:
        return
    check_known(map(str, boxes["finding"].unique()), findings, f"the column finding of the boxes of {origin}")
    strange = ~boxes["image"].isin(list(images)).to_numpy()
    if strange.any():
        row = int(strange.argmax())
        raise CxrError(
            f"the boxes of {origin} name the image {str(boxes['image'].iloc[row])!r} (row {row + 1}), which its table "
            "lacks; remove the box, or write the image as the table does"
        )
    numbers = boxes[[*BOX, *IMAGE_SIZE]].apply(pd.to_numeric, errors="coerce").to_numpy(float, na_value=np.nan)
    start, side, whole = numbers[:, :2], numbers[:, 2:4], numbers[:, 4:]
    wrong = ~(np.isfinite(numbers).all(axis=1) & (numbers[:, 2:] > 0).all(axis=1))
    wrong |= ((start >= whole) | (start + side <= 0)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        shown = ", ".join(f"{name}={boxes[name].iloc[row]}" for name in (*BOX, *IMAGE_SIZE))
        raise CxrError(
            f"the boxes of {origin} have {shown} for {boxes['finding'].iloc[row]} of {boxes['image'].iloc[row]} (row "
            f"{row + 1}); expected a box that overlaps its image, in pixels of the published image"
        )


def shown_boxes(boxes: pd.DataFrame, preprocessing: Preprocessing) -> NDArray[np.float64]:
    """x, y, width and height (n, 4) of boxes in pixels of the network's input."""
    scale, shift = preprocessing.pixels()
    whole = boxes[list(IMAGE_SIZE)].to_numpy(float)
    factors = scale * preprocessing.cached / whole  # cached images are square
    drawn = boxes[list(BOX)].to_numpy(float) * np.tile(factors, 2)
    return drawn + np.array([shift, shift, 0, 0])

"""Published masks of findings, in run lengths, as rectangles in the table of boxes."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.boxes import BOX, IMAGE_SIZE
from cxr.errors import CxrError
from cxr.imaging.limits import MOST_PIXELS

Mask = tuple[str, str, Sequence[int], int, int]  # image, finding, runs, width and height of the image in pixels
_GRID = 256  # cells along a side of the image


def relative_runs(text: str) -> list[int]:
    """The runs of a mask of SIIM-ACR: pairs `gap length`, each gap counted from the end of the run before it."""
    return [int(word) for word in text.split()]


def coco_runs(text: str) -> list[int]:
    """The runs of a mask in COCO's compressed text (`rleFrString` of its API).

    A character has five bits of a number, from the lowest, and a sixth if more follow. From the fourth number on, the
    text has the difference from the number two before.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode():
        piece = sign - 48
        value |= (piece & 31) << shift
        shift += 5
        if not piece & 32:
            value -= (piece & 16) << (shift - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def mask_boxes(masks: Iterable[Mask], origin: str) -> pd.DataFrame:
    """Masks as rectangles that do not overlap, a table as `cxr.data.boxes` has it; an empty mask has none.

    A mask is reduced to cells of 1/256 of the width and height of its image: those of which it covers half or more, or
    else the most that it covers of any. A rectangle is a run of cells in a column.

    Args:
        masks: runs are lengths outside and inside the mask, in turn, column by column from the upper left pixel.
        origin: file that errors name.

    Raises:
        CxrError: runs are negative, or have more pixels than the image.
    """
    names: list[tuple[str, str]] = []
    found: list[NDArray[np.float64]] = []
    for image, finding, runs, width, height in masks:
        rest = width * height - sum(runs)
        if not 0 < width * height <= MOST_PIXELS or rest < 0 or min(runs, default=0) < 0:
            raise CxrError(
                f"{origin} has a mask of {finding} for {image} that does not fit an image of {width}x{height} pixels; "
                "is it the published file?"
            )
        if any(runs[1::2]):
            rectangles = _rectangles([*runs, rest] if len(runs) % 2 == 0 else [*runs, 0, rest], width, height)
            names += [(image, finding)] * len(rectangles)
            found.append(rectangles)
    numbers = np.concatenate(found) if found else np.zeros((0, 6))
    table = pd.DataFrame(numbers, columns=[*BOX, *IMAGE_SIZE])
    return pd.concat([pd.DataFrame(names, columns=["image", "finding"], dtype=object), table], axis=1)


def _rectangles(runs: Sequence[int], width: int, height: int) -> NDArray[np.float64]:
    """x, y, width and height of rectangles, and width and height of the image (n, 6)."""
    whole = np.repeat(np.resize(np.array([0, 255], np.uint8), len(runs)), runs).reshape(width, height)
    across, down = min(_GRID, width), min(_GRID, height)
    share = cv2.resize(whole, (down, across), interpolation=cv2.INTER_AREA)  # a row is a column of the image
    covered = share >= min(128, max(1, int(share.max())))
    edges = np.diff(np.pad(covered, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    x, top = np.nonzero(edges == 1)
    length = np.nonzero(edges == -1)[1] - top
    cells = np.stack([x, top, np.ones_like(x), length], axis=1) * np.tile([width / across, height / down], 2)
    return np.concatenate([cells, np.tile([width, height], (len(cells), 1))], axis=1)

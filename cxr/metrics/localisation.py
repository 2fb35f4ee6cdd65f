"""Localisation by attention maps, compared with boxes drawn by radiologists: pointing game, IoU, and energy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.bootstrap import Bootstrap, bootstrap_mean
from cxr.metrics.interval import DEFAULT, Resampling

_Floats = NDArray[np.float64]
THRESHOLDS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Localisation:
    """How well each map localises its boxes; NaN for a map without a positive value or without a box.

    Attributes:
        pointing: (N,), 1 where the centre of the map's highest cell is in a box, else 0; the mean over the highest
            cells if several are equal (pointing game, Zhang et al., ECCV 2016).
        iou: (N, T), intersection over union of the boxes and of the cells at or above each threshold.
        energy: (N,), share of the map's sum that is inside the boxes (Wang et al., Score-CAM, CVPR Workshops 2020).
    """

    pointing: _Floats
    iou: _Floats
    energy: _Floats


def localise(
    maps: ArrayLike,
    boxes: Sequence[ArrayLike],
    size: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Localisation:
    """Scores maps; each row is one image and one of its findings.

    A box in pixels may cover part of a cell, and areas are exact at any map size. Values below 0 count as 0, and a map
    is divided by its maximum before thresholding.

    Args:
        maps: (N, h, w), larger means more relevant.
        boxes: N arrays (B, 4) of x, y, width and height in image pixels, x to the right and y down; the boxes of
            a row form one region.
        size: (2,) or (N, 2), width and height of the image in the pixels of the boxes.
        thresholds: T numbers in (0, 1].

    Raises:
        ValueError: shapes, a map value that is not finite, a size or a threshold that is not positive.
    """
    values = np.asarray(maps, np.float64)
    if values.ndim != 3 or len(boxes) != len(values) or not np.isfinite(values).all():
        raise ValueError(f"maps {values.shape} must be finite and (N, h, w), with one array of boxes for each of N")
    sizes = np.broadcast_to(np.asarray(size, np.float64), (len(values), 2))
    if not (sizes > 0).all() or not all(0 < limit <= 1 for limit in thresholds):
        raise ValueError(f"image sizes must be positive and thresholds {list(thresholds)} in (0, 1]")
    rows = [
        _score(np.maximum(one, 0), _boxes(drawn), (float(width), float(height)), thresholds)
        for one, drawn, (width, height) in zip(values, boxes, sizes, strict=True)
    ]
    table = np.array(rows, np.float64).reshape(-1, 2 + len(thresholds))
    return Localisation(pointing=table[:, 0], iou=table[:, 2:], energy=table[:, 1])


def by_finding(
    values: ArrayLike, finding: ArrayLike, findings: int, patient: ArrayLike, plan: Resampling = DEFAULT
) -> Bootstrap:
    """Mean of one of the scores for every finding and over the findings, with intervals from resampled patients.

    Args:
        values: (N,), for instance `Localisation.energy`; NaN is left out.
        finding: (N,), number of the finding of each row.
        findings: L.
        patient: (N,), the patient's id of every row.
    """
    array = np.asarray(values, np.float64)
    columns = np.full((len(array), findings), np.nan)
    columns[np.arange(len(array)), np.asarray(finding, np.intp)] = array
    return bootstrap_mean(columns, patient, plan)


def _coverage(boxes: _Floats, size: tuple[float, float], shape: tuple[int, int]) -> _Floats:
    """The share of each cell of a map that is inside the union of boxes.

    Args:
        boxes: (B, 4), x, y, width and height in image pixels; parts outside the image are ignored.
        size: width and height of the image in pixels.
        shape: (h, w) of the map.

    Returns:
        (h, w) float64 in [0, 1], exact: the image is cut along every edge of cells and boxes.
    """
    x, y, width, height = boxes.T
    across, columns = _cuts(np.append(x, x + width), size[0], shape[1])
    down, rows = _cuts(np.append(y, y + height), size[1], shape[0])
    inside = np.zeros((len(rows), len(columns)), np.bool_)
    left, right = (np.searchsorted(across, np.clip(edge, 0, size[0])) for edge in (x, x + width))
    top, bottom = (np.searchsorted(down, np.clip(edge, 0, size[1])) for edge in (y, y + height))
    for first, last, start, stop in zip(top, bottom, left, right, strict=True):
        inside[first:last, start:stop] = True
    pieces = inside * np.diff(down)[:, None] * np.diff(across)[None, :]
    area = np.zeros(shape)
    np.add.at(area, (rows[:, None], columns[None, :]), pieces)
    return area * shape[0] * shape[1] / (size[0] * size[1])


def _score(values: _Floats, boxes: _Floats, size: tuple[float, float], thresholds: Sequence[float]) -> list[float]:
    """Pointing, energy, and the overlap at each threshold."""
    share = _coverage(boxes, size, (values.shape[0], values.shape[1]))
    if not values.any() or not share.any():
        return [float("nan")] * (2 + len(thresholds))
    row, column = np.nonzero(values == values.max())
    x, y = (column + 0.5) * size[0] / values.shape[1], (row + 0.5) * size[1] / values.shape[0]
    found = [float(_inside(x, y, boxes).mean()), float((values * share).sum() / values.sum())]
    for limit in thresholds:
        hot = values / values.max() >= limit
        both = share[hot].sum()
        found.append(float(both / (hot.sum() + share.sum() - both)))
    return found


def _boxes(boxes: ArrayLike) -> _Floats:
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(array).all() or (array[:, 2:] < 0).any():
        raise ValueError("a box is not finite or has a negative side; boxes are x, y, width, height in pixels")
    return array


def _inside(x: _Floats, y: _Floats, boxes: _Floats) -> NDArray[np.bool_]:
    """Whether points are in any box; x and y broadcast."""
    hits = [(x >= left) & (x < left + w) & (y >= top) & (y < top + h) for left, top, w, h in boxes]
    return np.logical_or.reduce(hits) if hits else np.zeros(np.broadcast(x, y).shape, bool)


def _cuts(edges: _Floats, length: float, cells: int) -> tuple[_Floats, NDArray[np.intp]]:
    """All cuts of one axis in ascending order, and the cell of each piece between two cuts."""
    grid = np.arange(cells + 1) * (length / cells)
    cuts = np.unique(np.concatenate([grid, np.clip(edges, 0, length)]))
    middle = (cuts[1:] + cuts[:-1]) / 2
    return cuts, np.clip(np.searchsorted(grid, middle, "right") - 1, 0, cells - 1)

"""Exact area under the ROC curve, ties counted half, undefined where a class is empty."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """AUROC of every finding: the share of (positive, negative) pairs that the score puts in order, ties counting half.

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown (left out).
        score: (N, L), larger means more likely; any monotone scale.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image.

    Raises:
        ValueError: shapes differ, or a score that counts is NaN.

    Example:
        >>> auroc([[0.0], [1.0], [1.0], [0.0]], [[0.1], [0.4], [0.4], [0.4]])
        array([0.75])
    """
    targets, scores = np.asarray(target), np.asarray(score)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"target {targets.shape} and score {scores.shape} must both be (N, L)")
    return np.array([_auroc(targets[:, k], scores[:, k]) for k in range(targets.shape[1])])


def _auroc(target: NDArray[np.floating], score: NDArray[np.floating]) -> float:
    positive, negative = score[target == 1], np.sort(score[target == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    positive = np.sort(positive)  # neighbours in `positive` search neighbouring places
    if np.isnan(positive[-1]) or np.isnan(negative[-1]):
        raise ValueError("a score is NaN; AUROC needs numbers")
    below = np.searchsorted(negative, positive, "left")
    not_above = np.searchsorted(negative, positive, "right")
    return float((below.sum() + not_above.sum()) / (2.0 * len(positive) * len(negative)))


def macro(values: ArrayLike) -> float:
    """Mean over the findings that are defined; NaN if none is."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else float("nan")

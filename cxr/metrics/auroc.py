"""Exact areas under the ROC and the precision-recall curve of every finding, and their averages over findings."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells
from cxr.metrics.ranking import Ranking


def auroc(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """AUROC of every finding: the share of (positive, negative) pairs in the right order, ties counting half.

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown (left out).
        score: (N, L), larger means more likely; any monotone scale.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image.

    Raises:
        ValueError: shapes differ, a target is not 0, 1 or NaN, or the score of a known target is NaN.

    Example:
        >>> auroc([[0.0], [1.0], [1.0], [0.0]], [[0.1], [0.4], [0.4], [0.4]])
        array([0.75])
    """
    return _by_finding(Ranking.auroc, target, score)


def average_precision(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Average precision of every finding: the mean over its positives of the precision at their score.

    The sum over distinct scores of (gain in recall) x precision, without interpolation, as in scikit-learn.

    Args:
        target, score: as for `auroc`.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image (it would be 1 for any scores).
    """
    return _by_finding(Ranking.average_precision, target, score)


def macro(values: ArrayLike) -> float:
    """Mean over the findings that are defined; NaN if none is."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else float("nan")


def micro_auroc(target: ArrayLike, score: ArrayLike) -> float:
    """AUROC of all known cells pooled as if they were one finding; arguments as for `auroc`, on one scale."""
    return float(auroc(np.reshape(target, (-1, 1)), np.reshape(score, (-1, 1)))[0])


def prevalence_weighted(values: ArrayLike, target: ArrayLike) -> float:
    """Mean over the findings that are defined, each weighted by its number of positives; NaN if none is.

    Args:
        values: (L,), one for each finding.
        target: (N, L), 1, 0 or NaN for unknown.
    """
    array, positives = np.asarray(values, np.float64), (np.asarray(target) == 1).sum(axis=0)
    weight = np.where(np.isnan(array), 0, positives)
    return float(np.nansum(array * weight) / weight.sum()) if weight.sum() else float("nan")


def _by_finding(
    metric: Callable[[Ranking], NDArray[np.float64]], target: ArrayLike, score: ArrayLike
) -> NDArray[np.float64]:
    # Columns are copied side by side first, since reading them from rows is slow.
    targets, scores = (np.ascontiguousarray(array.T) for array in cells(target, score))
    return np.array([metric(Ranking(t, s))[0] for t, s in zip(targets, scores, strict=True)], np.float64)

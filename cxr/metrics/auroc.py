"""Exact areas under the ROC and the precision-recall curve: ties exact, undefined where a class is empty."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells
from cxr.metrics.curves import roc_curve

_Array = NDArray[Any]
_UNKNOWN = np.uint32(np.iinfo(np.uint32).max)  # sorts after the key of infinity


def auroc(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """AUROC of every finding: the share of (positive, negative) pairs that the score puts in order, ties counting half.

    float32 scores that are not negative, which probabilities are, take a shorter way: the bits of such a number sort
    like the number, so bits and label share one unsigned integer, which NumPy sorts with vector instructions, and the
    pairs in order are counted from the places of the positives (Mann and Whitney 1947).

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown (left out).
        score: (N, L), larger means more likely; any monotone scale.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image.

    Raises:
        ValueError: shapes differ, a target is not 0, 1 or NaN, or a score that counts is NaN.

    Example:
        >>> auroc([[0.0], [1.0], [1.0], [0.0]], [[0.1], [0.4], [0.4], [0.4]])
        array([0.75])
    """
    targets, scores = cells(target, score)
    if scores.dtype != np.float32 or not scores.size or not scores.min() >= 0:
        return _by_column(_auroc, targets, scores)
    keys = (np.ascontiguousarray(scores).view(np.uint32) << 1) | (targets == 1)  # the sign of -0.0 is shifted out
    keys[targets != targets] = _UNKNOWN
    keys = np.ascontiguousarray(keys.T)
    keys.sort(axis=1)
    return np.array([_auroc_of_keys(row[: np.searchsorted(row, _UNKNOWN)]) for row in keys])


def average_precision(target: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Average precision of every finding: the mean over its positives of the precision at their score.

    The sum over distinct scores of (gain in recall) x (precision), without interpolation, as scikit-learn defines it.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), larger means more likely.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image (it would be 1 whatever the scores).

    Raises:
        ValueError: as for `auroc`.
    """
    return _by_column(_average_precision, *cells(target, score))


def partial_auroc(
    target: ArrayLike, score: ArrayLike, max_fpr: float, standardised: bool = True
) -> NDArray[np.float64]:
    """Area under the ROC curve left of a false positive rate.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), larger means more likely.
        max_fpr: in (0, 1].
        standardised: scaled so that chance is 0.5 and perfect is 1 (McClish 1989); otherwise the area itself, at most
            `max_fpr`.

    Returns:
        (L,) float64; NaN where a finding has no positive or no negative image.

    Raises:
        ValueError: as for `auroc`, or `max_fpr` outside (0, 1].
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr is {max_fpr}; it must be above 0 and at most 1")
    targets, scores = cells(target, score)
    area = np.array([_area_left_of(*roc_curve(t, s)[:2], max_fpr) for t, s in zip(targets.T, scores.T, strict=True)])
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance)) if standardised else area


def macro(values: ArrayLike) -> float:
    """Mean over the findings that are defined; NaN if none is."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else float("nan")


def micro(metric: Callable[[_Array, _Array], NDArray[np.float64]], target: ArrayLike, score: ArrayLike) -> float:
    """A metric of all known cells pooled as if they were one finding, for instance `micro(auroc, target, score)`.

    Args:
        metric: `auroc`, `average_precision`, or another from (N, 1) and (N, 1) to (1,).
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), on one scale for all findings.
    """
    targets, scores = cells(target, score)
    return float(metric(targets.reshape(-1, 1), scores.reshape(-1, 1))[0])


def prevalence_weighted(values: ArrayLike, target: ArrayLike) -> float:
    """Mean over the findings that are defined, each weighted by its number of positives; NaN if none is.

    Args:
        values: (L,), one of a finding.
        target: (N, L), 1, 0 or NaN for unknown.
    """
    array, positives = np.asarray(values, np.float64), (np.asarray(target) == 1).sum(axis=0)
    weight = np.where(np.isnan(array), 0, positives)
    return float(np.nansum(array * weight) / weight.sum()) if weight.sum() else float("nan")


def _auroc_of_keys(key: NDArray[np.uint32]) -> float:
    """AUROC from sorted keys whose last bit is the label, so that negatives come before the positives they tie with."""
    place = np.flatnonzero((key & 1).astype(bool))
    positives, negatives = len(place), len(key) - len(place)
    if not positives or not negatives:
        return float("nan")
    not_above = place.sum() - positives * (positives - 1) // 2  # negatives before each positive, summed
    first = place[key[place - 1] == key[place] - 1]  # the first positive of every tie that has both classes
    tied_negatives = first - np.searchsorted(key, key[first] - 1, "left")
    tied_positives = np.searchsorted(key, key[first], "right") - first
    return float((not_above - (tied_negatives * tied_positives).sum() / 2) / (positives * negatives))


def _by_column(metric: Callable[[_Array, _Array], float], target: _Array, score: _Array) -> NDArray[np.float64]:
    """`metric` of the sorted positives and the sorted negatives of every finding; NaN where a class is empty."""
    values = np.full(target.shape[1], np.nan)
    for k in range(len(values)):
        positive = np.sort(score[target[:, k] == 1, k])  # neighbours search neighbouring places
        negative = np.sort(score[target[:, k] == 0, k])
        if len(positive) and len(negative):
            if np.isnan(positive[-1]) or np.isnan(negative[-1]):
                raise ValueError("a score is NaN; AUROC and average precision need numbers")
            values[k] = metric(positive, negative)
    return values


def _auroc(positive: _Array, negative: _Array) -> float:
    below = np.searchsorted(negative, positive, "left")
    not_above = np.searchsorted(negative, positive, "right")
    return float((below.sum() + not_above.sum()) / (2.0 * len(positive) * len(negative)))


def _average_precision(positive: _Array, negative: _Array) -> float:
    hits = len(positive) - np.searchsorted(positive, positive, "left")  # at least as high as each positive
    alarms = len(negative) - np.searchsorted(negative, positive, "left")
    return float((hits / (hits + alarms)).mean())


def _area_left_of(fpr: NDArray[np.float64], tpr: NDArray[np.float64], limit: float) -> float:
    if np.isnan(fpr[-1]) or np.isnan(tpr[-1]):
        return float("nan")
    inside = np.searchsorted(fpr, limit, "right")
    height = np.interp(limit, fpr[inside - 1 : inside + 1], tpr[inside - 1 : inside + 1])
    return float(np.trapezoid(np.append(tpr[:inside], height), np.append(fpr[:inside], limit)))

"""Operating points, chosen on validation and applied to test, and the rates of a classifier at them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.cells import cells
from cxr.metrics.curves import precision_recall_curve, roc_curve

_Floats = NDArray[np.float64]
FIXED = ("sensitivity", "specificity")
RULES = ("half", "youden", "f1", *FIXED)


def choose_thresholds(target: ArrayLike, score: ArrayLike, rule: str, at_least: float | None = None) -> _Floats:
    """The threshold of every finding by one rule; a score at or above the threshold is positive.

    Choose on validation and apply elsewhere: rates on the images that a threshold was chosen on are too high.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out), of the validation images.
        score: (N, L).
        rule: `half`, 0.5 for all; `youden`, the largest sensitivity + specificity - 1 (Youden 1950); `f1`, the largest
            F1; `sensitivity` or `specificity`, the threshold that keeps this rate at least at `at_least` and is best
            for the other. Of equally good thresholds, the highest.
        at_least: in (0, 1], for the last two rules only.

    Returns:
        (L,) float64. "No image is positive" is the number after the largest score, so defined thresholds are finite.
        NaN where a finding has no positive or no negative image (`half` is always defined).

    Raises:
        CxrError: an unknown rule, or `at_least` missing, superfluous or outside (0, 1].
    """
    if rule not in RULES:
        raise CxrError(f"operating point {rule!r} is unknown; choose one of {', '.join(RULES)}")
    if (rule in FIXED) != (at_least is not None) or not 0 < (1 if at_least is None else at_least) <= 1:
        raise CxrError(
            f"operating point {rule!r} with at_least={at_least}: {' and '.join(FIXED)} need a value in (0, 1], "
            f"the others none"
        )
    targets, scores = cells(target, score)
    if rule == "half":
        return np.full(targets.shape[1], 0.5)
    chosen = np.full(targets.shape[1], np.nan)
    for k in range(len(chosen)):
        known = targets[:, k] == targets[:, k]
        truth, values = targets[known, k], scores[known, k]
        if (truth == 1).any() and (truth == 0).any():
            threshold = _threshold(truth, values, rule, at_least or 0.0)
            above = np.nextafter(values.max(), np.asarray(np.inf, values.dtype))
            chosen[k] = threshold if np.isfinite(threshold) else above
    return chosen


def _threshold(target: NDArray[np.generic], score: NDArray[np.generic], rule: str, at_least: float) -> float:
    """The threshold of one finding, infinite for "no image is positive"."""
    if rule == "f1":
        precision, recall, thresholds = precision_recall_curve(target, score)
        return float(thresholds[np.argmax(precision * recall / np.maximum(precision + recall, 1e-300))])
    fpr, tpr, thresholds = roc_curve(target, score)
    if rule == "youden":
        place = np.argmax(np.round(tpr - fpr, 12))  # equal fractions may differ in the last bit
    elif rule == "sensitivity":
        place = np.argmax(tpr >= at_least)
    else:
        kept = np.flatnonzero(np.round(1 - fpr, 12) >= at_least)  # in floating point 1 - 0.8 is slightly below 0.2
        place = np.argmax(tpr == tpr[kept[-1]])
    return float(thresholds[place])


def confusion(target: ArrayLike, score: ArrayLike, threshold: ArrayLike) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Which images are true and false positives, and true and false negatives.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (counted nowhere).
        score: (N, L).
        threshold: (L,) or one for all; a score at or above it is positive. The finding of a NaN is counted nowhere.

    Returns:
        Four (N, L) float64 of 0 and 1.
    """
    targets, scores = cells(target, score)
    limits = np.asarray(threshold, np.float64)
    if limits.shape not in ((), (targets.shape[1],)):
        raise ValueError(f"threshold {limits.shape} must be one number or one for each of {targets.shape[1]} findings")
    if ((scores != scores) & (targets == targets)).any():
        raise ValueError("a score is NaN; a threshold needs numbers")
    above, below = scores >= limits, scores < limits
    pairs = ((targets == 1, above), (targets == 0, above), (targets == 0, below), (targets == 1, below))
    true_positive, false_positive, true_negative, false_negative = ((a & b).astype(np.float64) for a, b in pairs)
    return true_positive, false_positive, true_negative, false_negative


def rates_of(tp: _Floats, fp: _Floats, tn: _Floats, fn: _Floats) -> dict[str, _Floats]:
    """Rates from counts of any one shape; NaN where a denominator is 0.

    Returns:
        `accuracy`, `sensitivity`, `specificity`, `ppv` and `npv` (positive and negative predictive value), `f1`, and
        `mcc` (Matthews 1975).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": (tp + tn) / (tp + fp + tn + fn),
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
        }


def rates(target: ArrayLike, score: ArrayLike, threshold: ArrayLike) -> dict[str, _Floats]:
    """Accuracy, sensitivity, specificity, PPV, NPV, F1 and MCC of every finding at its threshold.

    Args:
        target, score, threshold: as for `confusion`.

    Returns:
        The names of `rates_of` to (L,) float64; NaN where undefined.
    """
    return rates_of(*(count.sum(axis=0) for count in confusion(target, score, threshold)))

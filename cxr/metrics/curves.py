"""ROC and precision-recall curves; every distinct score is a threshold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def roc_curve(target: ArrayLike, score: ArrayLike) -> _Curve:
    """False and true positive rate at every threshold of one finding.

    Args:
        target: (N,), 1 present, 0 absent, NaN unknown (left out).
        score: (N,).

    Returns:
        `fpr`, `tpr` and `thresholds`, each (T + 1,) float64 for T distinct scores: from (0, 0) at an infinite
        threshold to (1, 1) at the smallest score. Equal scores make one step, so the trapezoidal rule gives the exact
        AUROC.
        Rates are NaN where a class is empty.
    """
    true, false, thresholds = _steps(target, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        return false / false[-1], true / true[-1], thresholds


def precision_recall_curve(target: ArrayLike, score: ArrayLike) -> _Curve:
    """Precision and recall at every threshold of one finding.

    Args:
        target: (N,), 1 present, 0 absent, NaN unknown (left out).
        score: (N,).

    Returns:
        `precision`, `recall` and `thresholds`, each (T + 1,) float64 for T distinct scores, ordered as by `roc_curve`:
        from precision 1 and recall 0 at an infinite threshold, by convention, to all images positive at the smallest
        score. Steps in recall times precision sum to the average precision. Recall is NaN where there is no
        positive.
    """
    true, false, thresholds = _steps(target, score)
    precision = np.append(1.0, true[1:] / (true + false)[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        return precision, true / true[-1], thresholds


def _steps(target: ArrayLike, score: ArrayLike) -> _Curve:
    """Numbers of true and of false positives at infinity and at every distinct score, from the highest down."""
    targets, scores = np.asarray(target, np.float64), np.asarray(score, np.float64)
    known = ~np.isnan(targets)
    targets, scores = targets[known], scores[known]
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; a curve needs numbers")
    order = np.argsort(-scores, kind="stable")
    targets, scores = targets[order], scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.array([], int)
    true, false = np.cumsum(targets)[last], np.cumsum(1 - targets)[last]
    return np.append(0.0, true), np.append(0.0, false), np.append(np.inf, scores[last])

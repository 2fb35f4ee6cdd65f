"""ROC curves with every distinct score as a threshold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def roc_curve(
    target: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rate at every threshold of one finding.

    Args:
        target: (N,), 1 present, 0 absent, NaN unknown (left out).
        score: (N,).

    Returns:
        `fpr`, `tpr` and `thresholds`, each (T + 1,) float64 for T distinct scores: from (0, 0) at an infinite
        threshold to (1, 1) at the smallest score. Equal scores make one step, so that trapezoids give the exact AUROC.
        Rates are NaN where a class is empty.
    """
    targets, scores = np.asarray(target, np.float64), np.asarray(score, np.float64)
    known = ~np.isnan(targets)
    targets, scores = targets[known], scores[known]
    order = np.argsort(-scores, kind="stable")
    targets, scores = targets[order], scores[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.array([], int)
    true, false = np.cumsum(targets)[last], np.cumsum(1 - targets)[last]
    with np.errstate(invalid="ignore", divide="ignore"):
        tpr = np.append(0.0, true) / (targets == 1).sum()
        fpr = np.append(0.0, false) / (targets == 0).sum()
    return fpr, tpr, np.append(np.inf, scores[last])

"""Metrics of findings that exclude each other: an image is called by its highest score."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells


def balanced_accuracy(target: ArrayLike, score: ArrayLike) -> float:
    """The mean over findings of the share of their images that are called right; those without an image are left out.

    Args:
        target: (N, L), 1 for the image's finding, else 0; an image with NaN is left out.
        score: (N, L), larger means more likely; of equal ones the first is called.

    Returns:
        NaN without an image.

    Raises:
        ValueError: shapes, or an image without exactly one finding.
    """
    truth, called, findings = _calls(target, score)
    counts = np.bincount(truth, minlength=findings)
    right = np.bincount(truth[truth == called], minlength=findings)
    has = counts > 0
    return float((right[has] / counts[has]).mean()) if has.any() else float("nan")


def top1_accuracy(target: ArrayLike, score: ArrayLike) -> float:
    """The share of images that are called right; arguments, result and errors as for `balanced_accuracy`."""
    truth, called, _ = _calls(target, score)
    return float((truth == called).mean()) if len(truth) else float("nan")


def _calls(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Of each image its finding and the one that is called, and the number of findings."""
    targets, scores = cells(target, score)
    known = ~np.isnan(targets).any(axis=1)
    targets, scores = targets[known], scores[known]
    if ((targets == 1).sum(axis=1) != 1).any():
        raise ValueError("an image has no finding, or several; these metrics need exactly one")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; accuracy needs numbers")
    return targets.argmax(axis=1), scores.argmax(axis=1), targets.shape[1]

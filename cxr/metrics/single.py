"""Accuracy of mutually exclusive findings: an image is assigned the finding with the highest score."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells


def balanced_accuracy(target: ArrayLike, score: ArrayLike) -> float:
    """The mean recall over the findings that have an image.

    Args:
        target: (N, L), 1 for the image's finding, else 0; an image with NaN is left out.
        score: (N, L), larger means more likely; of equal scores the first is taken.

    Returns:
        NaN without an image.

    Raises:
        ValueError: shapes, or an image without exactly one finding.
    """
    truth, assigned = _classes(target, score)
    recalls = [(assigned[truth == finding] == finding).mean() for finding in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else float("nan")


def top1_accuracy(target: ArrayLike, score: ArrayLike) -> float:
    """The share of images that are assigned the right finding; otherwise as `balanced_accuracy`."""
    truth, assigned = _classes(target, score)
    return float((truth == assigned).mean()) if len(truth) else float("nan")


def _classes(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number of each image's finding and of the one it is assigned."""
    targets, scores = cells(target, score)
    known = ~np.isnan(targets).any(axis=1)
    targets, scores = targets[known], scores[known]
    if ((targets == 1).sum(axis=1) != 1).any():
        raise ValueError("an image has no finding, or several; these metrics need exactly one")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; accuracy needs numbers")
    return targets.argmax(axis=1), scores.argmax(axis=1)

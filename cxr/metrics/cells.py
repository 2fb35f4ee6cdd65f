"""Checks of what every metric reads: (N, L) targets of 1, 0 or NaN for unknown, and (N, L) scores.

A metric raises the ValueErrors of these checks; its docstring names further ones only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cells(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays, after a check of the shapes and of the targets.

    Raises:
        ValueError: shapes that differ or are not (N, L), or a target other than 0, 1 and NaN.
    """
    targets, scores = np.asarray(target), np.asarray(score)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"target {targets.shape} and score {scores.shape} must both be (N, L)")
    invalid = ~((targets == 0) | (targets == 1) | (targets != targets))
    if invalid.any():
        raise ValueError(f"a target is {targets[invalid][0]}; it must be 0, 1 or NaN for unknown")
    return targets, scores


def probabilities(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """As `cells`, for metrics that interpret the score as a probability.

    Raises:
        ValueError: as `cells`, or a score of a known target that is not in [0, 1].
    """
    targets, scores = cells(target, score)
    invalid = (targets == targets) & ~((scores >= 0) & (scores <= 1))
    if invalid.any():
        raise ValueError(f"a score is {scores[invalid][0]}; it must be a probability in [0, 1], not a logit")
    return targets, scores.astype(np.float64)


def patient_numbers(patient: ArrayLike, images: int) -> tuple[NDArray[np.intp], int]:
    """The patient of every image as a number from 0, and how many patients there are.

    Args:
        patient: (N,), ids of any kind that sorts.
        images: N.

    Raises:
        ValueError: not one id for each image, or no image.
    """
    ids = np.asarray(patient)
    if ids.shape != (images,) or not images:
        raise ValueError(f"patient {ids.shape} must have one id for each of {images} images, at least one")
    names, number = np.unique(ids, return_inverse=True)
    return number.astype(np.intp), len(names)


def undefined(values: ArrayLike, findings: Sequence[str]) -> list[str]:
    """Names of the findings with the value NaN, which a mean omits."""
    return [name for name, value in zip(findings, np.asarray(values, np.float64), strict=True) if np.isnan(value)]

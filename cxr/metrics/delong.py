"""Variance of the AUROC without resampling, for images that are independent; where patients repeat, use the bootstrap.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); the fast form by ranks is that of Sun and Xu, IEEE Signal
Processing Letters 21 (2014).
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells, patient_numbers
from cxr.metrics.patients import enough

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """AUROC with its variance and interval; arrays are (L,), NaN where undefined.

    Attributes:
        value: AUROC.
        variance: NaN with fewer than two positives or two negatives.
        low, high: bounds on the logit scale (Pepe 2003, section 5.2.5); NaN where the variance is 0 or undefined, or
            positive or negative patients are too few.
    """

    value: _Floats
    variance: _Floats
    low: _Floats
    high: _Floats


@dataclass(frozen=True)
class DeLongTest:
    """Two scores on the same images; arrays are (L,), NaN where undefined.

    Attributes:
        difference: AUROC of the first minus that of the second.
        variance: of the difference.
        p: two-sided; 1 where the two never differ.
    """

    difference: _Floats
    variance: _Floats
    p: _Floats


def delong(target: ArrayLike, score: ArrayLike, level: float = 0.95, patient: ArrayLike | None = None) -> DeLong:
    """AUROC, variance and interval of every finding.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), larger means more likely.
        level: nominal coverage, in (0, 1).
        patient: (N,), the patient's id of every image; intervals need enough patients of each class.
            Without it, each image counts as a patient.

    Raises:
        ValueError: shapes, targets or scores as for `auroc`.
    """
    targets, scores = cells(target, score)
    parts = [_moments(*_placements(t, s)) for t, s in zip(targets.T, scores.T, strict=True)]
    value, variance = np.array(parts, np.float64).reshape(-1, 2).T
    number, patients = np.arange(len(targets)), len(targets)
    if patient is not None:
        number, patients = patient_numbers(patient, len(targets))
    bounded = (variance > 0) & enough(targets, number, patients)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance) / (value * (1 - value))
        centre = np.where(bounded, np.log(value / (1 - value)), np.nan)
        return DeLong(value, variance, 1 / (1 + np.exp(reach - centre)), 1 / (1 + np.exp(-reach - centre)))


def delong_test(target: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLongTest:
    """Whether two scores of the same images have the same AUROC, finding by finding.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        first, second: (N, L) scores.

    Raises:
        ValueError: shapes, targets or scores as for `auroc`.
    """
    targets, scores = cells(target, first)
    _, others = cells(target, second)
    parts = []
    for t, a, b in zip(targets.T, scores.T, others.T, strict=True):
        ours, theirs = _placements(t, a), _placements(t, b)
        parts.append(_moments(ours[0] - theirs[0], ours[1] - theirs[1]))
    difference, variance = np.array(parts, np.float64).reshape(-1, 2).T
    p = [_two_sided(d, v) for d, v in zip(difference, variance, strict=True)]
    return DeLongTest(difference, variance, np.array(p))


def _placements(target: NDArray[Any], score: NDArray[Any]) -> tuple[_Floats, _Floats]:
    """Of each positive the share of negatives below it, and of each negative that of positives above; ties half."""
    positive, negative = score[target == 1], score[target == 0]
    if np.isnan(positive).any() or np.isnan(negative).any():
        raise ValueError("a score is NaN; AUROC needs numbers")
    return _share_below(positive, negative), 1 - _share_below(negative, positive)


def _share_below(score: NDArray[Any], other: NDArray[Any]) -> _Floats:
    ranked = np.sort(other)
    twice = np.searchsorted(ranked, score, "left") + np.searchsorted(ranked, score, "right")
    return twice / (2.0 * max(len(other), 1))


def _moments(positive: _Floats, negative: _Floats) -> tuple[float, float]:
    """Mean and variance from the placements of both classes."""
    if not len(positive) or not len(negative):
        return float("nan"), float("nan")
    if min(len(positive), len(negative)) < 2:
        return float(positive.mean()), float("nan")
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    return float(positive.mean()), float(variance)


def _two_sided(difference: float, variance: float) -> float:
    if np.isnan(variance) or variance == 0:
        return 1.0 if difference == 0 == variance else float("nan")
    return 2 * NormalDist().cdf(-abs(difference) / float(np.sqrt(variance)))

"""Variance of the AUROC without resampling, for independent images; where patients repeat, use the bootstrap.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), computed from ranks as in Sun and Xu, IEEE Signal Processing
Letters 21 (2014).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri

from cxr.metrics.cells import cells, patient_numbers
from cxr.metrics.patients import enough
from cxr.metrics.ranking import Ranking

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """AUROC with its variance and interval; arrays are (L,), NaN where undefined.

    Attributes:
        value: AUROC.
        variance: NaN with fewer than two positives or two negatives.
        low, high: bounds on the logit scale (Pepe 2003, section 5.2.5); NaN where the variance is 0 or undefined, or
            there are too few positive or negative patients.
    """

    value: _Floats
    variance: _Floats
    low: _Floats
    high: _Floats


def delong(target: ArrayLike, score: ArrayLike, level: float = 0.95, patient: ArrayLike | None = None) -> DeLong:
    """AUROC, variance and interval of every finding.

    Args:
        target, score: as for `auroc`.
        level: nominal coverage, in (0, 1).
        patient: (N,), the patient's id of every image; an interval needs enough patients of each class.
            Without it, each image counts as a patient.
    """
    targets, scores = cells(target, score)
    moments = [_moments(Ranking(t, s), Ranking(1 - t, s)) for t, s in zip(targets.T, scores.T, strict=True)]
    value, variance = np.array(moments, np.float64).reshape(-1, 2).T
    number, patients = np.arange(len(targets)), len(targets)
    if patient is not None:
        number, patients = patient_numbers(patient, len(targets))
    bounded = (variance > 0) & enough(targets, number, patients)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = ndtri((1 + level) / 2) * np.sqrt(variance) / (value * (1 - value))
    centre = np.where(bounded, logit(value), np.nan)
    return DeLong(value, variance, expit(centre - reach), expit(centre + reach))


def _moments(ranking: Ranking, swapped: Ranking) -> tuple[float, float]:
    """AUROC and its variance, from the rankings of the finding and of its absence."""
    value = float(ranking.auroc()[0])
    if min(ranking.positives, ranking.negatives) < 2:
        return value, float("nan")
    # Of each positive the share of negatives that score lower, and the same of each negative among the positives.
    shares = [(one.below + one.not_above) / (2 * one.negatives) for one in (ranking, swapped)]
    return value, float(sum(share.var(ddof=1) / len(share) for share in shares))

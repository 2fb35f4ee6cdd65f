"""Compares two models on the same images: differences with intervals and p-values from the same patient resamples."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.bootstrap import RANK_METRICS, Bootstrap, rank_metric, resampled
from cxr.metrics.cells import patient_numbers
from cxr.metrics.interval import DEFAULT, DIFFERENCE, Resampling, p_value
from cxr.metrics.patients import enough

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """First model minus second.

    Attributes:
        difference: intervals of every finding, (L,), and of the means, (); the resamples are kept.
        p: (L,), two-sided, of every finding; NaN where undefined or where patients are too few for an interval; 1 where
            no resample differs.
        p_holm: (L,), the same corrected for testing several findings (Holm 1979).
        p_macro: two-sided, of the mean over the findings with enough patients (`difference.supported`), uncorrected.
    """

    difference: Bootstrap
    p: _Floats
    p_holm: _Floats
    p_macro: float


def compare(
    target: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patient: ArrayLike,
    metric: str = "auroc",
    plan: Resampling = DEFAULT,
) -> Comparison:
    """Compares two score matrices on the same resamples of patients.

    The p-value belongs to the interval: a 95% interval excludes 0 exactly where p < 0.05. It is computed from the
    standard deviation of the resamples on Fisher's z scale and not by counting them, so it can be below 1 / R.

    Args:
        target, patient, plan: as for `bootstrap_auroc`.
        first, second: (N, L) scores on the same images, larger means more likely.
        metric: `auroc` or `average_precision`.

    Raises:
        CxrError: another metric.
    """
    if metric not in RANK_METRICS:
        raise CxrError(f"metric {metric!r} cannot be compared; choose one of {', '.join(RANK_METRICS)}")
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    a, b = (rank_metric(metric, target, score, number) for score in (first, second))
    sufficient = enough(target, number, patients)
    plan = replace(plan, keep=True)
    found = resampled(lambda times: a(times) - b(times), patients, sufficient, plan, DIFFERENCE)
    p = np.where(found.enough, p_value(found.findings), np.nan)
    return Comparison(found, p, holm(p), float(p_value(found.supported)))


def holm(p: ArrayLike) -> _Floats:
    """Corrects p-values for the family-wise error rate (Holm, Scandinavian Journal of Statistics 6, 1979).

    Args:
        p: (L,); NaN (no test) stays NaN.

    Returns:
        (L,) float64: in ascending order the p-values times the number of tests left, never falling, at most 1.
    """
    values = np.asarray(p, np.float64)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    left = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * left), 1.0)
    return corrected

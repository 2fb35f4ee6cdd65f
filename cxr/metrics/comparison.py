"""Two models on the same images: differences with intervals and p-values from the same patient resamples."""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.bootstrap import Bootstrap, Draws, resampled
from cxr.metrics.cells import patient_numbers
from cxr.metrics.interval import USUAL, Interval, Resampling, scale
from cxr.metrics.patients import enough
from cxr.metrics.ranking import Ranking

_Floats = NDArray[np.float64]
METRICS = ("auroc", "average_precision")
_RANGE = (-1.0, 1.0)


@dataclass(frozen=True)
class Comparison:
    """First model minus second.

    Attributes:
        difference: intervals of every finding, (L,), and of the means, (); the resamples are kept.
        p: (L,), two-sided, of every finding; NaN where undefined or where patients are too few for an interval; 1 where
            no resample differs.
        p_holm: (L,), the same corrected for looking at several findings (Holm 1979).
        p_macro: two-sided, of the mean over the findings with patients enough (`difference.supported`); one question,
            so no correction.
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
    plan: Resampling = USUAL,
) -> Comparison:
    """Compares two score matrices; every resample of patients judges both.

    The p-value belongs to the interval: a 95% interval leaves out 0 exactly where p < 0.05. It comes from the spread of
    the resamples on Fisher's z scale and not from counting them, so it can be smaller than one in R.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        first, second: (N, L) scores on the same images, larger means more likely.
        patient: (N,), the patient's id of every image.
        metric: `auroc` or `average_precision`.
        plan: how to resample.

    Raises:
        CxrError: another metric.
        ValueError: shapes, targets or scores as for `auroc`.
    """
    if metric not in METRICS:
        raise CxrError(f"metric {metric!r} cannot be compared; known are {', '.join(METRICS)}")
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    ours, theirs = (getattr(Ranking.of(target, score, number), metric) for score in (first, second))

    def difference(times: Draws) -> _Floats:
        return ours(times) - theirs(times)

    found = resampled(difference, patients, enough(target, number, patients), replace(plan, keep=True), _RANGE)
    p = np.where(found.enough, _p_values(found.findings), np.nan)
    return Comparison(found, p, holm(p), float(_p_values(found.supported)[0]))


def holm(p: ArrayLike) -> _Floats:
    """Corrects p-values so that any false finding at all has the nominal chance (Holm, Scand. J. Stat. 6, 1979).

    Args:
        p: (L,); NaN is no test and stays NaN.

    Returns:
        (L,) float64: in ascending order the p-values times how many are left, never falling, at most 1.
    """
    values = np.asarray(p, np.float64)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    left = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * left), 1.0)
    return corrected


def _p_values(difference: Interval) -> _Floats:
    assert difference.resamples is not None
    columns = difference.resamples.reshape(len(difference.resamples), -1).T
    return np.array([_p_value(float(v), r[~np.isnan(r)]) for v, r in zip(difference.value.flat, columns, strict=True)])


def _p_value(value: float, resamples: _Floats) -> float:
    if value == 0 and len(resamples) and not resamples.any():
        return 1.0
    centre, spread = scale(value, resamples, _RANGE)
    return 2 * NormalDist().cdf(-abs(centre) / spread) if spread > 0 else float("nan")

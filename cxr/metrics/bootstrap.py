"""Intervals from resampled patients: all images of a patient are drawn together, as often as the patient is drawn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import patient_numbers
from cxr.metrics.interval import UNIT, USUAL, Interval, Resampling, interval
from cxr.metrics.patients import FEWEST, enough, per_patient
from cxr.metrics.ranking import Ranking
from cxr.metrics.thresholds import confusion, rates_of

Draws = NDArray[np.int64]
_Floats = NDArray[np.float64]
_DRAWN = 1 << 20  # patients drawn at a time, over all resamples of a chunk: 8 MB


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of every finding and of their mean.

    Attributes:
        findings: of shape (L,).
        macro: of shape (), the mean over the findings defined in the data; resamples in which one of those is undefined
            are left out, for they would be means of something else. Without bounds where one of them has too few
            patients for a mean.
        supported: of shape (), the mean over the other defined findings: NaN if there is none, `macro` if that is all.
        enough: (L,), which findings have patients enough for an interval.
    """

    findings: Interval
    macro: Interval
    supported: Interval
    enough: NDArray[np.bool_]


def draws(patients: int, resamples: int, seed: int) -> Iterator[Draws]:
    """Draws `patients` patients with replacement, again and again.

    Args:
        patients: P.
        resamples: R.
        seed: the same seed gives the same resamples.

    Yields:
        (r, P) int64, how often each resample has each patient; a few resamples at a time, R in all.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN // patients)
    for begin in range(0, resamples, step):
        times = np.empty((min(step, resamples - begin), patients), np.int64)
        for row in times:
            row[:] = np.bincount(rng.integers(patients, size=patients), minlength=patients)
        yield times


def bootstrap(
    metric: Callable[[NDArray[np.int64]], ArrayLike],
    patient: ArrayLike,
    plan: Resampling = USUAL,
    bounds: tuple[float, float] = UNIT,
) -> Interval:
    """Interval of any metric that takes weights; one call of it a resample. Whether patients are enough is not asked.

    Args:
        metric: from (N,) int64, how often each image counts, to a value of any one shape, NaN where undefined.
        patient: (N,), the patient's id of every image.
        plan: how to resample.
        bounds: the metric's range.

    Raises:
        ValueError: no image.
    """
    number, patients = patient_numbers(patient, len(np.asarray(patient)))
    value = np.asarray(metric(np.ones(len(number), np.int64)), np.float64)
    drawn = [metric(row[number]) for times in draws(patients, plan.resamples, plan.seed) for row in times]
    return interval(value, np.array(drawn, np.float64).reshape(-1, *value.shape), plan, bounds)


def bootstrap_auroc(target: ArrayLike, score: ArrayLike, patient: ArrayLike, plan: Resampling = USUAL) -> Bootstrap:
    """Intervals of the exact AUROC of every finding and of the macro AUROC.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), larger means more likely.
        patient: (N,), the patient's id of every image.
        plan: how to resample.

    Raises:
        ValueError: shapes, targets or scores as for `auroc`, or no image.
    """
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    return resampled(Ranking.of(target, score, number).auroc, patients, enough(target, number, patients), plan)


def bootstrap_average_precision(
    target: ArrayLike, score: ArrayLike, patient: ArrayLike, plan: Resampling = USUAL
) -> Bootstrap:
    """Intervals of the average precision of every finding and of its mean; all else as for `bootstrap_auroc`."""
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    metric = Ranking.of(target, score, number).average_precision
    return resampled(metric, patients, enough(target, number, patients), plan)


def bootstrap_rates(
    target: ArrayLike, score: ArrayLike, threshold: ArrayLike, patient: ArrayLike, plan: Resampling = USUAL
) -> dict[str, Bootstrap]:
    """Intervals of accuracy, sensitivity and the others of `rates` at thresholds that stay fixed.

    Sensitivity needs `FEWEST` positive patients and specificity negative ones, since they see no others; every other
    rate needs both, for it counts errors of both classes: with two positive patients, the PPV, the NPV and, at a
    threshold that calls nobody, the accuracy rest on these two. In a mean over findings, the accuracy of a rare one
    varies less than that of the others, so there it only needs `FEWEST` patients.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L).
        threshold: (L,) or one for all; a score of at least this says present.
        patient: (N,), the patient's id of every image.
        plan: how to resample.

    Returns:
        The names of `rates_of` to intervals.
    """
    marks = np.concatenate(confusion(target, score, threshold), axis=1)
    number, patients = patient_numbers(patient, len(marks))
    counts = per_patient(marks, number, patients)
    value = rates_of(*np.split(marks.sum(axis=0), 4))
    drawn = rates_of(*np.split(_drawn(lambda times: times @ counts, patients, plan), 4, axis=1))
    tp, fp, tn, fn = np.split(counts, 4, axis=1)
    positive, negative, known = (
        (some > 0).sum(axis=0) >= FEWEST for some in (tp + fn, fp + tn, tp + fp + tn + fn)
    )  # fmt: skip
    needed = {"sensitivity": positive, "specificity": negative}
    found = {}
    for name, values in value.items():
        few = needed.get(name, positive & negative)
        bounds = (-1.0, 1.0) if name == "mcc" else UNIT
        found[name] = _with_mean(values, drawn[name], few, known if name == "accuracy" else few, plan, bounds)
    return found


def bootstrap_mean(
    values: ArrayLike,
    patient: ArrayLike,
    plan: Resampling = USUAL,
    bounds: tuple[float, float] = UNIT,
    target: ArrayLike | None = None,
) -> Bootstrap:
    """Intervals of means over images, such as squared errors (Brier) or hits of the pointing game.

    Args:
        values: (N, L); NaN is left out.
        patient: (N,), the patient's id of every image.
        plan: how to resample.
        bounds: the metric's range.
        target: (N, L), where the values are errors: then a finding needs patients enough of both classes, since the
            mean error of a rare finding is mostly that of its positives. In the mean over findings, and without
            `target`, patients with a value must be enough.
    """
    array = np.asarray(values, np.float64)
    number, patients = patient_numbers(patient, len(array))
    counts = per_patient(~np.isnan(array), number, patients)
    sums = per_patient(np.nan_to_num(array), number, patients)

    def mean(times: Draws) -> _Floats:
        with np.errstate(invalid="ignore"):
            return (times @ sums) / (times @ counts)

    known = (counts > 0).sum(axis=0) >= FEWEST
    few = known if target is None else enough(target, number, patients)
    return resampled(mean, patients, few, plan, bounds, in_mean=known)


def resampled(
    metric: Callable[[Draws], _Floats],
    patients: int,
    enough: NDArray[np.bool_],
    plan: Resampling = USUAL,
    bounds: tuple[float, float] = UNIT,
    in_mean: NDArray[np.bool_] | None = None,
) -> Bootstrap:
    """Intervals of a metric that judges many resamples at once.

    Args:
        metric: from (r, P) counts of patients to (r, L) values, NaN where undefined.
        patients: P.
        enough: (L,), which findings have patients enough for an interval, see `enough`.
        plan: how to resample.
        bounds: the metric's range.
        in_mean: (L,), which have enough for the interval of a mean over findings; by default the same.
    """
    value = metric(np.ones((1, patients), np.int64))[0]
    drawn = _drawn(metric, patients, plan)
    return _with_mean(value, drawn, enough, enough if in_mean is None else in_mean, plan, bounds)


def _drawn(metric: Callable[[Draws], _Floats], patients: int, plan: Resampling) -> _Floats:
    return np.concatenate([metric(times) for times in draws(patients, plan.resamples, plan.seed)])


def _with_mean(
    value: _Floats,
    drawn: _Floats,
    enough: NDArray[np.bool_],
    in_mean: NDArray[np.bool_],
    plan: Resampling,
    bounds: tuple[float, float],
) -> Bootstrap:
    defined = ~np.isnan(value)
    macro = supported = _mean(value, drawn, defined, plan, bounds)
    if not in_mean[defined].all():
        macro = _bounded(macro, np.asarray(False))
        supported = _mean(value, drawn, defined & in_mean, plan, bounds)
    return Bootstrap(_bounded(interval(value, drawn, plan, bounds), enough), macro, supported, enough)


def _mean(
    value: _Floats, drawn: _Floats, some: NDArray[np.bool_], plan: Resampling, bounds: tuple[float, float]
) -> Interval:
    mean, means = np.float64("nan"), np.full(len(drawn), np.nan)
    if some.any():
        mean, means = value[some].mean(), drawn[:, some].mean(axis=1)
    return interval(mean, means, plan, bounds)


def _bounded(found: Interval, where: NDArray[np.bool_]) -> Interval:
    """Without bounds elsewhere."""
    return replace(found, low=np.where(where, found.low, np.nan), high=np.where(where, found.high, np.nan))

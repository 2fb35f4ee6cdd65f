"""Confidence intervals from resampled patients: a patient's images are drawn together, as often as the patient is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import cells, patient_numbers
from cxr.metrics.interval import DEFAULT, DIFFERENCE, UNIT, Interval, Resampling, interval
from cxr.metrics.patients import FEWEST, enough, per_patient
from cxr.metrics.ranking import Ranking
from cxr.metrics.thresholds import confusion, rates_of

Draws = NDArray[np.int32]
_Floats = NDArray[np.float64]
_DRAWN = 1 << 20  # patients drawn at a time, over the resamples of a chunk: 4 MB
RANK_METRICS = {"auroc": Ranking.auroc, "average_precision": Ranking.average_precision}


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of every finding and of their mean.

    Attributes:
        findings: of shape (L,).
        macro: of shape (), the mean over the findings that are defined in the data. Resamples in which one of them is
            undefined are left out. No bounds if one of the findings has too few patients for a mean.
        supported: of shape (), the mean over the defined findings with enough patients; NaN if there is none, and
            `macro` itself if all have enough.
        enough: (L,), which findings have enough patients for an interval.
    """

    findings: Interval
    macro: Interval
    supported: Interval
    enough: NDArray[np.bool_]


def draws(patients: int, resamples: int, seed: int) -> Iterator[Draws]:
    """Draws `patients` patients with replacement, `resamples` times.

    Args:
        patients: P.
        resamples: R.
        seed: the same seed gives the same resamples.

    Yields:
        (r, P) int32, how often each resample has each patient; a few resamples at a time, R in all.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN // patients)
    for begin in range(0, resamples, step):
        times = np.empty((min(step, resamples - begin), patients), np.int32)
        for row in times:
            row[:] = np.bincount(rng.integers(patients, size=patients), minlength=patients)
        yield times


def bootstrap_auroc(target: ArrayLike, score: ArrayLike, patient: ArrayLike, plan: Resampling = DEFAULT) -> Bootstrap:
    """Intervals of the exact AUROC of every finding and of the macro AUROC.

    Args:
        target, score: as for `auroc`.
        patient: (N,), the patient's id of every image.
    """
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    return resampled(rank_metric("auroc", target, score, number), patients, enough(target, number, patients), plan)


def bootstrap_average_precision(
    target: ArrayLike, score: ArrayLike, patient: ArrayLike, plan: Resampling = DEFAULT
) -> Bootstrap:
    """Intervals of the average precision of every finding and of its mean; otherwise as `bootstrap_auroc`."""
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    metric = rank_metric("average_precision", target, score, number)
    return resampled(metric, patients, enough(target, number, patients), plan)


def bootstrap_rates(
    target: ArrayLike, score: ArrayLike, threshold: ArrayLike, patient: ArrayLike, plan: Resampling = DEFAULT
) -> dict[str, Bootstrap]:
    """Intervals of accuracy, sensitivity and the other `rates` at fixed thresholds.

    Sensitivity needs `FEWEST` positive patients and specificity as many negative ones. Every other rate depends on both
    classes and needs both: with two positive patients, the PPV, the NPV and, at a threshold that no score reaches, the
    accuracy depend on these two. The mean accuracy over findings varies little with a rare finding, so there a finding
    needs only `FEWEST` patients of any class.

    Args:
        target, score, threshold: as for `rates`.
        patient: (N,), the patient's id of every image.

    Returns:
        The names of `rates_of` to intervals.
    """
    outcomes = np.concatenate(confusion(target, score, threshold), axis=1)
    number, patients = patient_numbers(patient, len(outcomes))
    counts = per_patient(outcomes, number, patients)
    value = rates_of(*np.split(outcomes.sum(axis=0), 4))
    drawn = rates_of(*np.split(_all_draws(lambda times: times @ counts, patients, plan), 4, axis=1))
    tp, fp, tn, fn = np.split(counts, 4, axis=1)
    positive, negative, known = (
        (some > 0).sum(axis=0) >= FEWEST for some in (tp + fn, fp + tn, tp + fp + tn + fn)
    )  # fmt: skip
    needed = {"sensitivity": positive, "specificity": negative}
    found = {}
    for name, values in value.items():
        sufficient = needed.get(name, positive & negative)
        in_mean = known if name == "accuracy" else sufficient
        bounds = DIFFERENCE if name == "mcc" else UNIT
        found[name] = _with_mean(values, drawn[name], sufficient, in_mean, plan, bounds)
    return found


def bootstrap_mean(
    values: ArrayLike, patient: ArrayLike, plan: Resampling = DEFAULT, target: ArrayLike | None = None
) -> Bootstrap:
    """Intervals of means over images, such as squared errors (Brier score) or hits of the pointing game.

    Args:
        values: (N, L), within [0, 1]; NaN is left out.
        patient: (N,), the patient's id of every image.
        target: (N, L), if the values are errors: a finding then needs enough patients of both classes, since the
            mean error of a rare finding is mostly that of its positives. In the mean over findings, and without
            `target`, a finding needs `FEWEST` patients with a value.
    """
    array = np.asarray(values, np.float64)
    number, patients = patient_numbers(patient, len(array))
    counts = per_patient(~np.isnan(array), number, patients)
    sums = per_patient(np.nan_to_num(array), number, patients)

    def mean(times: Draws) -> _Floats:
        with np.errstate(invalid="ignore"):
            return (times @ sums) / (times @ counts)

    known = (counts > 0).sum(axis=0) >= FEWEST
    sufficient = known if target is None else enough(target, number, patients)
    return resampled(mean, patients, sufficient, plan, in_mean=known)


def rank_metric(name: str, target: ArrayLike, score: ArrayLike, number: NDArray[np.intp]) -> Callable[[Draws], _Floats]:
    """A metric of `RANK_METRICS` as a function of how often each patient counts, (R, P) to (R, L).

    Args:
        name: of the metric.
        target, score: as for `auroc`.
        number: (N,), patient numbers from 0.
    """
    metric = RANK_METRICS[name]
    targets, scores = cells(target, score)
    rankings = [Ranking(t, s, number) for t, s in zip(targets.T, scores.T, strict=True)]
    return lambda times: np.stack([metric(ranking, times) for ranking in rankings], axis=1)


def resampled(
    metric: Callable[[Draws], _Floats],
    patients: int,
    enough: NDArray[np.bool_],
    plan: Resampling = DEFAULT,
    bounds: tuple[float, float] = UNIT,
    in_mean: NDArray[np.bool_] | None = None,
) -> Bootstrap:
    """Intervals of a metric that is computed for many resamples at once.

    Args:
        metric: from (r, P) counts of patients to (r, L) values, NaN where undefined.
        patients: P.
        enough: (L,), which findings have enough patients for an interval, see `cxr.metrics.patients`.
        bounds: the metric's range.
        in_mean: (L,), which findings have enough for the interval of a mean over findings; by default `enough`.
    """
    value = metric(np.ones((1, patients), np.int32))[0]
    drawn = _all_draws(metric, patients, plan)
    return _with_mean(value, drawn, enough, enough if in_mean is None else in_mean, plan, bounds)


def _all_draws(metric: Callable[[Draws], _Floats], patients: int, plan: Resampling) -> _Floats:
    return np.concatenate([metric(times) for times in draws(patients, plan.resamples, plan.seed)])


def _with_mean(
    value: _Floats,
    drawn: _Floats,
    enough: NDArray[np.bool_],
    in_mean: NDArray[np.bool_],
    plan: Resampling,
    bounds: tuple[float, float],
) -> Bootstrap:
    def mean_of(some: NDArray[np.bool_]) -> Interval:
        if not some.any():
            return interval(np.nan, np.full(len(drawn), np.nan), plan, bounds)
        return interval(value[some].mean(), drawn[:, some].mean(axis=1), plan, bounds)

    defined = ~np.isnan(value)
    macro = supported = mean_of(defined)
    if not in_mean[defined].all():
        macro, supported = _without_bounds(macro, np.asarray(True)), mean_of(defined & in_mean)
    findings = _without_bounds(interval(value, drawn, plan, bounds), ~enough)
    return Bootstrap(findings, macro, supported, enough)


def _without_bounds(found: Interval, where: NDArray[np.bool_]) -> Interval:
    return replace(found, low=np.where(where, np.nan, found.low), high=np.where(where, np.nan, found.high))

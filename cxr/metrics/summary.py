"""The metrics of one split for `metrics.json`, from targets and probabilities alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.auroc import auroc, average_precision, micro_auroc, prevalence_weighted
from cxr.metrics.bootstrap import (
    Bootstrap,
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_mean,
    bootstrap_rates,
)
from cxr.metrics.calibration import bootstrap_calibration_error, brier, expected_calibration_error, squared_error
from cxr.metrics.cells import undefined
from cxr.metrics.interval import Resampling, interval
from cxr.metrics.patients import too_few
from cxr.metrics.plain import intervals_of, number, single, with_mean
from cxr.metrics.thresholds import rates

THRESHOLD = 0.5
# Of each metric the function of values and that of intervals.
_METRICS: dict[str, tuple[Callable[..., NDArray[np.float64]], Callable[..., Bootstrap]]] = {
    "auroc": (auroc, bootstrap_auroc),
    "accuracy": (
        lambda t, s: rates(t, s, THRESHOLD)["accuracy"],
        lambda t, s, p, plan: bootstrap_rates(t, s, THRESHOLD, p, plan)["accuracy"],
    ),
    "average_precision": (average_precision, bootstrap_average_precision),
    "brier": (brier, lambda t, s, p, plan: bootstrap_mean(squared_error(t, s), p, plan, target=t)),
    "ece": (expected_calibration_error, bootstrap_calibration_error),
}


def summarise(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    findings: Sequence[str],
    patient: ArrayLike,
    ci: Resampling | None = None,
) -> dict[str, Any]:
    """The metrics of one split as plain values for JSON, with null where undefined.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        score: (N, L) float32 probabilities, as stored in the predictions.
        findings: L names.
        patient: (N,), the patient's id of every image.
        ci: how to resample patients for intervals: metrics become `{"value": x, "ci": [low, high]}`, except where the
            value is undefined (null) or the interval is (the number alone).

    Returns:
        `auroc` (finding to number or None), `accuracy` (at 0.5), `average_precision`, `brier` and `ece` (15 bins of
        equal width), each with its `macro_` mean; `micro_auroc` and `weighted_auroc`, whose interval takes the share of
        each finding from the data; `n`, `positives`, `unknown`, and `left_out_of_macro_auroc`, the findings without a
        positive or without a negative image. With `ci` also `intervals`, see `intervals_of`.
    """
    area, metrics = auroc(target, score), dict[str, Any]()
    if ci is None:
        for name, (values, _) in _METRICS.items():
            metrics |= with_mean(name, findings, values(target, score))
        metrics["micro_auroc"] = number(micro_auroc(target, score))
        metrics["weighted_auroc"] = number(prevalence_weighted(area, target))
    else:
        plan = replace(ci, keep=True)
        resampled = {name: intervals(target, score, patient, plan) for name, (_, intervals) in _METRICS.items()}
        for name, found in resampled.items():
            metrics |= with_mean(name, findings, found)
        pooled = np.repeat(np.asarray(patient), target.shape[1])
        metrics["micro_auroc"] = single(bootstrap_auroc(target.reshape(-1, 1), score.reshape(-1, 1), pooled, ci).macro)
        metrics["weighted_auroc"] = _weighted_auroc(target, area, resampled["auroc"], ci)
        metrics["intervals"] = intervals_of(ci.resamples, too_few(target, patient, findings), findings, resampled)
    return metrics | {
        "n": len(target),
        "positives": {name: int(count) for name, count in zip(findings, (target == 1).sum(axis=0), strict=True)},
        "unknown": {name: int(count) for name, count in zip(findings, np.isnan(target).sum(axis=0), strict=True)},
        "left_out_of_macro_auroc": undefined(area, findings),
    }


def _weighted_auroc(
    target: NDArray[np.floating], area: NDArray[np.float64], resampled: Bootstrap, ci: Resampling
) -> Any:
    """The prevalence-weighted AUROC, with an interval if all defined findings have enough patients."""
    value, defined = prevalence_weighted(area, target), ~np.isnan(area)
    drawn = resampled.findings.resamples
    if drawn is None or not defined.any() or not resampled.enough[defined].all():
        return number(value)
    share = (target == 1).sum(axis=0)[defined]
    return single(interval(value, drawn[:, defined] @ share / share.sum(), ci))

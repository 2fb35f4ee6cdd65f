"""The metrics of one split for `metrics.json`, from targets and probabilities alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.auroc import auroc, average_precision, macro, micro_auroc, prevalence_weighted
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
from cxr.metrics.plain import intervals_of, named, number, single, with_mean
from cxr.metrics.thresholds import rates

THRESHOLD = 0.5
# Of each metric the function of values and that of intervals; `summarise` adds the second group if `rich`.
_METRICS: dict[str, tuple[Callable[..., NDArray[np.float64]], Callable[..., Bootstrap]]] = {
    "auroc": (auroc, bootstrap_auroc),
    "accuracy": (
        lambda t, s: rates(t, s, THRESHOLD)["accuracy"],
        lambda t, s, p, plan: bootstrap_rates(t, s, THRESHOLD, p, plan)["accuracy"],
    ),
}
_RICH: dict[str, tuple[Callable[..., NDArray[np.float64]], Callable[..., Bootstrap]]] = {
    "average_precision": (average_precision, bootstrap_average_precision),
    "brier": (brier, lambda t, s, p, plan: bootstrap_mean(squared_error(t, s), p, plan, target=t)),
    "ece": (expected_calibration_error, bootstrap_calibration_error),
}


def summarise(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    findings: Sequence[str],
    *,
    rich: bool = False,
    ci: Resampling | None = None,
    patient: ArrayLike | None = None,
) -> dict[str, object]:
    """The metrics of one split as plain values for JSON, with null where undefined.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        score: (N, L) float32 probabilities, as stored in the predictions.
        findings: L names.
        rich: adds average precision, Brier score, calibration error, micro and prevalence-weighted AUROC.
        ci: how to resample patients for intervals: metrics become `{"value": x, "ci": [low, high]}`, except where the
            value is undefined (null) or the interval is (the number alone).
        patient: (N,), the patient's id of every image; needed for `ci` only.

    Returns:
        `macro_auroc`, `auroc` (finding to number or None), `macro_accuracy`, `accuracy` (at 0.5), `n`, `positives`,
        `unknown`, and `left_out_of_macro_auroc`, the findings without a positive or without a negative image. With `ci`
        also `intervals`, see `intervals_of`. If `rich`, also `average_precision`, `brier` and `ece` (15 bins of equal
        width), each with its `macro_` mean, `micro_auroc` and `weighted_auroc`; the interval of the last one takes the
        share of each finding from the data.

    Raises:
        CxrError: `ci` without `patient`.
        ValueError: shapes, targets, scores, or another number of names.
    """
    if ci is not None and patient is None:
        raise CxrError("intervals need the patient of every image; pass patient, or no ci")
    area = auroc(target, score)
    metrics: dict[str, Any] = {}
    resampled: dict[str, Bootstrap] = {}
    for name, (values, intervals) in (_METRICS | (_RICH if rich else {})).items():
        if ci is None:
            found = values(target, score)
            metrics |= {f"macro_{name}": number(macro(found)), name: named(findings, found)}
        else:
            resampled[name] = intervals(target, score, patient, replace(ci, keep=True))
            metrics |= with_mean(name, findings, resampled[name])
    if rich:
        metrics["micro_auroc"] = number(micro_auroc(target, score))
        metrics["weighted_auroc"] = number(prevalence_weighted(area, target))
    if ci is not None and patient is not None:
        if rich:
            pooled = np.repeat(np.asarray(patient), target.shape[1])
            metrics["micro_auroc"] = single(
                bootstrap_auroc(target.reshape(-1, 1), score.reshape(-1, 1), pooled, ci).macro
            )
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

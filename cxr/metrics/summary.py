"""What `metrics.json` says of one split, from targets and probabilities alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.auroc import auroc, average_precision, macro, micro, prevalence_weighted
from cxr.metrics.bootstrap import (
    Bootstrap,
    Interval,
    Resampling,
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_mean,
    bootstrap_rates,
    interval,
)
from cxr.metrics.calibration import (
    bootstrap_calibration_error,
    brier,
    expected_calibration_error,
    squared_error,
)
from cxr.metrics.cells import undefined
from cxr.metrics.plain import named, number, single

THRESHOLD = 0.5


def accuracy(target: NDArray[np.floating], score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Binary accuracy of every finding at 0.5 (a score of 0.5 says present).

    Args:
        target: (N, L), NaN unknown (left out).
        score: (N, L), probabilities.

    Returns:
        (L,) float64; NaN where nothing is known.
    """
    known = ~np.isnan(target)
    right = ((score >= THRESHOLD) == (target == 1)) & known
    counts = known.sum(axis=0)
    return np.where(counts > 0, right.sum(axis=0) / np.maximum(counts, 1), np.nan)


def summarise(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    findings: Sequence[str],
    *,
    rich: bool = False,
    ci: Resampling | None = None,
    patient: ArrayLike | None = None,
) -> dict[str, object]:
    """The metrics of one split as plain values for JSON, with null for what is undefined.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        score: (N, L) float32 probabilities, as stored in the predictions.
        findings: L names.
        rich: says more: average precision, Brier score, calibration error, micro and prevalence-weighted AUROC.
        ci: how to resample patients for intervals: metrics become `{"value": x, "ci": [low, high]}`, except where the
            value is undefined (null) or the interval is (the number alone).
        patient: (N,), the patient's id of every image; needed for `ci` and for nothing else.

    Returns:
        `macro_auroc`, `auroc` (finding to number or None), `macro_accuracy`, `accuracy`, `n`, `positives`, `unknown`,
        and `left_out_of_macro_auroc`, the findings without a positive or without a negative image. If `rich`, also
        `average_precision`, `brier` and `ece` (15 bins of equal width), each with its `macro_` mean, `micro_auroc` and
        `weighted_auroc`; intervals of the last take the share of each finding as it is in the data.

    Raises:
        CxrError: `ci` without `patient`.
        ValueError: shapes, targets, scores, or another number of names.
    """
    if ci is not None and patient is None:
        raise CxrError("intervals need the patient of every image; pass patient, or no ci")
    area = auroc(target, score)
    metrics: dict[str, Any] = {}
    for name, (values, intervals) in _metrics(rich).items():
        if ci is None:
            found = area if name == "auroc" else values(target, score)
            _put(metrics, name, macro(found), found, findings)
        else:
            resampled = intervals(target, score, patient, ci)
            _put(metrics, name, resampled.macro, resampled.findings, findings)
    if rich:
        metrics["micro_auroc"], metrics["weighted_auroc"] = _averages(target, score, area, ci, patient)
    return metrics | {
        "n": len(target),
        "positives": {name: int(count) for name, count in zip(findings, (target == 1).sum(axis=0), strict=True)},
        "unknown": {name: int(count) for name, count in zip(findings, np.isnan(target).sum(axis=0), strict=True)},
        "left_out_of_macro_auroc": undefined(area, findings),
    }


def _metrics(rich: bool) -> dict[str, tuple[Callable[..., NDArray[np.float64]], Callable[..., Bootstrap]]]:
    """Of each metric the function of values and that of intervals."""
    plain = {
        "auroc": (auroc, bootstrap_auroc),
        "accuracy": (accuracy, lambda t, s, p, plan: bootstrap_rates(t, s, THRESHOLD, p, plan)["accuracy"]),
    }
    more = {
        "average_precision": (average_precision, bootstrap_average_precision),
        "brier": (brier, lambda t, s, p, plan: bootstrap_mean(squared_error(t, s), p, plan)),
        "ece": (expected_calibration_error, bootstrap_calibration_error),
    }
    return plain | more if rich else plain


def _averages(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    area: NDArray[np.float64],
    ci: Resampling | None,
    patient: ArrayLike | None,
) -> tuple[object, object]:
    """Micro and prevalence-weighted AUROC."""
    weighted = prevalence_weighted(area, target)
    if ci is None or patient is None:
        return _plain(micro(auroc, target, score)), _plain(weighted)
    plan = Resampling(ci.resamples, ci.seed, ci.level, keep=True)
    repeated = np.repeat(np.asarray(patient), target.shape[1])
    pooled = bootstrap_auroc(target.reshape(-1, 1), score.reshape(-1, 1), repeated, plan)
    resamples = bootstrap_auroc(target, score, patient, plan).findings.resamples
    assert resamples is not None
    defined = ~np.isnan(area)
    share = (target == 1).sum(axis=0)[defined]
    spread = resamples[:, defined] @ share / share.sum() if defined.any() else np.full(ci.resamples, np.nan)
    return _plain(pooled.macro), _plain(interval(weighted, spread, ci))


def _put(
    metrics: dict[str, Any],
    name: str,
    mean: float | Interval,
    values: NDArray[np.float64] | Interval,
    findings: Sequence[str],
) -> None:
    """Adds the mean and the value of every finding, plain."""
    metrics[f"macro_{name}"] = _plain(mean)
    metrics[name] = named(findings, values)


def _plain(value: float | Interval) -> object:
    return single(value) if isinstance(value, Interval) else number(value)

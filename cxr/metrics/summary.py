"""What `metrics.json` says of one split, from targets and probabilities alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.auroc import auroc, average_precision, macro, micro, prevalence_weighted
from cxr.metrics.bootstrap import (
    Bootstrap,
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_mean,
    bootstrap_rates,
)
from cxr.metrics.calibration import (
    bootstrap_calibration_error,
    brier,
    expected_calibration_error,
    squared_error,
)
from cxr.metrics.cells import undefined
from cxr.metrics.interval import Resampling, interval
from cxr.metrics.patients import too_few
from cxr.metrics.plain import intervals_of, named, number, single, with_mean

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
        and `left_out_of_macro_auroc`, the findings without a positive or without a negative image. With `ci` also
        `intervals`, see `intervals_of`. If `rich`, also
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
    resampled: dict[str, Bootstrap] = {}
    for name, (values, intervals) in _metrics(rich).items():
        if ci is None:
            found = area if name == "auroc" else values(target, score)
            metrics |= {f"macro_{name}": number(macro(found)), name: named(findings, found)}
        else:
            resampled[name] = intervals(target, score, patient, ci)
            metrics |= with_mean(name, findings, resampled[name])
    if rich:
        metrics["micro_auroc"], metrics["weighted_auroc"] = _averages(target, score, area, ci, patient)
    if ci is not None and patient is not None:
        metrics["intervals"] = intervals_of(ci.resamples, too_few(target, patient, findings), findings, resampled)
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
        "brier": (brier, lambda t, s, p, plan: bootstrap_mean(squared_error(t, s), p, plan, target=t)),
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
        return number(micro(auroc, target, score)), number(weighted)
    plan = Resampling(ci.resamples, ci.seed, ci.level, keep=True)
    repeated = np.repeat(np.asarray(patient), target.shape[1])
    pooled = bootstrap_auroc(target.reshape(-1, 1), score.reshape(-1, 1), repeated, plan)
    single_ones = bootstrap_auroc(target, score, patient, plan)
    resamples = single_ones.findings.resamples
    assert resamples is not None
    defined = ~np.isnan(area)
    share = (target == 1).sum(axis=0)[defined]
    spread = resamples[:, defined] @ share / share.sum() if defined.any() else np.full(ci.resamples, np.nan)
    mean = interval(weighted, spread, ci)
    return single(pooled.macro), single(mean) if single_ones.enough[defined].all() else number(weighted)

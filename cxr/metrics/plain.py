"""Numbers as `metrics.json` has them: a number, `{"value": x, "ci": [low, high]}`, or null where undefined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.auroc import macro
from cxr.metrics.bootstrap import Bootstrap
from cxr.metrics.interval import Interval
from cxr.metrics.patients import FEWEST

OF_SUPPORTED = "_of_supported"


def number(value: float, low: float = float("nan"), high: float = float("nan")) -> Any:
    """A value with its interval, the value without an interval, or None for an undefined value."""
    if not np.isfinite(value):
        return None
    return float(value) if np.isnan(low) or np.isnan(high) else {"value": float(value), "ci": [float(low), float(high)]}


def single(found: Interval) -> Any:
    """An interval of shape ()."""
    return number(float(found.value), float(found.low), float(found.high))


def named(findings: Sequence[str], values: Interval | NDArray[np.float64]) -> dict[str, Any]:
    """Findings to (L,) values, with or without intervals."""
    columns = (values.value, values.low, values.high) if isinstance(values, Interval) else (values,)
    return {name: number(*row) for name, *row in zip(findings, *columns, strict=True)}


def with_mean(name: str, findings: Sequence[str], found: Bootstrap | NDArray[np.float64]) -> dict[str, Any]:
    """A metric of every finding under its name, and its mean as `macro_<name>`, with or without intervals."""
    if not isinstance(found, Bootstrap):
        return {f"macro_{name}": number(macro(found)), name: named(findings, found)}
    return {f"macro_{name}": single(found.macro), name: named(findings, found.findings)}


def intervals_of(
    resamples: int, too_few: Mapping[str, Any], findings: Sequence[str], found: Mapping[str, Bootstrap]
) -> dict[str, Any]:
    """What intervals leave out, for the key `intervals`.

    Args:
        resamples: R.
        too_few: findings with too few patients for an interval, and their patients.
        findings: L names.
        found: metrics by name.

    Returns:
        `resamples`; `fewest_patients` that an interval needs; `too_few_patients`; `undefined_resamples`: for each
        metric and `macro_<metric>` that is defined in the data, how many resamples had no value, by finding; and
        `macro_of_supported`: the mean over the findings with enough patients, of each metric that also has others.
    """
    undefined: dict[str, Any] = {}
    supported: dict[str, Any] = {}
    for name, metric in found.items():
        each = zip(findings, metric.findings.value, metric.findings.undefined, strict=True)
        lost: dict[str, Any] = {finding: int(count) for finding, value, count in each if count and not np.isnan(value)}
        means = {"": metric.macro}
        if metric.supported is not metric.macro:
            means[OF_SUPPORTED], supported[name] = metric.supported, single(metric.supported)
        undefined |= {name: lost} if lost else {}
        for suffix, mean in means.items():
            if mean.undefined and not np.isnan(mean.value):
                undefined[f"macro_{name}{suffix}"] = int(mean.undefined)
    return {
        "resamples": resamples,
        "fewest_patients": FEWEST,
        "too_few_patients": dict(too_few),
        "undefined_resamples": undefined,
        "macro_of_supported": supported,
    }


def value_of(plain: Any) -> float:
    """The value of a number of `metrics.json`, NaN for null."""
    return interval_of(plain)[0]


def interval_of(plain: Any) -> tuple[float, float, float]:
    """Value, low and high of a number of `metrics.json`; NaN if missing."""
    if isinstance(plain, dict):
        low, high = plain["ci"]
        return float(plain["value"]), float(low), float(high)
    return float("nan" if plain is None else plain), float("nan"), float("nan")

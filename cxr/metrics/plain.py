"""Numbers as `metrics.json` has them: a number, `{"value": x, "ci": [low, high]}`, or null for what is undefined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.bootstrap import Bootstrap
from cxr.metrics.interval import Interval
from cxr.metrics.patients import FEWEST

OF_SUPPORTED = "_of_supported"


def number(value: float, low: float = float("nan"), high: float = float("nan")) -> Any:
    """A value with its interval, the value alone where there is no interval, or None where it is undefined."""
    if not np.isfinite(value):
        return None
    return float(value) if np.isnan(low) or np.isnan(high) else {"value": float(value), "ci": [float(low), float(high)]}


def single(found: Interval) -> Any:
    """An interval of shape ()."""
    return number(float(found.value), float(found.low), float(found.high))


def named(findings: Sequence[str], values: Interval | NDArray[np.float64]) -> dict[str, Any]:
    """Findings to (L,) values, with or without intervals."""
    if isinstance(values, Interval):
        each = zip(values.value, values.low, values.high, strict=True)
        return {name: number(*one) for name, one in zip(findings, each, strict=True)}
    return {name: number(float(value)) for name, value in zip(findings, values, strict=True)}


def with_mean(name: str, findings: Sequence[str], found: Bootstrap) -> dict[str, Any]:
    """A metric of every finding under its name, and its mean as `macro_<name>`."""
    return {f"macro_{name}": single(found.macro), name: named(findings, found.findings)}


def intervals_of(
    resamples: int, too_few: Mapping[str, Any], findings: Sequence[str], found: Mapping[str, Bootstrap]
) -> dict[str, Any]:
    """What intervals leave out, for the key `intervals` beside them.

    Args:
        resamples: R.
        too_few: findings to their patients, where these are too few for an interval.
        findings: L names.
        found: name to metric.

    Returns:
        `resamples`; `fewest_patients` that an interval needs; `too_few_patients`; `undefined_resamples`: metric and
        `macro_<metric>` to how many resamples had no value, by finding, where the data have one; and
        `macro_of_supported`: the mean over the findings with patients enough, of each metric that also has others.
    """
    undefined: dict[str, Any] = {}
    supported: dict[str, Any] = {}
    for name, about in found.items():
        each = zip(findings, about.findings.value, about.findings.undefined, strict=True)
        lost = {finding: int(count) for finding, value, count in each if count and not np.isnan(value)}
        undefined |= {name: lost} if lost else {}
        if about.macro.undefined and not np.isnan(about.macro.value):
            undefined[f"macro_{name}"] = int(about.macro.undefined)
        if about.supported is not about.macro:
            supported[name] = single(about.supported)
            if about.supported.undefined and supported[name] is not None:
                undefined[f"macro_{name}{OF_SUPPORTED}"] = int(about.supported.undefined)
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
    """Value, low and high of a number of `metrics.json`; NaN where there is none."""
    if isinstance(plain, dict):
        low, high = plain["ci"]
        return float(plain["value"]), float(low), float(high)
    return float("nan" if plain is None else plain), float("nan"), float("nan")

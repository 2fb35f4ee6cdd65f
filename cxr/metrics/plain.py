"""Numbers as `metrics.json` has them: a number, `{"value": x, "ci": [low, high]}`, or null for what is undefined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.bootstrap import Interval


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


def value_of(plain: Any) -> float:
    """The value of a number of `metrics.json`, NaN for null."""
    if isinstance(plain, dict):
        return float(plain["value"])
    return float("nan") if plain is None else float(plain)

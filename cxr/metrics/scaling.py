"""Temperature and Platt scaling of each finding, fitted on validation, so that probabilities mean what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.cells import probabilities

_Floats = NDArray[np.float64]
_EDGE = 2.0**-24  # as near to 0 or 1 as a fit takes a probability; float32 rounds what is nearer to 1
_STEPS = 100  # of Newton's method, which needs about ten


@dataclass(frozen=True)
class Scaling:
    """New probabilities from old: expit(slope x logit(p) + intercept), finding by finding.

    Attributes:
        method: `temperature` or `platt`.
        findings: L names.
        slope: L numbers; one over the temperature. Order is kept where it is above 0.
        intercept: L numbers, all 0 for temperature.
        identity: names of the findings that could not be fitted and are left as they are.
    """

    method: str
    findings: tuple[str, ...]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    identity: tuple[str, ...]

    def apply(self, score: ArrayLike) -> _Floats:
        """Scales probabilities.

        Args:
            score: (N, L), probabilities.

        Returns:
            (N, L) float64, probabilities; those of findings left as they are, exactly as they were.

        Raises:
            ValueError: another number of columns, or a score outside [0, 1].
        """
        scores = np.asarray(score, np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(self.findings):
            raise ValueError(f"score {scores.shape} must be (N, {len(self.findings)}), one column a fitted finding")
        if ((scores < 0) | (scores > 1)).any():
            raise ValueError("a score is outside [0, 1]; scaling takes probabilities, not logits")
        slope, intercept = np.array(self.slope), np.array(self.intercept)
        with np.errstate(divide="ignore", over="ignore"):
            scaled = 1 / (1 + np.exp(-(slope * (np.log(scores) - np.log1p(-scores)) + intercept)))
        return np.where((slope == 1) & (intercept == 0), scores, scaled)

    def as_plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Scaling":
        """The scaling that `as_plain` wrote.

        Raises:
            CxrError: keys are missing or strange, or lists differ in length.
        """
        names = ("method", "findings", "slope", "intercept", "identity")
        if set(plain) != set(names):
            raise CxrError(f"a scaling has the keys {', '.join(sorted(plain))}; expected {', '.join(names)}")
        if not len(plain["findings"]) == len(plain["slope"]) == len(plain["intercept"]):
            raise CxrError("a scaling needs one slope and one intercept for each finding; fit it again")
        return cls(str(plain["method"]), *(tuple(plain[name]) for name in names[1:]))


def fit_temperature(target: ArrayLike, score: ArrayLike, findings: Sequence[str]) -> Scaling:
    """One temperature a finding by maximum likelihood (Guo et al., ICML 2017), on validation.

    Left as they are, and named: findings without a positive or a negative image, findings that 0.5 separates without a
    mistake (the temperature would be 0), and those whose scores are no better than their reverse (it would be infinite
    or negative).

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.
        findings: L names.

    Raises:
        ValueError: shapes, targets, or a score that counts and is not in [0, 1].
    """
    return _fit(target, score, findings, "temperature")


def fit_platt(target: ArrayLike, score: ArrayLike, findings: Sequence[str]) -> Scaling:
    """Slope and intercept of every finding by logistic regression on its logits (Platt 1999), on validation.

    Left as they are, and named: findings without a positive or a negative image, and findings that some threshold
    separates without a mistake (the slope would be infinite). A finding whose scores are worse than chance gets a slope
    below 0, which turns their order round.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.
        findings: L names.

    Raises:
        ValueError: shapes, targets, or a score that counts and is not in [0, 1].
    """
    return _fit(target, score, findings, "platt")


def _fit(target: ArrayLike, score: ArrayLike, findings: Sequence[str], method: str) -> Scaling:
    targets, scores = probabilities(target, score)
    slope, intercept, left = [1.0] * len(findings), [0.0] * len(findings), []
    for k, (name, t, s) in enumerate(zip(findings, targets.T, scores.T, strict=True)):
        clipped = np.clip(s[t == t], _EDGE, 1 - _EDGE)
        truth, logit = t[t == t].astype(np.float64), np.log(clipped) - np.log1p(-clipped)
        columns = [logit] if method == "temperature" else [logit, np.ones_like(logit)]
        found = None if _separable(truth, logit, method) else _logistic(truth, np.stack(columns, axis=1))
        if found is None or (method == "temperature" and found[0] <= 0):
            left.append(name)
        else:
            slope[k], intercept[k] = float(found[0]), float(found[1]) if method == "platt" else 0.0
    return Scaling(method, tuple(findings), tuple(slope), tuple(intercept), tuple(left))


def _separable(truth: _Floats, logit: _Floats, method: str) -> bool:
    """Whether the likelihood has no maximum: a class is empty, or a threshold (0 for temperature) makes no mistake."""
    positive, negative = logit[truth == 1], logit[truth == 0]
    if not len(positive) or not len(negative):
        return True
    if method == "platt":
        return bool(positive.min() >= negative.max() or negative.min() >= positive.max())
    signed = np.append(positive, -negative)
    return bool((signed >= 0).all() or (signed <= 0).all())


def _logistic(truth: _Floats, design: _Floats) -> _Floats | None:
    """Maximum likelihood by Newton's method with halved steps; None if it does not settle."""
    weights = np.zeros(design.shape[1])
    loss = _loss(truth, design @ weights)
    for _ in range(_STEPS):
        chance = (1 + np.tanh(design @ weights / 2)) / 2
        gradient = design.T @ (chance - truth)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e14:
            return None
        step = np.linalg.solve(curvature, gradient)
        if np.abs(step).max() < 1e-10 * (1 + np.abs(weights).max()):
            return weights - step
        size = 1.0
        while (tried := _loss(truth, design @ (weights - size * step))) > loss and size > 1e-10:
            size /= 2
        weights, loss = weights - size * step, tried
    return None


def _loss(truth: _Floats, logit: _Floats) -> float:
    return float((np.logaddexp(0, logit) - truth * logit).sum())

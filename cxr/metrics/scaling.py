"""Temperature and Platt scaling of each finding, fitted on validation, for calibrated probabilities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from cxr.metrics.cells import probabilities
from cxr.metrics.logistic import fit_logistic

_Floats = NDArray[np.float64]
METHODS = ("temperature", "platt")
_EDGE = 2.0**-24  # a fit clips probabilities to this distance from 0 and 1; float32 rounds closer ones to 1


@dataclass(frozen=True)
class Scaling:
    """New probabilities from old: expit(slope x logit(p) + intercept), for each finding.

    Attributes:
        method: one of `METHODS`.
        findings: L names.
        slope: L numbers; the inverse of the temperature. The order of scores is kept where it is above 0.
        intercept: L numbers, all 0 for temperature.
        identity: names of the findings that could not be fitted and are left unchanged.
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
            (N, L) float64, probabilities; those of findings that are left unchanged, exactly as they were.

        Raises:
            ValueError: another number of columns, or a score outside [0, 1].
        """
        scores = np.asarray(score, np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(self.findings):
            raise ValueError(f"score {scores.shape} must be (N, {len(self.findings)}), one column for each finding")
        if ((scores < 0) | (scores > 1)).any():
            raise ValueError("a score is outside [0, 1]; scaling takes probabilities, not logits")
        slope, intercept = np.array(self.slope), np.array(self.intercept)
        return np.where((slope == 1) & (intercept == 0), scores, expit(slope * logit(scores) + intercept))

    def as_plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def fit_temperature(target: ArrayLike, score: ArrayLike, findings: Sequence[str]) -> Scaling:
    """One temperature for each finding by maximum likelihood (Guo et al., ICML 2017), on validation.

    Findings that are left unchanged and listed in `identity`: those without a positive or a negative image, those that
    0.5 separates without error (the temperature would be 0), and those whose scores are no better than their reverse
    (it would be infinite or negative).

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.
        findings: L names.
    """
    return _fit(target, score, findings, "temperature")


def fit_platt(target: ArrayLike, score: ArrayLike, findings: Sequence[str]) -> Scaling:
    """Slope and intercept of every finding by logistic regression on its logits (Platt 1999), on validation.

    Findings that are left unchanged and listed in `identity`: those without a positive or a negative image, and those
    that some threshold separates without error (the slope would be infinite). A finding whose scores are worse than
    chance gets a slope below 0, which reverses their order.

    Args:
        target, score, findings: as for `fit_temperature`, with the same errors.
    """
    return _fit(target, score, findings, "platt")


def _fit(target: ArrayLike, score: ArrayLike, findings: Sequence[str], method: str) -> Scaling:
    targets, scores = probabilities(target, score)
    slope, intercept, identity = [1.0] * len(findings), [0.0] * len(findings), []
    size = 1 if method == "temperature" else 2
    for k, (name, t, s) in enumerate(zip(findings, targets.T, scores.T, strict=True)):
        truth, logits = t[t == t].astype(np.float64), logit(np.clip(s[t == t], _EDGE, 1 - _EDGE))
        if _separable(truth, logits, method):
            identity.append(name)
            continue
        design = np.stack([logits, np.ones_like(logits)][:size], axis=1)
        beta = fit_logistic(design, truth, np.zeros(size), np.zeros(size))
        if method == "temperature" and beta[0] <= 0:
            identity.append(name)
        else:
            slope[k], intercept[k] = float(beta[0]), float(beta[1]) if method == "platt" else 0.0
    return Scaling(method, tuple(findings), tuple(slope), tuple(intercept), tuple(identity))


def _separable(truth: _Floats, logits: _Floats, method: str) -> bool:
    """Whether the likelihood has no maximum: a class is empty, or a threshold (0 for temperature) makes no error."""
    positive, negative = logits[truth == 1], logits[truth == 0]
    if not len(positive) or not len(negative):
        return True
    if method == "platt":
        return bool(positive.min() >= negative.max() or negative.min() >= positive.max())
    signed = np.append(positive, -negative)
    return bool((signed >= 0).all() or (signed <= 0).all())

"""What a trained system consists of: findings, members, how scores are combined and calibrated, operating points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.metrics.scaling import METHODS, Scaling
from cxr.metrics.tree import at_most_parents
from cxr.use.unusual import Detectors

RULES = ("mean", "logit", "max", "vote")
_EDGE = 1e-7  # scores are clipped to this distance from 0 and 1 before their logits are combined
_LARGEST = 1e300  # absolute value of a number of a bundle
_HALF = 0.5  # from this score on a member votes for a finding

_Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """One network of a system.

    Attributes:
        name: of its run.
        preprocessing: of its images.
        attributes: whether age, sex and view are inputs.
        maps: `heads` or `findings`, what its attention maps are of; empty if it has none.
    """

    name: str
    preprocessing: Preprocessing
    attributes: bool = False
    maps: str = ""


@dataclass(frozen=True)
class Rule:
    """How the members' scores of an image become one, for each finding.

    Attributes:
        kind: `mean`, the weighted mean; `logit`, the sigmoid of the weighted sum of logits; `max`; or `vote`, the share
            of members with a score of at least 0.5.
        weights: (L, M) of `mean` and `logit`.
        intercept: (L,) of `logit`.
    """

    kind: str
    weights: tuple[tuple[float, ...], ...] = ()
    intercept: tuple[float, ...] = ()

    def __call__(self, scores: _Scores) -> _Scores:
        """Scores of the members (M, N, L) to those of the system (N, L)."""
        if self.kind == "max":
            return np.asarray(scores.max(axis=0))
        if self.kind == "vote":
            return (scores >= _HALF).mean(axis=0).astype(np.float32)
        each = scores.astype(np.float64)
        if self.kind == "logit":
            each = logit(np.clip(each, _EDGE, 1 - _EDGE))
        total = np.zeros(scores.shape[1:])
        for member, weight in zip(each, np.array(self.weights).T, strict=True):
            total += weight * member
        found = expit(total + np.array(self.intercept)) if self.kind == "logit" else np.clip(total, 0, 1)
        return np.asarray(found, np.float32)


@dataclass(frozen=True)
class System:
    """A trained network or ensemble, without the networks themselves.

    Attributes:
        name: of its run.
        model: SHA-256 that identifies weights and rule.
        findings: L names.
        parents: (L,) column of each finding's parent in a hierarchy, -1 for a root.
        members: one or more.
        rule: how their scores are combined.
        scaling: for calibrated scores; none if nothing was fitted.
        points: operating points chosen on validation: thresholds (L,) by name, None where undefined.
        detectors: of unusual images; none in a run, and where there were too few images to fit them.
    """

    name: str
    model: str
    findings: tuple[str, ...]
    parents: tuple[int, ...]
    members: tuple[Member, ...]
    rule: Rule
    scaling: Scaling | None = None
    points: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    detectors: Detectors | None = None

    def combine(self, scores: _Scores) -> _Scores:
        """Scores of the members (M, N, L) to scores (N, L), where a child's is at most its parent's."""
        return at_most_parents(self.rule(scores), self.parents)

    def calibrate(self, score: _Scores) -> _Scores | None:
        """Calibrated scores (N, L), where a child's is at most its parent's; None without a calibration."""
        if self.scaling is None:
            return None
        return at_most_parents(self.scaling.apply(score).astype(np.float32), self.parents)

    def calls(self, score: _Scores) -> dict[str, _Scores]:
        """For each operating point (N, L): 1 at or above the threshold, 0 below, NaN where it is undefined."""
        found = {}
        for name, thresholds in self.points.items():
            cut = np.array([np.nan if value is None else value for value in thresholds])
            found[name] = np.where(np.isnan(cut), np.nan, score >= cut).astype(np.float32)
        return found


def read_scaling(about: Any, findings: Sequence[str], origin: str) -> Scaling:
    """A calibration as `calibration.json` and bundles have it.

    Raises:
        CxrError: it is not that of these findings; `origin` is named.
    """
    names = ("method", "findings", "slope", "intercept", "identity")
    if isinstance(about, Mapping) and set(names) <= set(about) and about["findings"] == list(findings):
        columns, method, identity = (about["slope"], about["intercept"]), about["method"], about["identity"]
        known = method in METHODS and isinstance(identity, list) and all(name in findings for name in identity)
        if known and all(is_numbers(column, len(findings)) for column in columns):
            slope, intercept = (tuple(map(float, column)) for column in columns)
            return Scaling(method, tuple(findings), slope, intercept, tuple(identity))
    raise CxrError(f"{origin} has no calibration of the findings {', '.join(findings)}; write it again")


def is_numbers(values: Any, length: int) -> bool:
    """Whether it is a list of this many finite numbers."""
    fine = isinstance(values, list) and len(values) == length
    return fine and all(type(value) in (int, float) and abs(value) <= _LARGEST for value in values)

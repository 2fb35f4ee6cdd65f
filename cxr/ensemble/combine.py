"""All methods that `method._target_` may name; votes, means and ranks are defined here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.splits import Validation
from cxr.ensemble.stacking import Stacking, clipped_logit
from cxr.ensemble.weighted import Greedy, Weighted
from cxr.errors import CxrError

__all__ = [
    "Average", "Fit", "Geometric", "Greedy", "HardVote", "MaxVote", "Method", "RankAverage", "Stacking", "Weighted",
    "baselines",
]  # fmt: skip
THRESHOLD = 0.5
_Scores = NDArray[np.float32]


class MaxVote(Method):
    """The largest score among the members."""

    label, fixed = "max vote", True

    def _combine(self, scores: _Scores, fit: Fit, finding: int) -> _Scores:
        return np.asarray(scores.max(axis=0))


class HardVote(Method):
    """The share of members with a score of at least 0.5."""

    label, fixed = "hard vote", True

    def _combine(self, scores: _Scores, fit: Fit, finding: int) -> _Scores:
        return (scores >= THRESHOLD).mean(axis=0).astype(np.float32)


class Average(Method):
    """The mean of the members' scores."""

    label, fixed = "average", True

    def _learn(self, data: Validation) -> Fit:
        return Fit(np.full((len(data.findings), data.members), 1 / data.members))

    def _combine(self, scores: _Scores, fit: Fit, finding: int) -> _Scores:
        return scores.mean(axis=0, dtype=np.float64).astype(np.float32)


class RankAverage(Method):
    """The mean of the members' rank fractions within the split: the share of images with a lower score, ties half.

    It needs all images of a split at once: the result for an image depends on the others, and is not a probability.
    """

    label, fixed = "rank average", True

    def _combine(self, scores: _Scores, fit: Fit, finding: int) -> _Scores:
        fractions = (pd.DataFrame(scores.T).rank() - 0.5) / scores.shape[1]
        return fractions.mean(axis=1).to_numpy(np.float32)


class Geometric(Method):
    """The weighted geometric mean of the members' odds, as a probability: the weighted mean of their logits.

    Odds treat presence and absence symmetrically, probabilities do not. Scores are clipped to [1e-7, 1 - 1e-7], so that
    a score of 0 or 1 does not outweigh all other members.

    Args:
        weights: a non-negative number for each member in the order of `runs`, scaled to sum one; None for equal.
    """

    label, fixed = "geometric", True

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = weights
        if weights is None:
            return
        given: Any = weights
        numbers = isinstance(given, Sequence) and all(type(value) in (int, float) for value in given)
        if not numbers or not all(0 <= value < np.inf for value in given) or not sum(given) > 0:
            raise CxrError(f"method.weights={weights} must be numbers of 0 or more, one for each member, as in [1,1,2]")

    def _learn(self, data: Validation) -> Fit:
        share = np.ones(data.members) if self.weights is None else np.array(self.weights, np.float64)
        if len(share) != data.members:
            raise CxrError(
                f"method.weights has {len(share)} numbers for {data.members} members; give one for each member"
            )
        return Fit(np.repeat((share / share.sum())[None], len(data.findings), axis=0))

    def _combine(self, scores: _Scores, fit: Fit, finding: int) -> _Scores:
        assert fit.weights is not None
        return np.asarray(expit(fit.weights[finding] @ clipped_logit(scores)), np.float32)


def baselines(method: Method) -> Sequence[Method]:
    """Methods without parameters, for tables that compare them with `method`."""
    return [other for other in (Average(), MaxVote(), HardVote()) if other.label != method.label]

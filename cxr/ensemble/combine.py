"""The methods that `method._target_` may name. Votes, means and ranks, which learn nothing, stand here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.splits import Validation
from cxr.ensemble.stacking import Stacking, logit
from cxr.ensemble.weighted import Greedy, Weighted
from cxr.errors import CxrError

__all__ = [
    "Average", "Fit", "Geometric", "Greedy", "HardVote", "MaxVote", "Method", "RankAverage", "Stacking", "Weighted",
    "others_of",
]  # fmt: skip
THRESHOLD = 0.5


class MaxVote(Method):
    """The largest score among the members."""

    label = "max vote"

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        largest: NDArray[np.float32] = scores.max(axis=0)
        return largest


class HardVote(Method):
    """The share of the members whose score is at least 0.5."""

    label = "hard vote"

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        return (scores >= THRESHOLD).mean(axis=0).astype(np.float32)


class Average(Method):
    """The mean of the members' scores."""

    label = "average"

    def _learn(self, data: Validation) -> Fit:
        return Fit(np.full((len(data.findings), data.members), 1 / data.members))

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        return scores.mean(axis=0, dtype=np.float64).astype(np.float32)


class RankAverage(Method):
    """The mean of the members' rank fractions within the split: the share of images that score lower, ties half.

    It needs all images of a split at once: the score of an image depends on the others, and is no probability.
    """

    label = "rank average"

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        total = np.zeros(scores.shape[1])
        for member in scores:
            ordered = np.sort(member)
            total += ordered.searchsorted(member, "left") + ordered.searchsorted(member, "right")
        return (total / (2 * max(1, scores.shape[1]) * len(scores))).astype(np.float32)


class Geometric(Method):
    """The weighted geometric mean of the members' odds, as a probability: the weighted mean of their logits.

    Odds and not probabilities, so that presence and absence are treated alike. Scores of 0 and 1 are moved inwards by
    1e-7: a single certain member then cannot outvote all others for ever.

    Args:
        weights: a non-negative number for each member in the order of `runs`, scaled to the sum one; none for equal.
    """

    label = "geometric"

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = weights
        if weights is None:
            return
        given: Any = weights
        numbers = isinstance(given, Sequence) and all(type(value) in (int, float) for value in given)
        if not numbers or not all(0 <= value < np.inf for value in given) or not sum(given) > 0:
            raise CxrError(f"method.weights={weights} must be numbers of 0 or more, one a member, such as [1,1,2]")

    def _learn(self, data: Validation) -> Fit:
        share = np.ones(data.members) if self.weights is None else np.array(self.weights, np.float64)
        if len(share) != data.members:
            raise CxrError(f"method.weights has {len(share)} numbers for {data.members} members; give one a member")
        return Fit(np.repeat((share / share.sum())[None], len(data.findings), axis=0))

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        assert fit.weights is not None
        total = np.zeros(scores.shape[1])
        for weight, member in zip(fit.weights[finding], scores, strict=True):
            total += weight * logit(member)
        return (1 / (1 + np.exp(-total))).astype(np.float32)


def others_of(method: Method) -> Sequence[Method]:
    """The methods that cost nothing, to stand beside `method` in tables."""
    return [other for other in (Average(), MaxVote(), HardVote()) if other.label != method.label]

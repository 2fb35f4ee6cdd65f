"""How the scores of several models become one: votes and means over the member axis of a stacked array."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.search import Landscape, search, weighted_sum
from cxr.errors import CxrError

Scores = NDArray[np.float32]  # (M, N, L): members, images, findings; probabilities
THRESHOLD = 0.5


@dataclass(frozen=True)
class Fit:
    """What a method learnt on validation.

    Attributes:
        weights: (L, M), each row sums to one; none for a vote.
        landscape: every point that the search looked at, or none.
    """

    weights: NDArray[np.float64] | None = None
    landscape: Landscape | None = None


class Method(Protocol):
    """A way to combine members."""

    label: str
    """What tables call it."""

    def fit(self, scores: Scores, target: NDArray[np.float32]) -> Fit:
        """Learns on validation: scores (M, N, L), target (N, L)."""
        ...

    def combine(self, scores: Scores, fit: Fit) -> NDArray[np.float32]:
        """Scores (M, N, L) to (N, L) float32."""
        ...


class MaxVote:
    """The largest score among the members."""

    label = "max vote"

    def fit(self, scores: Scores, target: NDArray[np.float32]) -> Fit:
        """Nothing to learn."""
        return Fit()

    def combine(self, scores: Scores, fit: Fit) -> NDArray[np.float32]:
        """(M, N, L) to (N, L)."""
        return scores.max(axis=0)


class HardVote:
    """The share of the members whose score is at least 0.5."""

    label = "hard vote"

    def fit(self, scores: Scores, target: NDArray[np.float32]) -> Fit:
        """Nothing to learn."""
        return Fit()

    def combine(self, scores: Scores, fit: Fit) -> NDArray[np.float32]:
        """(M, N, L) to (N, L)."""
        return (scores >= THRESHOLD).mean(axis=0).astype(np.float32)


class Average:
    """The mean of the members' scores."""

    label = "average"

    def fit(self, scores: Scores, target: NDArray[np.float32]) -> Fit:
        """Equal weights."""
        members, _, findings = scores.shape
        return Fit(np.full((findings, members), 1 / members))

    def combine(self, scores: Scores, fit: Fit) -> NDArray[np.float32]:
        """(M, N, L) to (N, L)."""
        return scores.mean(axis=0, dtype=np.float64).astype(np.float32)


class Weighted:
    """A weighted mean, whose weights give the best exact AUROC on validation.

    Args:
        weights: `shared` for one set, found for the macro AUROC, or `per_finding`.
        step: of the grid over the simplex of weights; 1 must be a multiple of it.
        exhaustive_up_to: members up to which the whole grid is looked at; more are searched by exchanging steps.
    """

    label = "weighted"

    def __init__(self, weights: str = "shared", step: float = 0.05, exhaustive_up_to: int = 5) -> None:
        if weights not in ("shared", "per_finding"):
            raise CxrError(f"method.weights={weights} is unknown; choose shared or per_finding")
        if not 0 < step <= 1 or abs(round(1 / step) - 1 / step) > 1e-9:
            raise CxrError(f"method.step={step} must divide 1, such as 0.05")
        self.weights, self.steps, self.exhaustive_up_to = weights, round(1 / step), exhaustive_up_to

    def fit(self, scores: Scores, target: NDArray[np.float32]) -> Fit:
        """Searches the weights, see `cxr.ensemble.search`."""
        weights, landscape = search(scores, target, self.steps, self.weights == "shared", self.exhaustive_up_to)
        return Fit(weights, landscape)

    def combine(self, scores: Scores, fit: Fit) -> NDArray[np.float32]:
        """(M, N, L) to (N, L)."""
        assert fit.weights is not None
        columns = [weighted_sum(row[None], scores[:, :, k])[0] for k, row in enumerate(fit.weights)]
        return np.stack(columns, axis=1)


def others_of(method: Method) -> Sequence[Method]:
    """The methods that cost nothing, to stand beside `method` in tables."""
    return [other for other in (Average(), MaxVote(), HardVote()) if other.label != method.label]

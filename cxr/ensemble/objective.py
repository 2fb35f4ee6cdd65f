"""How good a weight vector is: exact AUROC, average precision or Brier score of weighted means, at many weights.

A search asks for thousands of values of each finding. Everything that does not depend on the weights is done once in
`Column`; what is left for one value is a few additions and one sort of integers (see `Column.auroc`).
"""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxr.ensemble.splits import Split
from cxr.errors import CxrError

THREADS = 2  # findings at once, where the machine has as many cores


class Column:
    """The images of one finding whose target is known, positives first, ready to be judged at many weights.

    The value at a weight vector is that of the weighted mean as a run would store it: products are added in float64
    member by member and rounded to float32 once, so that it is the value in `metrics.json`.

    Args:
        scores: (M, N) float32, probabilities.
        target: (N,), 1, 0, or NaN for unknown, which is left out.

    Raises:
        ValueError: a score lies outside [0, 1] or is NaN.
    """

    def __init__(self, scores: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        order = np.concatenate([np.flatnonzero(target == 1), np.flatnonzero(target == 0)])
        self.positives = int((target == 1).sum())
        self.negatives = len(order) - self.positives
        chosen = scores[:, order]
        if not ((chosen >= 0) & (chosen <= 1)).all():
            raise ValueError("scores must be probabilities in [0, 1]")
        self._scores = chosen.astype(np.float64) + 0.0  # makes -0.0 an ordinary zero
        self._buffers = np.empty_like(self._scores)
        self._product = np.empty(len(order))
        self._partial: list[NDArray[np.float64]] = []  # sums over the first members, at the last weights
        self._last = np.full(len(scores), np.nan)
        self._mixed = np.empty(len(order), np.float32)
        self._keys = self._mixed.view(np.int32)
        self._positive = np.empty(len(order), bool)

    def mixed(self, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """The weighted mean (n,) float32, positives first, in a buffer that the next call overwrites.

        Sums over leading members are kept from call to call: in lexical order most weights are those of the call
        before.
        """
        changed = np.flatnonzero(weights != self._last)
        first = int(changed[0]) if len(changed) else len(weights)
        del self._partial[first:]
        for member in range(first, len(weights)):
            before = self._partial[-1] if self._partial else None
            here = self._buffers[member]
            if before is None:
                np.multiply(self._scores[member], weights[member], out=here)
            elif weights[member] == 0:
                here = before
            else:
                np.multiply(self._scores[member], weights[member], out=self._product)
                np.add(before, self._product, out=here)
            self._partial.append(here)
        self._last = weights.copy()
        np.copyto(self._mixed, self._partial[-1], casting="same_kind")
        return self._mixed

    def auroc(self, weights: NDArray[np.float64]) -> float:
        """Exact AUROC, ties counting half; NaN without positives or negatives.

        Non-negative float32 numbers are in the order of their bits. Shifted left, they leave room for one bit that
        says positive; one sort of these integers then gives the rank sum of the positives (Mann and Whitney, "On a
        Test of Whether one of Two Random Variables is Stochastically Larger than the Other", 1947).
        """
        if not self.positives or not self.negatives:
            return float("nan")
        place, key = self._ranked(weights)
        below = float(place.sum()) - self.positives * (self.positives - 1) / 2  # negatives not above a positive
        if (self._keys[place - 1] == key - 1).any():
            left = np.searchsorted(self._keys, key - 1, "left")
            below -= 0.5 * float((np.searchsorted(self._keys, key, "left") - left).sum())
        return below / (self.positives * self.negatives)

    def average_precision(self, weights: NDArray[np.float64]) -> float:
        """Mean over the positives of the precision among all images with at least their score; NaN as for AUROC."""
        if not self.positives or not self.negatives:
            return float("nan")
        place, key = self._ranked(weights)
        start = np.searchsorted(self._keys, key - 1, "left")
        found = self.positives - np.searchsorted(place, start, "left")
        return float((found / (len(self._keys) - start)).mean())

    def brier(self, weights: NDArray[np.float64]) -> float:
        """Minus the mean squared difference between score and target, so that more is better; NaN without images."""
        if not self.positives + self.negatives:
            return float("nan")
        error = self.mixed(weights).astype(np.float64)
        error[: self.positives] -= 1
        return -float(np.mean(error**2))

    def _ranked(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Sorts the keys; places and keys of the positives in them. A negative of the same score is one key lower."""
        self.mixed(weights)
        keys = self._keys
        np.left_shift(keys, 1, out=keys)
        keys[: self.positives] += 1
        keys.sort()
        np.bitwise_and(keys, 1, out=self._positive, casting="unsafe")
        place = np.flatnonzero(self._positive)
        return place, keys[place]


Value = Callable[[Column, NDArray[np.float64]], float]
OBJECTIVES: dict[str, Value] = {
    "macro_auroc": Column.auroc,
    "average_precision": Column.average_precision,
    "brier": Column.brier,
}


@dataclass(frozen=True)
class Landscape:
    """What a search saw.

    Attributes:
        weights: (P, M) points of the simplex.
        value: (P, L) objective of every finding at each on validation, more is better; NaN where it is undefined or
            where the search did not ask for this finding at this point.
        objective: its name.
    """

    weights: NDArray[np.float64]
    value: NDArray[np.float64]
    objective: str = "macro_auroc"

    @property
    def macro(self) -> NDArray[np.float64]:
        """(P,) mean over the defined findings; NaN where one was not asked for, zeros if none is defined."""
        defined = ~np.isnan(self.value).all(axis=0)
        return self.value[:, defined].mean(axis=1) if defined.any() else np.zeros(len(self.value))


def check_objective(name: str) -> str:
    """`name` if it is an objective.

    Raises:
        CxrError: it is not; the objectives are named.
    """
    if name not in OBJECTIVES:
        raise CxrError(f"method.objective={name} is unknown; choose {', '.join(OBJECTIVES)}")
    return name


def evaluate(
    weights: NDArray[np.float64],
    data: Split,
    objective: str = "macro_auroc",
    findings: Sequence[int] | None = None,
    show: bool = False,
) -> Landscape:
    """The objective of every finding at every weight vector.

    Args:
        weights: (P, M), fastest in lexical order.
        data: the members.
        objective: a key of `OBJECTIVES`.
        findings: numbers of those that are asked for, none for all; the others are NaN.
        show: a progress bar, on a terminal.
    """
    value = OBJECTIVES[objective]
    asked = range(len(data.findings)) if findings is None else findings

    def judge(finding: int) -> list[float]:
        column = Column(data.read(finding), data.target[:, finding])
        return [value(column, point) for point in weights]

    with ThreadPoolExecutor(cores()) as pool:
        done = pool.map(judge, asked)
        bar = tqdm(done, "weights", len(asked), disable=not (show and sys.stderr.isatty()), leave=False)
        values = np.full((len(weights), len(data.findings)), np.nan)
        values[:, list(asked)] = np.array(list(bar), np.float64).T
    return Landscape(weights, values, objective)


def weighted_mean(weights: NDArray[np.float64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (M,) over scores (M, N) to (N,) float32, added in float64 member by member, within [0, 1]."""
    total = np.zeros(scores.shape[1])
    for weight, member in zip(weights, scores, strict=True):
        total += weight * member.astype(np.float64)
    return np.clip(total, 0, 1).astype(np.float32)


def cores() -> int:
    """Threads that findings are shared out to."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS, usable))

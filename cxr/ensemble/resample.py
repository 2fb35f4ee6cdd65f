"""The objective on resampled validation patients: the exact value of many weight vectors on each of many resamples."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import cores, weighted_mean
from cxr.ensemble.splits import Validation

_CELLS = 4_000_000  # images times resamples at once, which keeps the memory of a finding below 100 MB

Counts = NDArray[np.float32]  # (N, R): how often each image is in each resample


def patient_counts(patient: NDArray[np.object_], resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each image is in each resample, (N, R): patients are drawn with replacement, with all their images."""
    names, where = np.unique(patient.astype(str), return_inverse=True)
    rng = np.random.default_rng([seed, 0xB007])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.minimum(drawn, 255).astype(np.uint8).T[where]  # more than 255 times has no chance worth a name


def resampled_values(
    points: NDArray[np.float64], data: Validation, objective: str, counts: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """The objective of every finding at every point on every resample.

    Args:
        points: (P, M).
        data: the members.
        objective: see `cxr.ensemble.objective`.
        counts: (N, R).

    Returns:
        (R, P, L); NaN where a resample leaves a finding without positives or negatives.
    """
    measure = _MEASURES[objective]

    def judge(finding: int) -> NDArray[np.float64]:
        target = data.target[:, finding]
        known = np.flatnonzero(~np.isnan(target))
        scores, positive = data.read(finding)[:, known], target[known] == 1
        parts = []
        for first in range(0, counts.shape[1], at_once := max(1, _CELLS // max(1, len(known)))):
            drawn = Drawn(positive, counts[known, first : first + at_once].astype(np.float32))
            parts.append(np.stack([measure(drawn, weighted_mean(point, scores)) for point in points]))
        return np.concatenate(parts, axis=1)

    with ThreadPoolExecutor(cores()) as pool:
        by_finding = list(pool.map(judge, range(len(data.findings))))  # L of (P, R)
    return np.stack(by_finding, axis=-1).transpose(1, 0, 2)


class Drawn:
    """The known images of one finding and how often each resample has them.

    Args:
        positive: (n,).
        counts: (n, R).
    """

    def __init__(self, positive: NDArray[np.bool_], counts: Counts) -> None:
        self.positive, self.counts = positive, counts
        self.of_negatives = np.where(positive[:, None], np.float32(0), counts)
        self.negatives = self.of_negatives.sum(axis=0, dtype=np.float64)
        self.positives = counts.sum(axis=0, dtype=np.float64) - self.negatives
        self._sums = _Sums(*counts.shape)

    def auroc(self, score: NDArray[np.float32]) -> NDArray[np.float64]:
        """Exact AUROC (R,) of scores (n,), each image counted as often as it was drawn."""
        ranked = self._ranked(score)
        won = (ranked.weight * (ranked.below + ranked.not_above)).sum(axis=0, dtype=np.float64) / 2
        return _ratio(won, self.positives * self.negatives)

    def average_precision(self, score: NDArray[np.float32]) -> NDArray[np.float64]:
        """Exact average precision (R,)."""
        ranked = self._ranked(score)
        lower = np.concatenate(
            [np.zeros((1, self.counts.shape[1])), np.cumsum(ranked.weight, axis=0, dtype=np.float64)]
        )
        found, wrong = self.positives - lower[ranked.lower], self.negatives - ranked.below
        precision = np.divide(found, found + wrong, out=np.zeros_like(found), where=found + wrong > 0)
        value = _ratio((ranked.weight * precision).sum(axis=0), self.positives)
        return np.where(self.negatives > 0, value, np.nan)

    def brier(self, score: NDArray[np.float32]) -> NDArray[np.float64]:
        """Minus the Brier score (R,)."""
        error = (score.astype(np.float64) - self.positive) ** 2
        return -_ratio(error @ self.counts.astype(np.float64), self.positives + self.negatives)

    def _ranked(self, score: NDArray[np.float32]) -> "_Ranked":
        # The bits of non-negative float32 numbers are in their order; sorted with the index below them, no argsort.
        keys = ((score + np.float32(0)).view(np.int32).astype(np.int64) << 32) | np.arange(len(score))
        keys.sort()
        order = keys & 0xFFFFFFFF
        ordered = score[order]
        place = np.flatnonzero(self.positive[order])
        low = ordered.searchsorted(ordered[place], "left")
        sums = self._sums.over(self.of_negatives, order)
        below = sums.before(low)
        tied = bool((ordered[1:] == ordered[:-1]).any())
        not_above = sums.before(ordered.searchsorted(ordered[place], "right")) if tied else below
        return _Ranked(self.counts[order[place]], below, not_above, place.searchsorted(low))


@dataclass(frozen=True)
class _Ranked:
    """Positives in the order of their scores.

    Attributes:
        weight: (P, R) their counts.
        below: (P, R) counts of the negatives that score lower.
        not_above: (P, R) of those that do not score higher.
        lower: (P,) positive images that score lower.
    """

    weight: Counts
    below: Counts
    not_above: Counts
    lower: NDArray[np.int64]


class _Sums:
    """Sums over the first rows of counts (n, R): within blocks by a matrix product, then over blocks.

    Its arrays are made once: asking the system for megabytes of memory for every value takes longer than the sums.
    """

    def __init__(self, images: int, draws: int) -> None:
        blocks = -(-images // len(_TRIANGLE))
        self._rows = np.zeros((blocks * len(_TRIANGLE), draws), np.float32)
        self._within = np.empty_like(self._rows)
        self._before = np.zeros((blocks + 1, draws), np.float32)

    def over(self, counts: Counts, order: NDArray[np.int64]) -> Self:
        """Takes the rows of `counts` in `order`."""
        np.take(counts, order, axis=0, out=self._rows[: len(order)], mode="clip")
        blocks = self._within.reshape(-1, len(_TRIANGLE), counts.shape[1])
        np.matmul(_TRIANGLE, self._rows.reshape(blocks.shape), out=blocks)
        np.cumsum(blocks[:, -1], axis=0, out=self._before[1:])
        return self

    def before(self, rows: NDArray[np.int64]) -> Counts:
        """The sums over the rows before each of `rows`, (P, R); exact, as counts below 2^24 are in float32."""
        block, rest = np.divmod(rows, len(_TRIANGLE))
        sums = self._before[block]
        inside = np.flatnonzero(rest)
        sums[inside] += self._within[rows[inside] - 1]
        return sums


_TRIANGLE = np.tril(np.ones((16, 16), np.float32))
_MEASURES: dict[str, Callable[[Drawn, NDArray[np.float32]], NDArray[np.float64]]] = {
    "macro_auroc": Drawn.auroc,
    "average_precision": Drawn.average_precision,
    "brier": Drawn.brier,
}


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)

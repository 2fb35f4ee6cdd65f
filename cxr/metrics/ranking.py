"""Exact AUROC and average precision of one finding, for its images as they are or for many weightings of the patients.

Both metrics follow from two counts for each positive: the negatives that score lower, and those that do not score
higher. A bootstrap resample only changes how often each image counts, so the scores are sorted once for all resamples;
the counts of a resample are then running sums of its weights in the sorted order.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_CHUNK = 1 << 17  # weights held at a time: the arrays of a few resamples fit the processor's cache


class Ranking:
    """The positives and the negatives of one finding in ascending order of score.

    Args:
        target: (N,), 1, 0 or NaN for unknown (left out).
        score: (N,), larger means more likely.
        patient: (N,), patient numbers from 0; needed for weights only.

    Raises:
        ValueError: the score of a known target is NaN.
    """

    def __init__(self, target: NDArray[Any], score: NDArray[Any], patient: NDArray[np.intp] | None = None) -> None:
        images = [np.flatnonzero(target == label) for label in (1, 0)]
        if patient is None:
            positive, negative = (np.sort(score[rows]) for rows in images)  # sorting is faster than argsort
        else:
            images = [rows[np.argsort(score[rows])] for rows in images]
            positive, negative = (score[rows] for rows in images)
            self._patients = [patient[rows] for rows in images]
        if any(len(scores) and np.isnan(scores[-1]) for scores in (positive, negative)):
            raise ValueError("a score is NaN; AUROC and average precision need numbers")
        self.positives, self.negatives = len(positive), len(negative)
        self.below = np.searchsorted(negative, positive, "left")  # negatives that score lower than each positive
        self.not_above = np.searchsorted(negative, positive, "right")
        self._positive = positive

    @cached_property
    def _positives_below(self) -> NDArray[np.intp]:
        """Positives that score lower than each positive."""
        return np.searchsorted(self._positive, self._positive, "left")

    def auroc(self, times: NDArray[np.integer] | None = None) -> _Floats:
        """Share of (positive, negative) pairs in the right order, ties counting half.

        Args:
            times: (R, P), how often each patient counts; without it, every image counts once.

        Returns:
            (R,), or (1,) without `times`; NaN where a class has no weight.
        """
        if times is None:  # the same sum with weights of one
            pairs = np.array([self.below.sum() + self.not_above.sum()], np.float64)
            return _ratio(pairs, np.array([2.0 * self.positives * self.negatives]))
        parts = []
        for weight, positives, negatives in self._running(times):
            pairs = (weight * (negatives[:, self.below] + negatives[:, self.not_above])).sum(axis=1)
            parts.append(_ratio(pairs, 2.0 * positives[:, -1] * negatives[:, -1]))
        return np.concatenate(parts)

    def average_precision(self, times: NDArray[np.integer] | None = None) -> _Floats:
        """Mean over the positives of the precision at their score; arguments and result as for `auroc`."""
        parts = []
        for weight, positives, negatives in self._running(times):
            true = positives[:, -1:] - positives[:, self._positives_below]
            false = negatives[:, -1:] - negatives[:, self.below]
            value = _ratio((weight * true / np.maximum(true + false, 1)).sum(axis=1), positives[:, -1])
            parts.append(np.where(negatives[:, -1] > 0, value, np.nan))
        return np.concatenate(parts)

    def _running(self, times: NDArray[np.integer] | None) -> Iterator[tuple[NDArray[np.integer], ...]]:
        """For a few resamples at a time: weights of the positives (r, K), running weights of positives and negatives.

        Running weights have one column more than there are images: column i is the weight of the first i images.
        """
        sizes = self.positives, self.negatives
        if times is None:
            yield np.ones((1, sizes[0]), np.int64), np.arange(sizes[0] + 1)[None], np.arange(sizes[1] + 1)[None]
            return
        step = max(1, _CHUNK // max(1, sum(sizes)))
        for begin in range(0, len(times), step):
            weights = [times[begin : begin + step].take(patients, axis=1) for patients in self._patients]
            running = [np.zeros((len(weight), size + 1), np.int64) for weight, size in zip(weights, sizes, strict=True)]
            for weight, sums in zip(weights, running, strict=True):
                np.cumsum(weight, axis=1, out=sums[:, 1:])
            yield weights[0], *running


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> _Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)

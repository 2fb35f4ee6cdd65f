"""The objective of weight vectors: AUROC, average precision or Brier score of weighted means, exact and resampled.

The value of a weight vector is that of the weighted mean as a run stores it, in float32, so it is the value in
`metrics.json`.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxr.ensemble.splits import Split
from cxr.metrics.patients import per_patient
from cxr.metrics.ranking import Ranking

THREADS = 2  # findings evaluated at once
_Array = NDArray[Any]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """Resampled patients.

    Attributes:
        number: (N,), the patient of every image, from 0.
        times: (R, P), how often each resample has each patient.
    """

    number: NDArray[np.intp]
    times: NDArray[np.int64]

    @classmethod
    def draw(cls, patient: NDArray[np.object_], resamples: int, seed: int) -> "Resamples":
        """Draws patients (N,) with replacement."""
        names, number = np.unique(patient.astype(str), return_inverse=True)
        rng = np.random.default_rng([seed, 0xB007])
        return cls(number, rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples))


def _negative_brier(target: _Array, score: _Array, number: _Array | None, times: _Array | None) -> _Floats:
    error = np.square(score.astype(np.float64) - target)
    if number is None or times is None:
        number, times = np.arange(len(error)), np.ones((1, len(error)))
    sums, counts = per_patient(np.stack([error, np.ones_like(error)], 1), number, times.shape[1]).T
    with np.errstate(invalid="ignore"):
        return np.asarray(-(times @ sums) / (times @ counts))


# From the known targets (n,) of a finding, their scores (n,), and the `number` (n,) and `times` of R resamples to (R,)
# values; to (1,), the value on the data, without resamples.
OBJECTIVES: dict[str, Callable[[_Array, _Array, _Array | None, _Array | None], _Floats]] = {
    "macro_auroc": lambda target, score, number, times: Ranking(target, score, number).auroc(times),
    "average_precision": lambda target, score, number, times: Ranking(target, score, number).average_precision(times),
    "brier": _negative_brier,
}


@dataclass(frozen=True)
class Landscape:
    """The points that a search evaluated.

    Attributes:
        weights: (P, M) points of the simplex.
        value: (P, L) objective of every finding on validation, more is better; NaN where it is undefined or where the
            search did not evaluate this finding at this point.
        objective: its name.
    """

    weights: _Floats
    value: _Floats
    objective: str = "macro_auroc"

    @property
    def macro(self) -> _Floats:
        """(P,) mean over the defined findings; NaN where one was not evaluated, zeros if none is defined."""
        defined = ~np.isnan(self.value).all(axis=0)
        return self.value[:, defined].mean(axis=1) if defined.any() else np.zeros(len(self.value))


def evaluate(
    weights: _Floats,
    data: Split,
    objective: str = "macro_auroc",
    findings: Sequence[int] | None = None,
    show: bool = False,
) -> Landscape:
    """The objective of every finding at every weight vector.

    Args:
        weights: (P, M).
        findings: numbers of those to evaluate, None for all; the others are NaN.
    """
    chosen = range(len(data.findings)) if findings is None else findings
    value = np.full((len(weights), len(data.findings)), np.nan)
    value[:, list(chosen)] = _values(weights, data, objective, chosen, None, show)[0]
    return Landscape(weights, value, objective)


def evaluate_resamples(weights: _Floats, data: Split, objective: str, drawn: Resamples) -> _Floats:
    """The objective of every finding at every weight vector on every resample.

    Args:
        weights: (P, M).
        drawn: R resamples of the patients of `data`.

    Returns:
        (R, P, L); NaN where a resample leaves a finding without positives or negatives.
    """
    return _values(weights, data, objective, range(len(data.findings)), drawn, show=False)


def _values(
    weights: _Floats, data: Split, objective: str, findings: Sequence[int], drawn: Resamples | None, show: bool
) -> _Floats:
    """Values (R, P, findings); R is 1 without resamples."""

    def of_finding(k: int) -> _Floats:
        known = np.flatnonzero(~np.isnan(data.target[:, k]))
        target, scores = data.target[known, k], data.scores[k][:, known].astype(np.float64)
        resamples = (None, None) if drawn is None else (drawn.number[known], drawn.times)
        values = [OBJECTIVES[objective](target, weighted_mean(point, scores), *resamples) for point in weights]
        return np.stack(values, axis=1)

    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(of_finding, findings)
        bar = tqdm(done, "weights", len(findings), disable=not (show and sys.stderr.isatty()), leave=False)
        return np.stack(list(bar), axis=-1)


def weighted_mean(weights: _Floats, scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Weights (M,) of scores (M, N) to (N,) float32 within [0, 1], added in float64 in the order of the members."""
    total = np.zeros(scores.shape[1])
    for weight, member in zip(weights, scores, strict=True):
        total += weight * member
    return np.clip(total, 0, 1).astype(np.float32)

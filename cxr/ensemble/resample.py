"""How far weights would move with other patients: validation patients are drawn again and the weights chosen anew."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import Landscape, cores
from cxr.ensemble.search import grid_size, simplex_grid
from cxr.ensemble.splits import Validation
from cxr.ensemble.weighted import WeightedMean, best_rows, weighted_mean

POINTS = 126  # weight vectors that a resample chooses from: for 5 members a grid of step 0.2
_GRID_UP_TO = 6  # members

Counts = NDArray[np.float32]  # (N, R): how often each image is in each resample


def refits(
    method: WeightedMean, data: Validation, seen: Landscape, weights: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """The weights that a cheap search would choose on resampled patients.

    The search chooses among at most a few hundred points: the finest grid of up to `POINTS` for up to six members,
    else the best points that the fit has seen; always equal weights, each member alone and the weights of the fit.

    Args:
        method: gives objective and shrinkage.
        data: the members on validation.
        seen: of the fit.
        weights: (L, M), of the fit.
        resamples: R.
        seed: of the draws.

    Returns:
        (R, L, M).
    """
    points = candidates(seen, weights)
    counts = patient_counts(data.patient, resamples, seed)
    values = resampled_values(points, data, method.objective, counts)
    positives = np.rint((data.target == 1).astype(np.float32).T @ counts).astype(np.int64)  # (L, R)
    result = np.empty((resamples, *weights.shape))
    for r in range(resamples):
        own, shared = best_rows(Landscape(points, values[r], method.objective))
        result[r] = method.shrunk(own, shared, positives[:, r])
    return result


def candidates(seen: Landscape, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points that resamples choose from, (P, M), in lexical order."""
    members = weights.shape[1]
    simple = np.concatenate([np.full((1, members), 1 / members), np.eye(members), weights])
    if members <= _GRID_UP_TO:
        steps = max(s for s in range(1, 51) if grid_size(members, s) <= POINTS)
        more = simplex_grid(members, steps)
    else:
        more = seen.weights[np.argsort(-np.nan_to_num(seen.macro, nan=-np.inf), kind="stable")[:POINTS]]
    return np.unique(np.concatenate([simple, more]).round(12), axis=0)


def patient_counts(patient: NDArray[np.object_], resamples: int, seed: int) -> Counts:
    """How often each image is in each resample, (N, R): patients are drawn with replacement, with all their images."""
    names, where = np.unique(patient.astype(str), return_inverse=True)
    rng = np.random.default_rng([seed, 0xB007])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.ascontiguousarray(drawn.T[where], dtype=np.float32)


def resampled_values(
    points: NDArray[np.float64], data: Validation, objective: str, counts: Counts
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
        scores, positive, drawn = data.read(finding)[:, known], target[known] == 1, counts[known]
        return np.stack([measure(weighted_mean(point, scores), positive, drawn) for point in points])

    with ThreadPoolExecutor(cores()) as pool:
        by_finding = list(pool.map(judge, range(len(data.findings))))  # L of (P, R)
    return np.stack(by_finding, axis=-1).transpose(1, 0, 2)


def _auroc(score: NDArray[np.float32], positive: NDArray[np.bool_], counts: Counts) -> NDArray[np.float64]:
    weight, total, below, not_above, _ = _ranked(score, positive, counts)
    negatives = counts[~positive].sum(axis=0, dtype=np.float64)
    won = (weight * (below + not_above)).sum(axis=0, dtype=np.float64) / 2
    return _ratio(won, total * negatives)


def _average_precision(score: NDArray[np.float32], positive: NDArray[np.bool_], counts: Counts) -> NDArray[np.float64]:
    weight, total, below, _, first = _ranked(score, positive, counts)
    negatives = counts[~positive].sum(axis=0, dtype=np.float64)
    lower = np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(weight, axis=0, dtype=np.float64)])[first]
    found, wrong = total - lower, negatives - below
    precision = np.divide(found, found + wrong, out=np.zeros_like(found), where=found + wrong > 0)
    value = _ratio((weight * precision).sum(axis=0), total)
    return np.where(negatives > 0, value, np.nan)


def _brier(score: NDArray[np.float32], positive: NDArray[np.bool_], counts: Counts) -> NDArray[np.float64]:
    error = (score.astype(np.float64) - positive) ** 2
    return -_ratio(error @ counts.astype(np.float64), counts.sum(axis=0, dtype=np.float64))


_MEASURES: dict[str, Callable[[NDArray[np.float32], NDArray[np.bool_], Counts], NDArray[np.float64]]] = {
    "macro_auroc": _auroc,
    "average_precision": _average_precision,
    "brier": _brier,
}


def _ranked(
    score: NDArray[np.float32], positive: NDArray[np.bool_], counts: Counts
) -> tuple[Counts, NDArray[np.float64], NDArray[np.floating], NDArray[np.floating], NDArray[np.int64]]:
    """What both measures by rank need of the P positives in the order of their scores.

    Returns:
        Their counts (P, R) and the totals of these (R,); the counts of negatives that score lower, and not higher,
        both (P, R); and how many positives score lower, (P,).
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    place = np.flatnonzero(positive[order])
    weight = counts[order[place]]
    low = ordered.searchsorted(ordered[place], "left")
    high = ordered.searchsorted(ordered[place], "right")
    marks = np.unique(np.concatenate([[0], low, high]))
    sums = np.zeros((len(marks), counts.shape[1]), np.float32)
    if len(marks) > 1:
        drawn = counts[order[: marks[-1]]]
        drawn[positive[order[: marks[-1]]]] = 0
        np.cumsum(np.add.reduceat(drawn, marks[:-1], axis=0), axis=0, out=sums[1:])
    below, not_above = sums[marks.searchsorted(low)], sums[marks.searchsorted(high)]
    return weight, weight.sum(axis=0, dtype=np.float64), below, not_above, place.searchsorted(low)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)

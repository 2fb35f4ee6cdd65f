"""How ensemble weights are found on validation: the exact AUROC on a grid over the simplex.

AUROC is piecewise constant in the weights, so that a gradient method stays where it starts; a grid does not. Every
candidate is rounded to float32 as a run would store it, so that the value found here is the value in `metrics.json`.
"""

import sys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxr.metrics.auroc import auroc

_CHUNK = 64  # grid points combined at once
_SAME = 1e-12  # AUROC values closer than this are a tie


@dataclass(frozen=True)
class Landscape:
    """What a search saw.

    Attributes:
        weights: (P, M) points of the simplex.
        auroc: (P, L) validation AUROC of every finding at each; NaN where undefined.
    """

    weights: NDArray[np.float64]
    auroc: NDArray[np.float64]

    @property
    def macro(self) -> NDArray[np.float64]:
        """(P,) mean over the defined findings."""
        defined = ~np.isnan(self.auroc[0])
        return self.auroc[:, defined].mean(axis=1) if defined.any() else np.zeros(len(self.auroc))


def simplex_grid(members: int, steps: int) -> NDArray[np.float64]:
    """Every weight vector of non-negative multiples of 1 / steps that sums to one, (P, members), in lexical order."""
    places = np.array(list(combinations(range(steps + members - 1), members - 1)), int).reshape(-1, members - 1)
    edges = np.concatenate(
        [np.full((len(places), 1), -1), places, np.full((len(places), 1), steps + members - 1)], axis=1
    )
    return (np.diff(edges, axis=1) - 1) / steps


def weighted_sum(weights: NDArray[np.float64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (P, M) over scores (M, N) to (P, N) float32, added in float64 member by member, within [0, 1]."""
    total = np.zeros((len(weights), scores.shape[1]))
    for member in range(len(scores)):
        total += weights[:, member, None] * scores[member].astype(np.float64)
    return np.clip(total, 0, 1).astype(np.float32)


def evaluate(
    weights: NDArray[np.float64], scores: NDArray[np.float32], target: NDArray[np.float32], show: bool = False
) -> Landscape:
    """The AUROC of every finding at every weight vector.

    Args:
        weights: (P, M).
        scores: (M, N, L).
        target: (N, L), NaN unknown.
        show: a progress bar, on a terminal.
    """
    values = np.full((len(weights), target.shape[1]), np.nan)
    starts = range(0, len(weights), _CHUNK)
    for start in tqdm(starts, "weights", disable=not (show and sys.stderr.isatty()), leave=False):
        chunk = weights[start : start + _CHUNK]
        for finding in range(target.shape[1]):
            known = ~np.isnan(target[:, finding])
            combined = weighted_sum(chunk, scores[:, known, finding])
            truth = np.broadcast_to(target[known, finding, None], (int(known.sum()), len(chunk)))
            values[start : start + _CHUNK, finding] = auroc(truth, combined.T)
    return Landscape(weights, values)


def search(
    scores: NDArray[np.float32], target: NDArray[np.float32], steps: int, shared: bool, exhaustive_up_to: int
) -> tuple[NDArray[np.float64], Landscape]:
    """The best weights on the grid: all of it for few members, else by exchanging steps between pairs of members.

    Ties go to the weights nearest to equal ones. A finding without a defined AUROC gets equal weights.

    Returns:
        Weights (L, M), all rows the same if `shared`, and what was looked at.
    """
    members, findings = len(scores), target.shape[1]
    if members <= exhaustive_up_to:
        seen = evaluate(simplex_grid(members, steps), scores, target, show=True)
    else:
        seen = _exchange(scores, target, steps, shared)
    if shared:
        best = _best(seen.weights, seen.macro)
        return np.repeat(best[None], findings, axis=0), seen
    undefined = np.isnan(seen.auroc[0])
    rows = [
        np.full(members, 1 / members) if undefined[k] else _best(seen.weights, seen.auroc[:, k])
        for k in range(findings)
    ]
    return np.stack(rows), seen


def _best(weights: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    top = np.flatnonzero(value >= value.max() - _SAME)
    spread = (weights[top] ** 2).sum(axis=1)
    chosen: NDArray[np.float64] = weights[top[int(spread.argmin())]]
    return chosen


def _exchange(scores: NDArray[np.float32], target: NDArray[np.float32], steps: int, shared: bool) -> Landscape:
    """Hill climbing on the grid from equal weights and from each member alone, for each objective."""
    members = len(scores)
    equal = np.full(members, steps // members)
    equal[: steps - equal.sum()] += 1
    starts = [equal, *(np.eye(members, dtype=int) * steps)]
    known: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def look(points: list[tuple[int, ...]]) -> None:
        new = [point for point in points if point not in known]
        if new:
            known.update(zip(new, evaluate(np.array(new) / steps, scores, target).auroc, strict=True))

    look([tuple(map(int, start)) for start in starts])
    for objective in [None] if shared else range(target.shape[1]):

        def value(point: tuple[int, ...], objective: int | None = objective) -> float:
            row = known[point]
            defined = row[~np.isnan(row)] if objective is None else row[[objective]]
            return float(defined.mean()) if len(defined) and not np.isnan(defined).any() else 0.0

        here = max(known, key=value)
        while True:
            near = [_moved(here, a, b) for a in range(members) for b in range(members) if a != b and here[a] > 0]
            look(near)
            best = max(near, key=value)
            if value(best) <= value(here) + _SAME:
                break
            here = best
    return Landscape(np.array(list(known)) / steps, np.stack(list(known.values())))


def _moved(point: tuple[int, ...], giver: int, taker: int) -> tuple[int, ...]:
    moved = list(point)
    moved[giver] -= 1
    moved[taker] += 1
    return tuple(moved)

"""Searches for ensemble weights on validation: grid over the simplex, greedy, coordinate, differential evolution.

The objectives are step functions of the weights, or nearly so, and gradient methods do not move on them.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import Landscape, evaluate
from cxr.ensemble.splits import Validation

SEARCHES = ("grid", "greedy", "coordinate", "differential_evolution")
_SAME = 1e-12  # values closer than this are equal
_MAX_GRID = 60_000  # points up to which the whole grid is evaluated
_COARSE = 300  # points of the coarse grid that replaces a larger one
_STARTS = 2  # best points of the coarse grid from which coordinate search starts
_PAIRS_UP_TO = 8  # members up to which weight is also exchanged between two of them

_Floats = NDArray[np.float64]
Aim = int | None  # a finding, or None for the mean over all
Evaluate = Callable[[_Floats], _Floats]  # points (P, M) to their values (P,), more is better


def simplex_grid(members: int, steps: int) -> _Floats:
    """Every weight vector of non-negative multiples of 1 / steps that sums to one, (P, members), in lexical order."""
    places = np.array(list(combinations(range(steps + members - 1), members - 1)), int)
    places = places.reshape(grid_size(members, steps), members - 1)
    ends = np.full((len(places), 1), -1), np.full((len(places), 1), steps + members - 1)
    return (np.diff(places, axis=1, prepend=ends[0], append=ends[1]) - 1) / steps


def grid_size(members: int, steps: int) -> int:
    """Points of `simplex_grid`."""
    return comb(steps + members - 1, members - 1)


def best_row(weights: _Floats, value: _Floats) -> int:
    """The row of the largest value, ignoring NaN; of ties (to 1e-12), the weights nearest to equal weights."""
    top = np.flatnonzero(value >= np.nanmax(value) - _SAME)
    return int(top[(weights[top] ** 2).sum(axis=1).argmin()])


class Explorer:
    """Evaluates points on validation and stores the values, so that none is computed twice."""

    def __init__(self, data: Validation, objective: str) -> None:
        self.data, self.objective = data, objective
        self._points: dict[bytes, _Floats] = {}
        self._values: dict[bytes, _Floats] = {}  # (L,), NaN where undefined or not evaluated
        self._evaluated: defaultdict[bytes, set[Aim]] = defaultdict(set)

    def values(self, points: _Floats, aim: Aim = None, show: bool = False) -> _Floats:
        """The value (P,) of points (P, M) for an aim; minus infinity where it is undefined."""
        keys = [(np.round(point, 12) + 0.0).tobytes() for point in points]
        new = {key: point for key, point in zip(keys, points, strict=True) if not {None, aim} & self._evaluated[key]}
        if new:
            findings = None if aim is None else [aim]
            found = evaluate(np.array(list(new.values())), self.data, self.objective, findings, show)
            for key, point, row in zip(new, found.weights, found.value, strict=True):
                self._points[key] = point
                self._values[key] = np.where(np.isnan(row), self._values.get(key, row), row)
                self._evaluated[key].add(aim)
        rows = np.array([self._values[key] for key in keys])
        value = Landscape(points, rows).macro if aim is None else rows[:, aim]
        return np.where(np.isnan(value), -np.inf, value)

    def best(self, aim: Aim, count: int) -> _Floats:
        """The `count` best points that were evaluated for an aim so far, (count, M)."""
        points = np.array([self._points[key] for key, aims in self._evaluated.items() if {None, aim} & aims])
        return points[np.argsort(-self.values(points, aim), kind="stable")[:count]]

    def landscape(self) -> Landscape:
        """All points, in the order in which they were evaluated."""
        return Landscape(np.array(list(self._points.values())), np.array(list(self._values.values())), self.objective)


def explore(
    data: Validation, search: str, objective: str, steps: int, aims: Sequence[Aim], max_work: float, seed: int
) -> Landscape:
    """Runs a search for each aim and returns every point that was evaluated.

    Args:
        search: one of `SEARCHES`; each evaluates equal weights too. `grid` evaluates the whole grid if it has at most
            60,000 points, and these times images times findings are at most `max_work`; otherwise a coarser one, then
            coordinate search from its best points, down to below the grid's step.
        steps: of the grid, 1 / step.
        aims: findings, or None for the mean over the findings.
        seed: of differential evolution.
    """
    members = data.members
    size = grid_size(members, steps)
    if search == "grid" and size <= _MAX_GRID and size * data.target.size <= max_work:
        points = np.concatenate([simplex_grid(members, steps), np.full((1, members), 1 / members)])
        return evaluate(np.unique(points.round(12), axis=0), data, objective, show=True)
    explorer = Explorer(data, objective)
    explorer.values(simple_points(members))
    if search == "grid":
        explorer.values(simplex_grid(members, coarse_steps(members, steps)), show=True)
    for aim in aims:
        values = partial(explorer.values, aim=aim)
        if search == "greedy":
            greedy(values, range(members), members, steps)
        elif search == "differential_evolution":
            evolve(values, members, seed)
        else:
            first = 1 / coarse_steps(members, steps) if search == "grid" else 0.25
            for start in explorer.best(aim, _STARTS if search == "grid" and members <= _PAIRS_UP_TO else 1):
                _climb(values, start, first, 1 / (4 * steps))
    return explorer.landscape()


def coarse_steps(members: int, steps: int) -> int:
    """The finest grid of at most 300 points that is part of the grid of `steps`."""
    parts = [part for part in range(1, steps + 1) if steps % part == 0 and grid_size(members, part) <= _COARSE]
    return max(parts, default=1)


def greedy(values: Evaluate, among: Sequence[int], members: int, picks: int) -> _Floats:
    """Forward selection with replacement.

    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004. Starts from
    the best of the means over the one, two, three ... best members (sorted initialisation), then repeatedly adds the
    member that helps most. The result is the best of all these means.

    Args:
        values: evaluates points.
        among: members that may be picked.
        members: M.
        picks: in all.

    Returns:
        Weights (M,), multiples of 1 / (number of picks).
    """
    single = np.eye(members)[list(among)]
    order = np.argsort(-values(single), kind="stable")
    prefixes = np.cumsum(single[order], axis=0)[:picks]
    found = values(_shares(prefixes))
    start = int(np.argmax(found))
    counts, top, best = prefixes[start], float(found[start]), prefixes[start]
    for _ in range(start + 1, picks):
        choices = counts + single
        found = values(_shares(choices))
        counts = choices[np.argmax(found)]
        if found.max() > top + _SAME:
            top, best = float(found.max()), counts
    return _shares(best[None])[0]


def evolve(values: Evaluate, members: int, seed: int, generations: int = 40) -> _Floats:
    """Differential evolution (Storn and Price, Journal of Global Optimization 11, 1997), scheme rand/1/bin.

    The population starts with equal weights, each member alone and random mixtures. Weights are scaled to sum one
    before they are evaluated.

    Args:
        values: evaluates points.
        members: M.
        seed: the same seed gives the same weights.
        generations: their number.

    Returns:
        The best weights (M,), non-negative, sum one.
    """
    from scipy.optimize import differential_evolution  # slow to import, and no other search needs it

    rng = np.random.default_rng([seed, 0xDE])
    random = rng.dirichlet(np.ones(members), min(60, max(12, 6 * members)) - 1)
    found = differential_evolution(
        lambda points: -values(_shares(points.T)),  # SciPy has one point a column
        [(0, 1)] * members, strategy="rand1bin", mutation=0.7, recombination=0.9, maxiter=generations, tol=0,
        init=np.concatenate([simple_points(members), random]), vectorized=True, updating="deferred", polish=False,
        seed=rng,
    )  # fmt: skip
    return _shares(found.x[None])[0]


def simple_points(members: int) -> _Floats:
    """Equal weights and each member alone."""
    return np.concatenate([np.full((1, members), 1 / members), np.eye(members)])


def _climb(values: Evaluate, start: _Floats, step: float, finest: float) -> None:
    """Moves to the best neighbour while it is better; otherwise halves the step, down to `finest`."""
    here, value = start, float(values(start[None])[0])
    while step >= finest - 1e-12:
        near = _neighbours(here, step)
        found = values(near) if len(near) else np.array([-np.inf])
        if found.max() > value + _SAME:
            here, value = near[int(found.argmax())], float(found.max())
        else:
            step /= 2


def _neighbours(here: _Floats, step: float) -> _Floats:
    """Each member up or down by `step` with the others in proportion, and by pairs for few members; (P, M)."""
    members, near = len(here), []
    for member in range(members):
        rest = 1 - here[member]
        for wanted in (min(1.0, here[member] + step), max(0.0, here[member] - step)):
            if wanted != here[member] and rest > 0:
                point = here * ((1 - wanted) / rest)
                point[member] = wanted
                near.append(point)
        for taker in range(members if members <= _PAIRS_UP_TO else 0):
            moved = min(step, here[member])
            if taker != member and moved > 0:
                point = here.copy()
                point[member] -= moved
                point[taker] += moved
                near.append(point)
    return _shares(np.array(near).reshape(-1, members))


def _shares(counts: _Floats) -> _Floats:
    """Rows scaled to sum one; equal shares for a row of zeros."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / counts.shape[1])

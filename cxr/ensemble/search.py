"""How ensemble weights are found on validation: the grid over the simplex, greedy, coordinate and evolutionary search.

The objectives are step functions of the weights, or nearly so: a gradient method stays where it starts. These do not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import Landscape, evaluate
from cxr.ensemble.splits import Validation

SEARCHES = ("grid", "greedy", "coordinate", "differential_evolution")
_SAME = 1e-12  # values closer than this are a tie
_WHOLE = 60_000  # points up to which the whole grid may be looked at
_COARSE = 300  # points of the first look where the whole grid is too large
_HILLS = 2  # best points of that look from which the search climbs
_PAIRS_UP_TO = 8  # members up to which weight is also exchanged between two of them

Aim = int | None  # a finding, or none for the mean over all


def simplex_grid(members: int, steps: int) -> NDArray[np.float64]:
    """Every weight vector of non-negative multiples of 1 / steps that sums to one, (P, members), in lexical order."""
    places = np.array(list(combinations(range(steps + members - 1), members - 1)), int)
    places = places.reshape(grid_size(members, steps), members - 1)
    edges = np.concatenate(
        [np.full((len(places), 1), -1), places, np.full((len(places), 1), steps + members - 1)], axis=1
    )
    return (np.diff(edges, axis=1) - 1) / steps


def grid_size(members: int, steps: int) -> int:
    """Points of `simplex_grid`."""
    return comb(steps + members - 1, members - 1)


def best_of(weights: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights (M,) with the largest value; of ties (to 1e-12) those nearest to equal ones. NaN counts as least."""
    chosen: NDArray[np.float64] = weights[best_place(weights, value)]
    return chosen


def best_place(weights: NDArray[np.float64], value: NDArray[np.float64]) -> int:
    """The row of `best_of`."""
    top = np.flatnonzero(value >= np.nanmax(value) - _SAME)
    return int(top[int((weights[top] ** 2).sum(axis=1).argmin())])


class Explorer:
    """Evaluates points on validation, each once for what is asked, and remembers the values.

    Args:
        data: the members on validation.
        objective: see `cxr.ensemble.objective`.
    """

    def __init__(self, data: Validation, objective: str) -> None:
        self.data, self.objective = data, objective
        self._points: dict[bytes, NDArray[np.float64]] = {}
        self._values: dict[bytes, NDArray[np.float64]] = {}  # (L,), NaN where undefined or not asked for
        self._asked: dict[bytes, set[Aim]] = {}

    def look(self, points: NDArray[np.float64], aim: Aim = None, show: bool = False) -> NDArray[np.float64]:
        """The value (P,) of points (P, M) for an aim; minus infinity where it is undefined."""
        keys = [(np.round(point, 12) + 0.0).tobytes() for point in points]
        new = {
            key: point
            for key, point in zip(keys, points, strict=True)
            if not {None, aim} & self._asked.setdefault(key, set())
        }
        if new:
            findings = None if aim is None else [aim]
            found = evaluate(np.array(list(new.values())), self.data, self.objective, findings, show)
            for key, point, row in zip(new, found.weights, found.value, strict=True):
                self._points[key] = point
                before = self._values.get(key, row)
                self._values[key] = np.where(np.isnan(row), before, row)
                self._asked[key].add(aim)
        rows = np.array([self._values[key] for key in keys])
        value = Landscape(points, rows).macro if aim is None else rows[:, aim]
        return np.where(np.isnan(value), -np.inf, value)

    def best(self, aim: Aim, count: int) -> NDArray[np.float64]:
        """The `count` best points that were looked at for an aim so far, (count, M)."""
        asked = [key for key in self._points if {None, aim} & self._asked[key]]
        points = np.array([self._points[key] for key in asked])
        return points[np.argsort(-self.look(points, aim), kind="stable")[:count]]

    def landscape(self) -> Landscape:
        """All that was seen, in the order in which it was."""
        return Landscape(np.array(list(self._points.values())), np.array(list(self._values.values())), self.objective)


def explore(
    data: Validation, search: str, objective: str, steps: int, aims: Sequence[Aim], max_work: float, seed: int
) -> Landscape:
    """Runs a search for each aim and returns every point that was looked at.

    Args:
        data: the members on validation.
        search: one of `SEARCHES`; each looks at equal weights too. `grid` looks at the whole grid if it has at most
            60,000 points, and these times images times findings are at most `max_work`; else at a coarser one, then
            by coordinate search around its best points, down to below the grid's step.
        objective: see `cxr.ensemble.objective`.
        steps: of the grid, 1 / step.
        aims: a finding, or none for the mean over the findings.
        max_work: see `search`.
        seed: of differential evolution.
    """
    members = data.members
    whole = grid_size(members, steps)
    if search == "grid" and whole <= _WHOLE and whole * data.target.size <= max_work:
        points = np.concatenate([simplex_grid(members, steps), np.full((1, members), 1 / members)])
        return evaluate(np.unique(points.round(12), axis=0), data, objective, show=True)
    explorer = Explorer(data, objective)
    explorer.look(_simple(members))
    if search == "grid":
        explorer.look(simplex_grid(members, coarse_steps(members, steps)), show=True)
    for aim in aims:
        look = partial(explorer.look, aim=aim)
        if search == "greedy":
            greedy(look, range(members), members, steps)
        elif search == "differential_evolution":
            from cxr.ensemble.evolution import evolve

            evolve(look, members, seed)
        else:
            first = 1 / coarse_steps(members, steps) if search == "grid" else 0.25
            for start in explorer.best(aim, _HILLS if search == "grid" and members <= _PAIRS_UP_TO else 1):
                _climb(look, start, first, 1 / (4 * steps))
    return explorer.landscape()


def coarse_steps(members: int, steps: int, points: int = _COARSE) -> int:
    """The finest grid of at most `points` points that is part of the grid of `steps`."""
    parts = [part for part in range(1, steps + 1) if steps % part == 0 and grid_size(members, part) <= points]
    return max(parts, default=1)


def greedy(
    look: Callable[[NDArray[np.float64]], NDArray[np.float64]], among: Sequence[int], members: int, picks: int
) -> NDArray[np.float64]:
    """Forward selection with replacement.

    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004. Starts from
    the best of the means over the one, two, three ... best members (sorted initialisation), then adds the member that
    helps most, again and again; of all means on the way, the best is the result.

    Args:
        look: points (P, members) to their values (P,).
        among: members that may be picked.
        members: M.
        picks: picks in all.

    Returns:
        Weights (M,), multiples of 1 / (number of picks).
    """
    alone = look(np.eye(members)[list(among)])
    order = [among[int(i)] for i in np.argsort(-alone, kind="stable")]
    prefixes = np.cumsum(np.eye(members)[order], axis=0)[:picks]
    values = look(_shares(prefixes))
    start = int(np.argmax(values))
    counts, top, best = prefixes[start], float(values[start]), _shares(prefixes[[start]])[0]
    for _ in range(start + 1, picks):
        choices = counts + np.eye(members)[list(among)]
        values = look(_shares(choices))
        picked = int(np.argmax(values))
        counts = choices[picked]
        if values[picked] > top + _SAME:
            top, best = float(values[picked]), _shares(choices[[picked]])[0]
    return best


def _climb(
    look: Callable[[NDArray[np.float64]], NDArray[np.float64]], start: NDArray[np.float64], step: float, finest: float
) -> None:
    """Goes to the best neighbour while it is better; else halves the step, down to `finest`."""
    here, value = start, float(look(start[None])[0])
    while step >= finest - 1e-12:
        near = _neighbours(here, step)
        values = look(near)
        if len(near) and values.max() > value + _SAME:
            here, value = near[int(values.argmax())], float(values.max())
        else:
            step /= 2


def _neighbours(here: NDArray[np.float64], step: float) -> NDArray[np.float64]:
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


def _simple(members: int) -> NDArray[np.float64]:
    """Equal weights and each member alone."""
    return np.concatenate([np.full((1, members), 1 / members), np.eye(members)])


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares

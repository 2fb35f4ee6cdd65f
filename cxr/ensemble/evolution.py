"""Differential evolution on the simplex of weights, for objectives without a gradient."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_FACTOR, _CROSSOVER = 0.7, 0.9
_GENERATIONS = 40


def evolve(
    look: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    members: int,
    seed: int,
    generations: int = _GENERATIONS,
) -> NDArray[np.float64]:
    """The best weights of a population that begins with equal ones, each member alone and random mixtures.

    Storn and Price, "Differential Evolution", Journal of Global Optimization 11 (1997), scheme rand/1/bin with factor
    0.7 and crossover 0.9. A trial is put back on the simplex: negative weights become zero, the rest is scaled.

    Args:
        look: points (P, members) to their values (P,), more is better.
        members: M.
        seed: of every random draw; the same seed gives the same weights.
        generations: after which it ends.

    Returns:
        (M,), non-negative, sum one.
    """
    rng = np.random.default_rng([seed, 0xDE])
    size = min(60, max(12, 6 * members)) + members
    known = np.concatenate([np.full((1, members), 1 / members), np.eye(members)])
    people = np.concatenate([known, rng.dirichlet(np.ones(members), size - len(known))])
    values = look(people)
    for _ in range(generations):
        others = np.array([rng.choice(np.delete(np.arange(size), i), 3, replace=False) for i in range(size)])
        a, b, c = people[others.T]
        crossed = rng.random((size, members)) < _CROSSOVER
        crossed[np.arange(size), rng.integers(members, size=size)] = True
        trials = onto_simplex(np.where(crossed, a + _FACTOR * (b - c), people))
        new = look(trials)
        better = new >= values
        people[better], values[better] = trials[better], new[better]
    best: NDArray[np.float64] = people[int(values.argmax())]
    return best


def onto_simplex(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (P, M) with negative parts set to zero and scaled to the sum one; equal weights where nothing is left."""
    positive = np.maximum(points, 0)
    total = positive.sum(axis=1, keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / points.shape[1])

"""Searches for weights, against brute force over the grid and against Caruana's selection written out in loops."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.ensemble.combine import Greedy, Weighted
from cxr.ensemble.search import SEARCHES, coarse_steps, evolve, grid_size, simplex_grid
from cxr.ensemble.splits import Validation


def drawn(
    members: int, images: int = 300, findings: int = 3, seed: int = 0, share: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (rng.random((images, findings)) < share).astype(np.float32)
    spread = rng.uniform(0.5, 2, (members, 1, findings))
    noise = rng.normal(size=(images, findings)) + spread * rng.normal(size=(members, images, findings))
    return (1 / (1 + np.exp(1 - noise - 1.2 * target))).astype(np.float32), target


def macro(weights: np.ndarray, scores: np.ndarray, target: np.ndarray) -> float:
    mixed = sum(w * m.astype(np.float64) for w, m in zip(weights, scores, strict=True))
    rounded = np.asarray(mixed).astype(np.float32)
    return float(np.mean([roc_auc_score(target[:, k], rounded[:, k]) for k in range(target.shape[1])]))


@pytest.mark.parametrize(("members", "steps"), [(1, 3), (2, 5), (3, 4), (4, 3)])
def test_the_grid_is_every_composition_of_its_steps(members: int, steps: int) -> None:
    expected = [p for p in itertools.product(range(steps + 1), repeat=members) if sum(p) == steps]
    np.testing.assert_allclose(simplex_grid(members, steps) * steps, expected, atol=1e-12)
    assert grid_size(members, steps) == len(expected)


def test_the_coarse_grid_is_part_of_the_fine_one() -> None:
    assert coarse_steps(5, 20) == 5 and coarse_steps(20, 20) == 2 and coarse_steps(30, 7) == 1


@pytest.mark.parametrize("seed", range(2))
def test_the_default_search_finds_the_best_of_the_whole_grid(seed: int) -> None:
    scores, target = drawn(4, images=100, findings=2, seed=seed)
    fit = Weighted(step=0.1, robust=False).fit(Validation.stacked(scores, target))
    assert fit.weights is not None
    grid = [p for p in itertools.product(range(11), repeat=4) if sum(p) == 10]
    best = max(macro(np.array(p) / 10, scores, target) for p in grid)
    assert macro(fit.weights[0], scores, target) >= best - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_where_the_grid_is_too_large_the_default_search_still_is_no_worse(seed: int) -> None:
    scores, target = drawn(4, images=4000, findings=2, seed=seed, share=0.1)
    data = Validation.stacked(scores, target)
    whole, climbed = (Weighted(max_work=work).fit(data).landscape for work in (1e12, 0))
    assert whole is not None and climbed is not None
    assert len(whole.weights) == 1771 and len(climbed.weights) < 900
    assert climbed.macro.max() >= whole.macro.max()


@pytest.mark.parametrize("search", SEARCHES)
def test_no_search_is_worse_than_equal_weights_or_a_member_alone(search: str) -> None:
    scores, target = drawn(3, seed=7)
    data = Validation.stacked(scores, target)
    fit = Weighted(search=search, robust=False).fit(data)
    again = Weighted(search=search, robust=False).fit(data)
    assert fit.weights is not None and again.weights is not None
    np.testing.assert_array_equal(fit.weights, again.weights)
    np.testing.assert_allclose(fit.weights.sum(axis=1), 1)
    assert (fit.weights >= 0).all()
    simple = [*np.eye(3), np.full(3, 1 / 3)]
    assert macro(fit.weights[0], scores, target) >= max(macro(w, scores, target) for w in simple) - 1e-12


@pytest.mark.parametrize("search", SEARCHES)
def test_weights_per_finding_are_as_good_for_each_as_the_shared_ones(search: str) -> None:
    scores, target = drawn(3, seed=8)
    data = Validation.stacked(scores, target)
    shared, own = (
        Weighted(kind, search=search, shrinkage=0, robust=False).fit(data).weights for kind in ("shared", "per_finding")
    )
    assert shared is not None and own is not None and len(np.unique(own, axis=0)) > 1
    for k in range(3):
        column, truth = scores[:, :, [k]], target[:, [k]]
        assert macro(own[k], column, truth) >= macro(shared[k], column, truth) - 1e-12


def caruana(scores: np.ndarray, target: np.ndarray, picks: int) -> np.ndarray:
    """Selection with replacement from sorted initialisation, from the paper's description."""
    members = len(scores)
    alone = [macro(np.eye(members)[m], scores, target) for m in range(members)]
    order = sorted(range(members), key=lambda m: -alone[m])
    starts = [order[: n + 1] for n in range(members)]
    value = [macro(np.bincount(bag, minlength=members) / len(bag), scores, target) for bag in starts]
    bag = list(starts[int(np.argmax(value))])
    best, top = list(bag), max(value)
    while len(bag) < picks:
        tried = [
            macro(np.bincount([*bag, m], minlength=members) / (len(bag) + 1), scores, target) for m in range(members)
        ]
        bag.append(int(np.argmax(tried)))
        if max(tried) > top + 1e-12:
            best, top = list(bag), max(tried)
    return np.bincount(best, minlength=members) / len(best)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_is_caruanas(seed: int) -> None:
    scores, target = drawn(4, images=150, findings=2, seed=seed)
    fit = Greedy(picks=12, bags=0, robust=False).fit(Validation.stacked(scores, target))
    assert fit.weights is not None
    np.testing.assert_allclose(fit.weights[0], caruana(scores, target, 12), atol=1e-12)


def test_bagged_selection_is_the_mean_over_its_subsets() -> None:
    scores, target = drawn(4, images=150, findings=2)
    fit = Greedy(picks=8, bags=6, bag_share=0.5, seed=3, robust=False).fit(Validation.stacked(scores, target))
    rng = np.random.default_rng([3, 0xBA6])
    parts = []
    for _ in range(6):
        subset = np.sort(rng.choice(4, 2, replace=False))
        weights = np.zeros(4)
        weights[subset] = caruana(scores[subset], target, 8)
        parts.append(weights)
    assert fit.weights is not None
    np.testing.assert_allclose(fit.weights[0], np.mean(parts, axis=0), atol=1e-12)


def test_evolution_finds_the_optimum_of_a_hill_on_the_simplex() -> None:
    top = np.array([0.55, 0.0, 0.3, 0.15])

    def hill(points: np.ndarray) -> np.ndarray:
        assert (points >= 0).all()
        np.testing.assert_allclose(points.sum(axis=1), 1)
        return np.asarray(-((points - top) ** 2).sum(axis=1))

    found, again, other = (evolve(hill, 4, seed, generations=80) for seed in (0, 0, 1))
    np.testing.assert_allclose(found, top, atol=0.02)
    np.testing.assert_array_equal(found, again)
    assert (found != other).any()


def test_own_weights_shrink_towards_shared_ones_by_their_positives() -> None:
    scores, target = drawn(3, images=400, findings=3, seed=1)
    target[:, 1] = 0
    target[:12, 1] = 1
    data = Validation.stacked(scores, target)
    own, half = (Weighted("per_finding", shrinkage=k, robust=False).fit(data) for k in (0, 50))
    assert own.weights is not None and half.weights is not None and own.shared is not None
    for k in range(3):
        n = (target[:, k] == 1).sum()
        np.testing.assert_allclose(half.weights[k], n / (n + 50) * own.weights[k] + 50 / (n + 50) * own.shared)
    assert half.warnings == (
        "few positive validation images, weights moved towards the shared ones: finding1 12 (method.shrinkage=50)",
    )
    assert own.warnings == ()


@pytest.mark.parametrize("shrinkage", [0, 50])
def test_a_finding_without_positives_gets_the_shared_weights(shrinkage: float) -> None:
    scores, target = drawn(3, seed=2)
    target[:, 0] = 0
    fit = Weighted("per_finding", shrinkage=shrinkage, robust=False).fit(Validation.stacked(scores, target))
    assert fit.weights is not None and fit.shared is not None
    np.testing.assert_array_equal(fit.weights[0], fit.shared)


def test_without_any_defined_finding_weights_are_equal() -> None:
    scores, target = drawn(3)
    fit = Weighted("per_finding", robust=False).fit(Validation.stacked(scores, np.full_like(target, np.nan)))
    assert fit.weights is not None
    np.testing.assert_allclose(fit.weights, 1 / 3)

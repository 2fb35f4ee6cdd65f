"""Values at weight vectors, against scikit-learn on the same weighted means."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score  # type: ignore[import-untyped]

from cxr.ensemble.objective import Landscape, evaluate
from cxr.ensemble.search import best_row, simplex_grid
from cxr.ensemble.splits import Validation

ORACLES = {
    "macro_auroc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier": lambda target, score: -brier_score_loss(target, score.astype(np.float64)),
}


def mixed(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    total = np.zeros(scores.shape[1:])
    for weight, member in zip(weights, scores, strict=True):
        total = total + float(weight) * member.astype(np.float64)
    return total.astype(np.float32)


@pytest.mark.parametrize("objective", sorted(ORACLES))
@given(seed=st.integers(0, 10**6), digits=st.sampled_from([1, 2, 7]), members=st.integers(1, 4))
@settings(deadline=None, max_examples=15)
def test_every_point_of_the_grid_has_scikit_learns_value(objective: str, seed: int, digits: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((members, 40, 2)).round(digits).astype(np.float32)
    scores[rng.random(scores.shape) < 0.05] = -0.0
    target = rng.integers(0, 2, (40, 2)).astype(np.float32)
    target[:2] = [[0, 1], [1, 0]]
    target[rng.random(target.shape) < 0.2] = np.nan
    grid = simplex_grid(members, 4)
    order = rng.permutation(len(grid))
    found = evaluate(grid[order], Validation.stacked(scores, target), objective)
    for row, k in itertools.product(range(len(grid)), range(2)):
        known = ~np.isnan(target[:, k])
        if len(set(target[known, k])) == 2:
            expected = ORACLES[objective](target[known, k], mixed(grid[order][row], scores)[known, k])
            assert found.value[row, k] == pytest.approx(expected, abs=1e-12)


def one_finding(scores: list[list[float]], target: list[float]) -> Validation:
    return Validation.stacked(np.array(scores, np.float32)[:, :, None], np.array(target, np.float32)[:, None])


def test_neighbouring_float32_scores_are_no_tie_and_equal_ones_are_half() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    for scores, expected in (([low, high], 1.0), ([high, low], 0.0), ([low, low], 0.5), ([0.0, 1.0], 1.0)):
        assert evaluate(np.array([[1.0]]), one_finding([scores], [0, 1])).value.tolist() == [[expected]]


@pytest.mark.parametrize("target", [[0, 0, np.nan], [1, 1, np.nan], [np.nan] * 3])
def test_a_finding_without_both_classes_has_no_rank_metric(target: list[float]) -> None:
    data, weights = one_finding([[0.5] * 3] * 2, target), np.array([[0.5, 0.5]])
    for objective in ("macro_auroc", "average_precision"):
        assert np.isnan(evaluate(weights, data, objective).value).all()
    assert np.isnan(evaluate(weights, data, "brier").value[0, 0]) == bool(np.isnan(target).all())


def test_only_the_given_findings_are_evaluated() -> None:
    rng = np.random.default_rng(0)
    data = Validation.stacked(rng.random((2, 30, 3)).astype(np.float32), rng.integers(0, 2, (30, 3)).astype(np.float32))
    whole, part = (evaluate(simplex_grid(2, 3), data, findings=some) for some in (None, [1]))
    np.testing.assert_array_equal(part.value[:, 1], whole.value[:, 1])
    assert np.isnan(part.value[:, [0, 2]]).all() and np.isnan(part.macro).sum() == 0


def test_macro_is_undefined_where_a_finding_was_not_evaluated() -> None:
    seen = Landscape(np.eye(2), np.array([[0.5, 0.7, np.nan], [0.9, np.nan, np.nan]]))
    np.testing.assert_allclose(seen.macro, [0.6, np.nan])
    assert Landscape(np.eye(2), np.full((2, 2), np.nan)).macro.tolist() == [0, 0]


def test_of_equal_values_the_weights_nearest_to_equal_ones_win() -> None:
    weights = np.array([[1, 0], [0.6, 0.4], [0, 1], [0.3, 0.7]])
    assert best_row(weights, np.array([0.8, 0.8, 0.8 + 1e-14, np.nan])) == 1

"""Methods that learn nothing against loops and SciPy, invariances of all methods, and invalid options."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from cxr.ensemble.combine import (
    Average,
    Geometric,
    Greedy,
    HardVote,
    MaxVote,
    Method,
    RankAverage,
    Stacking,
    Weighted,
    baselines,
)
from cxr.ensemble.method import Fit
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError

ALL: list[Callable[[], Method]] = [
    MaxVote, HardVote, Average, RankAverage, Geometric, Weighted, Stacking,
    lambda: Weighted("per_finding"), lambda: Weighted(search="greedy"), lambda: Weighted(search="coordinate"),
    lambda: Weighted(objective="average_precision"), lambda: Weighted(objective="brier"), lambda: Greedy(bags=0),
]  # fmt: skip


def drawn(members: int = 3, images: int = 200, findings: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (rng.random((images, findings)) < 0.4).astype(np.float32)
    noise = rng.normal(size=(members, images, findings)) * (1 + np.arange(members))[:, None, None]
    scores = (1 / (1 + np.exp(-noise - 1.5 * target))).astype(np.float32)
    target[rng.random(target.shape) < 0.1] = np.nan
    return scores, target


def combined(method: Method, scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    data = Validation.stacked(scores, target)
    return apply(method, data, method.fit(data))


def apply(method: Method, data: Validation, fit: Fit) -> np.ndarray:
    return np.stack([method.combine(data.scores[k], fit, k) for k in range(len(data.findings))], axis=1)


def test_votes_and_means_are_those_of_each_image() -> None:
    scores, target = drawn()
    for i, k in itertools.product(range(scores.shape[1]), range(scores.shape[2])):
        values = [float(v) for v in scores[:, i, k]]
        odds = math.prod(v / (1 - v) for v in values) ** (1 / 3)
        expected = {
            MaxVote: max(values), Average: sum(values) / 3, HardVote: sum(v >= 0.5 for v in values) / 3,
            Geometric: odds / (1 + odds),
        }  # fmt: skip
        if i < 20:
            for kind, value in expected.items():
                assert combined(kind(), scores, target)[i, k] == pytest.approx(value, abs=1e-6), kind


def test_rank_average_is_the_mean_of_scipys_midranks() -> None:
    scores, target = drawn()
    scores = scores.round(1)  # many ties
    expected = np.mean([(rankdata(member, axis=0) - 0.5) / scores.shape[1] for member in scores], axis=0)
    np.testing.assert_allclose(combined(RankAverage(), scores, target), expected, atol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([0.2, 1.0, 3.0]))
@settings(deadline=None, max_examples=25)
def test_rank_average_depends_only_on_the_order_of_each_member(seed: int, power: float) -> None:
    scores, target = drawn(images=30, seed=seed)
    scores = scores.round(2)
    bent = scores.copy()
    bent[1] = (scores[1].astype(np.float64) ** power * 0.5).astype(np.float32)
    np.testing.assert_array_equal(combined(RankAverage(), bent, target), combined(RankAverage(), scores, target))


def test_geometric_weights_are_powers_of_the_odds() -> None:
    scores, target = drawn(2)
    a, b = scores.astype(np.float64)
    odds = (a / (1 - a)) ** 0.75 * (b / (1 - b)) ** 0.25
    np.testing.assert_allclose(combined(Geometric([3, 1]), scores, target), odds / (1 + odds), atol=1e-6)


def test_geometric_is_finite_and_undecided_between_a_certain_yes_and_a_certain_no() -> None:
    scores = np.array([[[0.0], [1.0], [0.0]], [[1.0], [1.0], [0.0]]], np.float32)
    mixed = combined(Geometric(), scores, np.zeros((3, 1), np.float32))
    np.testing.assert_allclose(mixed[:, 0], [0.5, 1, 0], atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_the_order_of_members_changes_nothing_but_the_order_of_weights(make: Callable[[], Method]) -> None:
    scores, target = drawn(seed=4)
    order = np.array([2, 0, 1])
    one, other = make(), make()
    a, b = Validation.stacked(scores, target), Validation.stacked(scores[order], target)
    first, second = one.fit(a), other.fit(b)
    np.testing.assert_allclose(apply(other, b, second), apply(one, a, first), atol=1e-6)
    if first.weights is not None and second.weights is not None:
        np.testing.assert_allclose(second.weights, first.weights[:, order], atol=1e-9)
    if first.coefficients is not None and second.coefficients is not None:
        np.testing.assert_allclose(second.coefficients[:, :-1], first.coefficients[:, :-1][:, order], atol=1e-5)


@pytest.mark.parametrize("make", ALL)
def test_the_order_of_images_changes_nothing(make: Callable[[], Method]) -> None:
    scores, target = drawn(seed=5)
    order = np.random.default_rng(0).permutation(scores.shape[1])
    patient = [f"p{i:03}" for i in range(scores.shape[1])]
    method = make()
    a = Validation.stacked(scores, target, patient)
    b = Validation.stacked(scores[:, order], target[order], [patient[i] for i in order])
    np.testing.assert_allclose(apply(method, b, method.fit(b)), apply(method, a, method.fit(a))[order], atol=1e-6)


@pytest.mark.parametrize("make", [m for m in ALL if m not in (HardVote, RankAverage, Stacking)])
def test_an_ensemble_of_the_same_member_is_that_member(make: Callable[[], Method]) -> None:
    scores, target = drawn(1, seed=6)
    np.testing.assert_allclose(combined(make(), np.repeat(scores, 3, axis=0), target), scores[0], atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_scores_stay_within_zero_and_one_and_are_float32(make: Callable[[], Method]) -> None:
    scores, target = drawn(seed=7)
    scores[:, :5], scores[:, 5:9], scores[0, 9:12] = 0, 1, -0.0
    mixed = combined(make(), scores, target)
    assert mixed.dtype == np.float32 and mixed.shape == target.shape
    assert np.isfinite(mixed).all() and mixed.min() >= 0 and mixed.max() <= 1


@pytest.mark.parametrize("make", ALL)
def test_a_score_that_is_no_number_is_refused(make: Callable[[], Method]) -> None:
    scores, target = drawn()
    target[7] = 1
    scores[1, 7, 0] = np.nan
    with pytest.raises(ValueError, match="score is NaN"):
        combined(make(), scores, target)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Weighted, {"weights": "mine"}, "method.weights=mine is unknown; choose shared or per_finding"),
        (Weighted, {"search": "gradient"}, "choose grid, greedy, coordinate, differential_evolution"),
        (
            Weighted,
            {"objective": "auc"},
            "method.objective=auc is unknown; choose macro_auroc, average_precision, brier",
        ),
        (Weighted, {"step": -0.05}, "method.step=-0.05 must be above 0 and divide 1"),
        (Weighted, {"step": 0.3}, "method.step=0.3 must be above 0 and divide 1"),
        (Weighted, {"step": True}, "method.step=True"),
        (Weighted, {"shrinkage": -1}, "method.shrinkage=-1"),
        (Weighted, {"max_work": "all"}, "method.max_work=all"),
        (Weighted, {"seed": 0.5}, "method.seed=0.5"),
        (Greedy, {"picks": 0}, "method.picks=0 must be a positive whole number"),
        (Greedy, {"bags": -1}, "method.bags=-1"),
        (Greedy, {"bag_share": 0}, "method.bag_share=0"),
        (Stacking, {"penalties": []}, "method.penalties"),
        (Stacking, {"penalties": [1, -1]}, "method.penalties"),
        (Stacking, {"min_positives": 1}, "method.min_positives=1"),
        (Geometric, {"weights": [1, -1]}, "must be numbers of 0 or more"),
        (Geometric, {"weights": [0, 0]}, "must be numbers of 0 or more"),
        (Geometric, {"weights": "equal"}, "must be numbers of 0 or more"),
    ],
)
def test_invalid_options_are_refused_with_the_valid_ones(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CxrError, match=re.escape(message)):
        make(**options)


def test_geometric_weights_for_another_number_of_members_are_refused() -> None:
    scores, target = drawn(3)
    with pytest.raises(CxrError, match="has 2 numbers for 3 members"):
        Geometric([1, 2]).fit(Validation.stacked(scores, target))


def test_baselines_are_the_methods_without_parameters_other_than_the_method_itself() -> None:
    assert [other.label for other in baselines(Weighted())] == ["average", "max vote", "hard vote"]
    assert [other.label for other in baselines(MaxVote())] == ["average", "hard vote"]

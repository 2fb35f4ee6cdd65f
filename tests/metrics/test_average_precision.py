"""Average precision and the averages over findings, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.auroc import auroc, average_precision, micro_auroc, prevalence_weighted

NAN = float("nan")
rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(0, 8)), min_size=2, max_size=40)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[t] for t, _ in pairs]), np.array([[s / 8] for _, s in pairs], np.float32)


def known(pairs: list[tuple[float, int]]) -> tuple[list[float], list[float]]:
    both = [(t, s / 8) for t, s in pairs if not math.isnan(t)]
    assume({t for t, _ in both} == {0.0, 1.0})
    return [t for t, _ in both], [s for _, s in both]


@given(rows)
def test_average_precision_is_that_of_scikit_learn_on_known_targets(pairs: list[tuple[float, int]]) -> None:
    assert average_precision(*columns(pairs))[0] == pytest.approx(average_precision_score(*known(pairs)), abs=1e-12)


@given(rows)
def test_increasing_map_of_scores_leaves_average_precision(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    np.testing.assert_array_equal(average_precision(target, np.exp(score)), average_precision(target, score))


def test_finding_with_an_empty_class_is_undefined_in_every_metric() -> None:
    target, score = [[1.0, 0.0, NAN]] * 3, [[0.1, 0.1, 0.1]] * 3
    for values in (auroc(target, score), average_precision(target, score)):
        assert np.isnan(values).tolist() == [True] * 3


def test_micro_pools_all_known_cells() -> None:
    rng = np.random.default_rng(0)
    target, score = (rng.random((200, 3)) < [0.5, 0.1, 0.0]).astype(float), rng.random((200, 3)).round(1)
    target[rng.random(target.shape) < 0.2] = NAN
    seen = ~np.isnan(target)
    assert micro_auroc(target, score) == pytest.approx(roc_auc_score(target[seen], score[seen]), abs=1e-12)
    assert np.isnan(micro_auroc(np.zeros((3, 2)), np.zeros((3, 2))))


def test_prevalence_weighted_is_that_of_scikit_learn_and_leaves_out_what_is_undefined() -> None:
    rng = np.random.default_rng(1)
    target, score = (rng.random((200, 3)) < [0.5, 0.1, 0.0]).astype(float), rng.random((200, 3))
    expected = roc_auc_score(target[:, :2], score[:, :2], average="weighted")
    assert prevalence_weighted(auroc(target, score), target) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(prevalence_weighted([NAN], np.zeros((4, 1))))


def test_auroc_agrees_with_scikit_learn_at_scale_in_both_precisions() -> None:
    rng = np.random.default_rng(2)
    target = (rng.random((20_000, 3)) < [0.1, 0.01, 0.5]).astype(np.float32)
    score = (1 / (1 + np.exp(3 - rng.normal(size=target.shape) - target))).astype(np.float32)
    for few in (score, score.round(2), score.round(1)):
        expected = [roc_auc_score(target[:, k], few[:, k]) for k in range(3)]
        np.testing.assert_allclose(auroc(target, few), expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(auroc(target, few.astype(np.float64)), auroc(target, few))


def test_zeros_of_both_signs_tie_and_infinity_is_a_score() -> None:
    score = np.array([[-0.0], [0.0], [np.inf], [0.5]], np.float32)
    assert auroc([[1.0], [0.0], [NAN], [NAN]], score).tolist() == [0.5]
    assert auroc([[0.0], [0.0], [1.0], [NAN]], score).tolist() == [1.0]
    assert auroc([[0.0], [NAN], [1.0], [1.0]], score).tolist() == [1.0]


@pytest.mark.parametrize("invalid", [2.0, -1.0, 0.5, np.inf])
def test_target_that_is_no_label_is_refused(invalid: float) -> None:
    for metric in (auroc, average_precision):
        with pytest.raises(ValueError, match="must be 0, 1 or NaN"):
            metric([[0.0], [1.0], [invalid]], [[0.1], [0.2], [0.3]])


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint8])
def test_targets_without_nan_may_be_whole_numbers(kind: type) -> None:
    assert auroc(np.array([[0], [1], [1]], kind), np.array([[0.1], [0.3], [0.05]], np.float32)).tolist() == [0.5]


def test_memory_layout_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    target, score = (rng.random((60, 4)) < 0.5).astype(np.float32), rng.random((60, 4), np.float32)
    plain = auroc(target, score)
    np.testing.assert_array_equal(auroc(target, np.asfortranarray(score)), plain)
    np.testing.assert_array_equal(auroc(target[:, ::2], score[:, ::2]), plain[::2])

"""AUROC against scikit-learn and against counting pairs, and its invariances."""

import doctest
import importlib
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.auroc import auroc, macro

NAN = float("nan")
# Few distinct scores, so that ties are many; NaN targets among the known ones.
rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(-4, 4)), min_size=1, max_size=40)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores, both (N, 1)."""
    return np.array([[t] for t, _ in pairs]), np.array([[s / 8] for _, s in pairs], np.float32)


def both_classes(pairs: list[tuple[float, int]]) -> bool:
    return {0.0, 1.0} <= {t for t, _ in pairs if not math.isnan(t)}


def by_pairs(pairs: list[tuple[float, int]]) -> float:
    """The definition: the share of (positive, negative) pairs in order, ties counting half."""
    won = total = 0.0
    for t, s in pairs:
        for u, r in pairs:
            if t == 1 and u == 0:
                won += 1.0 if s > r else 0.5 if s == r else 0.0
                total += 1
    return won / total if total else NAN


@given(rows)
def test_auroc_is_the_share_of_ordered_pairs(pairs: list[tuple[float, int]]) -> None:
    np.testing.assert_allclose(auroc(*columns(pairs))[0], by_pairs(pairs), rtol=0, atol=1e-12)


@given(rows)
def test_auroc_agrees_with_scikit_learn_on_known_targets(pairs: list[tuple[float, int]]) -> None:
    assume(both_classes(pairs))
    known = [(t, s) for t, s in pairs if not math.isnan(t)]
    expected = roc_auc_score([t for t, _ in known], [s for _, s in known])
    assert auroc(*columns(pairs))[0] == pytest.approx(expected, abs=1e-12)


@given(rows)
def test_increasing_map_of_scores_changes_nothing(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    plain = auroc(target, score)
    np.testing.assert_array_equal(auroc(target, np.exp(score.astype(np.float64))), plain)
    np.testing.assert_array_equal(auroc(target, 3 * score - 7), plain)
    np.testing.assert_array_equal(auroc(target, score**3), plain)


@given(rows)
def test_complement_of_targets_or_of_scores_is_one_minus(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    plain = auroc(target, score)
    np.testing.assert_allclose(auroc(1 - target, score), 1 - plain, atol=1e-12)
    np.testing.assert_allclose(auroc(target, -score), 1 - plain, atol=1e-12)


@given(rows, st.randoms(use_true_random=False))
def test_order_of_images_changes_nothing(pairs: list[tuple[float, int]], random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    np.testing.assert_array_equal(auroc(*columns(shuffled)), auroc(*columns(pairs)))


@given(rows, st.lists(st.floats(0, 1, width=32), min_size=1, max_size=10))
def test_unknown_targets_change_nothing_for_any_score(pairs: list[tuple[float, int]], scores: list[float]) -> None:
    target, score = columns(pairs)
    more = np.array([[s] for s in [*scores, NAN]], np.float32)
    longer = auroc(np.vstack([target, np.full_like(more, NAN)]), np.vstack([score, more]))
    np.testing.assert_array_equal(longer, auroc(target, score))


@given(rows)
def test_undefined_exactly_where_a_class_is_empty(pairs: list[tuple[float, int]]) -> None:
    assert bool(np.isnan(auroc(*columns(pairs))[0])) != both_classes(pairs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_each_finding_has_its_own_auroc(dtype: type) -> None:
    rng = np.random.default_rng(1)
    target = (rng.random((3000, 4)) < [0.5, 0.1, 0.01, 0.9]).astype(dtype)
    score = (0.3 * target + rng.random((3000, 4))).astype(dtype)
    expected = [roc_auc_score(target[:, k], score[:, k].astype(np.float64)) for k in range(4)]
    np.testing.assert_allclose(auroc(target, score), expected, atol=1e-12)


def test_neighbouring_float32_scores_are_no_tie() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    assert auroc([[0.0], [1.0]], np.array([[low], [high]])).tolist() == [1.0]
    assert auroc([[0.0], [1.0]], np.array([[high], [low]])).tolist() == [0.0]


def test_all_scores_equal_is_a_half() -> None:
    assert auroc([[1.0], [0.0], [0.0]], [[0.2], [0.2], [0.2]]).tolist() == [0.5]


def test_nan_score_that_counts_is_refused() -> None:
    for label in (0.0, 1.0):
        with pytest.raises(ValueError, match="NaN"):
            auroc([[1.0], [0.0], [label]], [[0.1], [0.2], [NAN]])


@pytest.mark.parametrize("shapes", [((3, 2), (3, 1)), ((3, 2), (2, 2)), ((3,), (3,)), ((3, 1, 1), (3, 1, 1))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="must both be"):
        auroc(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_input_is_left_as_it_was() -> None:
    target, score = np.array([[1.0], [0.0], [1.0]]), np.array([[0.9], [0.1], [0.3]])
    auroc(target, score)
    assert score.tolist() == [[0.9], [0.1], [0.3]] and target.tolist() == [[1.0], [0.0], [1.0]]


def test_macro_leaves_out_what_is_undefined() -> None:
    assert macro([0.5, NAN, 0.75]) == 0.625
    assert macro([0.0, NAN]) == 0.0
    assert math.isnan(macro([NAN, NAN])) and math.isnan(macro([]))


def test_example_of_the_docstring_holds() -> None:
    result = doctest.testmod(importlib.import_module("cxr.metrics.auroc"))
    assert result.attempted > 0 and result.failed == 0

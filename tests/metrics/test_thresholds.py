"""Operating points against a search over all thresholds, and rates against scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (  # type: ignore[import-untyped]
    accuracy_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from cxr.errors import CxrError
from cxr.metrics.thresholds import choose_thresholds, confusion, rates
from tests.metrics.random_findings import NAN, findings

rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(0, 8)), min_size=2, max_size=30)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[t] for t, _ in pairs]), np.array([[s / 8] for _, s in pairs], np.float32)


def both_classes(pairs: list[tuple[float, int]]) -> bool:
    return {0.0, 1.0} <= {t for t, _ in pairs}


def at(pairs: list[tuple[float, int]], limit: float) -> tuple[float, float, float]:
    """Sensitivity, specificity and F1 by counting."""
    tp = sum(t == 1 and s / 8 >= limit for t, s in pairs)
    fp = sum(t == 0 and s / 8 >= limit for t, s in pairs)
    positives, negatives = sum(t == 1 for t, _ in pairs), sum(t == 0 for t, _ in pairs)
    return tp / positives, (negatives - fp) / negatives, 2 * tp / (tp + fp + positives)


def all_limits(pairs: list[tuple[float, int]]) -> list[float]:
    return [2.0, *sorted({s / 8 for t, s in pairs if t == t}, reverse=True)]


@given(rows.filter(both_classes))
def test_youden_and_f1_are_the_best_of_all_thresholds(pairs: list[tuple[float, int]]) -> None:
    sensitivity, specificity, _ = at(pairs, choose_thresholds(*columns(pairs), "youden")[0])
    best = max(sum(at(pairs, limit)[:2]) for limit in all_limits(pairs))
    assert sensitivity + specificity == pytest.approx(best)
    f1 = at(pairs, choose_thresholds(*columns(pairs), "f1")[0])[2]
    assert f1 == pytest.approx(max(at(pairs, limit)[2] for limit in all_limits(pairs)))


@given(rows.filter(both_classes), st.sampled_from([0.01, 0.2, 0.5, 0.8, 0.9, 1.0]))
def test_fixed_rate_is_kept_and_the_other_is_the_best_that_keeps_it(
    pairs: list[tuple[float, int]], at_least: float
) -> None:
    for rule, kept, other in (("sensitivity", 0, 1), ("specificity", 1, 0)):
        limit = choose_thresholds(*columns(pairs), rule, at_least)[0]
        found = at(pairs, limit)
        allowed = [at(pairs, one) for one in all_limits(pairs)]
        assert np.isfinite(limit) and found[kept] >= at_least
        assert found[other] == max(one[other] for one in allowed if one[kept] >= at_least)


def test_of_equal_thresholds_the_highest_is_chosen() -> None:
    target, score = np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([[0.8], [0.6], [0.4], [0.2]])
    assert choose_thresholds(target, score, "youden").tolist() == [0.8]
    target, score = np.array([[0.0], [1.0], [0.0]]), np.array([[0.6], [0.4], [0.2]])
    assert choose_thresholds(target, score, "specificity", 0.4).tolist() == [0.4]


def test_a_specificity_met_exactly_is_met() -> None:
    target, score = np.array([[0.0]] * 5 + [[1.0]]), np.array([[0.9], [0.8], [0.7], [0.6], [0.1], [0.2]])
    assert choose_thresholds(target, score, "specificity", 0.2).tolist() == [0.2]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_threshold_that_lets_no_image_pass_is_finite_and_lets_none_pass(kind: type) -> None:
    target, score = np.array([[0.0], [1.0]]), np.array([[0.7], [0.7]], kind)
    limit = choose_thresholds(target, score, "specificity", 1.0)
    assert 0.7 < limit[0] < 0.7001
    assert rates(target, score, limit)["specificity"].tolist() == [1.0]


def test_half_is_always_defined_and_the_others_need_both_classes() -> None:
    target, score = np.array([[1.0, NAN], [1.0, NAN]]), np.full((2, 2), 0.3)
    assert choose_thresholds(target, score, "half").tolist() == [0.5, 0.5]
    for rule, at_least in (("youden", None), ("f1", None), ("sensitivity", 0.9), ("specificity", 0.9)):
        assert np.isnan(choose_thresholds(target, score, rule, at_least)).all()


@pytest.mark.parametrize(
    ("rule", "at_least", "message"),
    [
        ("best", None, "'best' is unknown; choose one of half, youden, f1, sensitivity, specificity"),
        ("sensitivity", None, "need a value"),
        ("specificity", 1.5, "at_least=1.5"),
        ("youden", 0.9, "the others none"),
    ],
)
def test_impossible_rules_are_refused(rule: str, at_least: float | None, message: str) -> None:
    with pytest.raises(CxrError, match=message):
        choose_thresholds([[0.0], [1.0]], [[0.1], [0.2]], rule, at_least)


def test_rates_are_those_of_scikit_learn_on_known_targets() -> None:
    target, score, _ = findings(0)
    limits = np.array([0.2, 0.4, 0.45])
    found = rates(target, score, limits)
    for k, limit in enumerate(limits):
        known = ~np.isnan(target[:, k])
        t, called = target[known, k], score[known, k].astype(float) >= limit
        expected = {
            "accuracy": accuracy_score(t, called),
            "sensitivity": recall_score(t, called),
            "specificity": recall_score(t, called, pos_label=0),
            "ppv": precision_score(t, called),
            "npv": precision_score(t, called, pos_label=0),
            "f1": f1_score(t, called),
            "mcc": matthews_corrcoef(t, called),
        }
        assert {name: values[k] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def test_rates_are_nan_where_a_denominator_is_zero_and_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = rates([[NAN]], [[0.5]], 0.5)
        negatives = rates([[0.0], [0.0]], [[0.1], [0.2]], 0.5)
        no_threshold = rates([[0.0], [1.0]], [[0.1], [0.2]], [NAN])
    assert all(np.isnan(values[0]) for values in [*nothing.values(), *no_threshold.values()])
    defined = {name: values[0] for name, values in negatives.items() if not np.isnan(values[0])}
    assert defined == {"accuracy": 1, "specificity": 1, "npv": 1}


def test_score_at_the_threshold_is_positive() -> None:
    counts = confusion([[1.0], [0.0]], np.array([[0.3], [0.3]], np.float32), np.float32(0.3))
    assert [count.sum() for count in counts] == [1, 1, 0, 0]


def test_thresholds_of_a_wrong_number_and_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="one for each of 1 findings"):
        rates([[0.0]], [[0.1]], [0.1, 0.2])
    with pytest.raises(ValueError, match="score is NaN"):
        rates([[0.0]], [[NAN]], 0.5)

"""ROC and precision-recall curves against scikit-learn, and their ends, ties and areas."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]
from sklearn.metrics import precision_recall_curve as sklearn_precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

from cxr.metrics.curves import precision_recall_curve, roc_curve

NAN = float("nan")
rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(0, 8)), min_size=2, max_size=40)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([t for t, _ in pairs]), np.array([s / 8 for _, s in pairs], np.float32)


@given(rows)
def test_curve_is_that_of_scikit_learn_with_every_threshold(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    known = ~np.isnan(target)
    assume({0.0, 1.0} <= set(target[known]))
    expected = sklearn_roc_curve(target[known], score[known], drop_intermediate=False)
    for ours, theirs in zip(roc_curve(target, score), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@given(rows)
def test_area_under_the_curve_is_the_auroc(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    known = ~np.isnan(target)
    assume({0.0, 1.0} <= set(target[known]))
    fpr, tpr, _ = roc_curve(target, score)
    area = sum((fpr[i + 1] - fpr[i]) * (tpr[i + 1] + tpr[i]) / 2 for i in range(len(fpr) - 1))
    assert math.isclose(area, roc_auc_score(target[known], score[known]), abs_tol=1e-12)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


def test_hand_made_curve_with_a_tie() -> None:
    fpr, tpr, thresholds = roc_curve([1, 0, 1, NAN, 0], [0.9, 0.5, 0.5, 0.7, 0.1])
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]
    assert thresholds.tolist() == [np.inf, 0.9, 0.5, 0.1]


def test_rate_of_an_empty_class_is_nan_and_the_other_is_not() -> None:
    fpr, tpr, thresholds = roc_curve([1.0, 1.0], [0.2, 0.4])
    assert np.isnan(fpr).all() and tpr.tolist() == [0, 0.5, 1] and len(fpr) == len(thresholds) == 3
    fpr, tpr, _ = roc_curve([0.0, 0.0], [0.2, 0.2])
    assert np.isnan(tpr).all() and fpr.tolist() == [0, 1]


def test_nothing_known_is_one_undefined_point() -> None:
    fpr, tpr, thresholds = roc_curve([NAN, NAN], [0.2, 0.4])
    assert np.isnan(fpr).all() and np.isnan(tpr).all() and thresholds.tolist() == [np.inf]


@given(rows)
def test_precision_and_recall_are_those_of_scikit_learn(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    known = ~np.isnan(target)
    assume((target[known] == 1).any())
    precision, recall, thresholds = sklearn_precision_recall_curve(target[known], score[known])
    ours = precision_recall_curve(target, score)
    np.testing.assert_allclose(ours[0], precision[::-1], atol=1e-12)
    np.testing.assert_allclose(ours[1], recall[::-1], atol=1e-12)
    np.testing.assert_array_equal(ours[2], [np.inf, *thresholds[::-1]])


@given(rows)
def test_steps_under_the_precision_recall_curve_sum_to_the_average_precision(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    known = ~np.isnan(target)
    assume((target[known] == 1).any())
    precision, recall, _ = precision_recall_curve(target, score)
    area = sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))
    assert math.isclose(area, average_precision_score(target[known], score[known]), abs_tol=1e-12)


def test_recall_without_positives_is_nan_and_precision_is_zero() -> None:
    precision, recall, _ = precision_recall_curve([0.0, 0.0], [0.2, 0.4])
    assert precision.tolist() == [1, 0, 0] and np.isnan(recall).all()


def test_curve_through_a_nan_score_is_refused() -> None:
    for curve in (roc_curve, precision_recall_curve):
        with pytest.raises(ValueError, match="NaN"):
            curve([0.0, 1.0], [0.1, NAN])
        assert len(curve([0.0, 1.0, NAN], [0.1, 0.2, NAN])[0]) == 3

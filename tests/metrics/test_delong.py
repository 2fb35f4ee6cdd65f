"""DeLong's variance against the formulas of 1988 written out over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.delong import delong

NAN = float("nan")
rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(0, 6)), min_size=4, max_size=30)


def covariance(target: list[float], *scores: list[float]) -> tuple[list[float], np.ndarray]:
    """AUROCs and their covariance by structural components, pair by pair."""
    ones = [i for i, t in enumerate(target) if t == 1]
    zeros = [i for i, t in enumerate(target) if t == 0]
    kernels = [[[float(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for j in zeros] for i in ones] for s in scores]
    table = np.array(kernels)
    rows = np.atleast_2d(np.cov(table.mean(axis=2))) / len(ones)
    return table.mean(axis=(1, 2)).tolist(), rows + np.atleast_2d(np.cov(table.mean(axis=1))) / len(zeros)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[t] for t, _ in pairs], float), np.array([[s] for _, s in pairs], float)


def two_of_each(pairs: list[tuple[float, int]]) -> bool:
    labels = [t for t, _ in pairs]
    return labels.count(1.0) >= 2 and labels.count(0.0) >= 2


@given(rows.filter(two_of_each))
def test_value_and_variance_are_those_of_the_structural_components(pairs: list[tuple[float, int]]) -> None:
    target, score = columns(pairs)
    (area,), table = covariance(target[:, 0].tolist(), score[:, 0].tolist())
    found = delong(target, score)
    assert found.value[0] == pytest.approx(area, abs=1e-12)
    assert found.variance[0] == pytest.approx(table[0, 0], abs=1e-12)


def test_interval_is_the_delta_method_on_the_logit_scale() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((200, 1)) < 0.3).astype(float)
    score = rng.normal(size=(200, 1)) + target
    area = roc_auc_score(target, score)
    found = delong(target, score, level=0.9)
    error = np.sqrt(covariance(target[:, 0].tolist(), score[:, 0].tolist())[1][0, 0])
    ends = np.log(area / (1 - area)) + norm.ppf([0.05, 0.95]) * error / (area * (1 - area))
    np.testing.assert_allclose([found.low[0], found.high[0]], 1 / (1 + np.exp(-ends)), rtol=1e-9)


def test_increasing_maps_and_order_of_images_change_nothing() -> None:
    rng = np.random.default_rng(1)
    target, score = (rng.random((80, 2)) < 0.4).astype(float), rng.random((80, 2)).round(1)
    order = rng.permutation(80)
    np.testing.assert_allclose(delong(target, np.exp(score)).variance, delong(target, score).variance)
    np.testing.assert_allclose(delong(target[order], score[order]).variance, delong(target, score).variance)


def test_perfect_scores_have_no_interval() -> None:
    perfect = delong([[0.0], [0.0], [1.0], [1.0]], [[0.1], [0.2], [0.3], [0.4]])
    assert (perfect.value[0], perfect.variance[0]) == (1, 0) and np.isnan([perfect.low[0], perfect.high[0]]).all()


def test_too_few_images_of_a_class_leave_the_variance_undefined() -> None:
    target = np.array([[1.0, 0.0, NAN], [0.0, 0.0, 1.0], [0.0, 0.0, NAN]])
    score = np.array([[0.5, 0.1, 0.1], [0.1, 0.2, 0.2], [0.7, 0.1, 0.2]])
    found = delong(target, score)
    assert found.value[0] == 0.5 and np.isnan(found.value[1:]).all() and np.isnan(found.variance).all()


def test_nan_score_that_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        delong([[0.0], [1.0]], [[NAN], [0.1]])

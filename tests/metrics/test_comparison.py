"""Paired differences from the same resamples, their p-values, and Holm's correction by its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.errors import CxrError
from cxr.metrics.bootstrap import bootstrap_auroc, bootstrap_average_precision
from cxr.metrics.comparison import compare, holm
from cxr.metrics.interval import Resampling
from tests.metrics.random_findings import findings
from tests.metrics.test_delong import covariance

NAN = float("nan")
PLAN = Resampling(resamples=200, seed=5, keep=True)


@pytest.mark.parametrize(
    ("metric", "alone", "oracle"),
    [
        ("auroc", bootstrap_auroc, roc_auc_score),
        ("average_precision", bootstrap_average_precision, average_precision_score),
    ],
)
def test_both_models_are_evaluated_on_the_same_resamples(metric: str, alone, oracle) -> None:
    target, score, patient = findings(0)
    other = np.random.default_rng(1).random(score.shape, np.float32)
    found = compare(target, score, other, patient, metric, PLAN)
    ours, theirs = (alone(target, one, patient, PLAN).findings.resamples for one in (score, other))
    np.testing.assert_allclose(found.difference.findings.resamples, ours - theirs, atol=1e-12)
    for k in range(3):
        known = ~np.isnan(target[:, k])
        expected = oracle(target[known, k], score[known, k]) - oracle(target[known, k], other[known, k])
        assert found.difference.findings.value[k] == pytest.approx(expected, abs=1e-12)


def test_p_value_is_that_of_fishers_z_and_agrees_with_the_interval() -> None:
    target, score, patient = findings(2, prevalence=(0.4,) * 6)
    other = score + np.random.default_rng(3).normal(0, np.linspace(0.01, 0.5, 6), score.shape)
    found = compare(target, score, other, patient, plan=PLAN)
    parts = found.difference.findings
    expected = 2 * norm.sf(np.abs(np.arctanh(parts.value)) / np.arctanh(parts.resamples).std(axis=0, ddof=1))
    np.testing.assert_allclose(found.p, expected, rtol=1e-7)
    outside = (parts.low > 0) | (parts.high < 0)
    np.testing.assert_array_equal(found.p < 0.05, outside)
    assert outside.any() and not outside.all()
    whole = found.difference.macro
    z = np.arctanh(whole.value) / np.arctanh(whole.resamples).std(ddof=1)
    assert found.p_macro == pytest.approx(2 * norm.sf(abs(z)), rel=1e-7)


def test_exchanging_the_models_turns_the_sign_and_keeps_the_p_values() -> None:
    target, score, patient = findings(4)
    other = np.random.default_rng(5).random(score.shape)
    one, back = compare(target, score, other, patient, plan=PLAN), compare(target, other, score, patient, plan=PLAN)
    np.testing.assert_allclose(one.difference.findings.low, -back.difference.findings.high, atol=1e-12)
    np.testing.assert_allclose(one.p, back.p, rtol=1e-9)


def test_the_same_model_twice_is_no_difference_and_what_is_undefined_stays_so() -> None:
    target, score, patient = findings(6)
    target[:, 1] = 0
    found = compare(target, score, score, patient, plan=PLAN)
    assert found.p[[0, 2]].tolist() == [1, 1] and np.isnan(found.p[1]) and found.p_macro == 1
    assert np.isnan(found.p_holm[1]) and found.difference.macro.value == 0


def test_with_one_image_a_patient_it_agrees_with_delong() -> None:
    target, score, _ = findings(7, images=800, prevalence=(0.4, 0.2))
    other = score + np.random.default_rng(8).normal(0, 0.25, score.shape)
    found = compare(target, score, other, np.arange(800), plan=Resampling(2000))
    spread = (found.difference.findings.high - found.difference.findings.low) / (2 * norm.ppf(0.975))
    for k in range(2):
        known = ~np.isnan(target[:, k])
        areas, table = covariance(*(column[known, k].tolist() for column in (target, score, other)))
        assert found.difference.findings.value[k] == pytest.approx(areas[0] - areas[1], abs=1e-12)
        assert spread[k] == pytest.approx(np.sqrt(table[0, 0] + table[1, 1] - 2 * table[0, 1]), rel=0.08)


@given(st.lists(st.one_of(st.just(NAN), st.floats(0, 1)), max_size=8))
def test_holm_is_its_definition(p: list[float]) -> None:
    tested = sorted(value for value in p if not np.isnan(value))
    for value, corrected in zip(p, holm(p), strict=True):
        if np.isnan(value):
            assert np.isnan(corrected)
        else:
            steps = [min(1.0, (len(tested) - j) * tested[j]) for j in range(len(tested)) if tested[j] <= value]
            assert corrected == pytest.approx(max(steps))


def test_holm_of_a_published_kind_of_example() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_unknown_metric_is_refused_by_name() -> None:
    with pytest.raises(CxrError, match="'f1' cannot be compared; choose one of auroc, average_precision"):
        compare([[0.0], [1.0]], [[0.1], [0.2]], [[0.1], [0.2]], [1, 2], "f1")

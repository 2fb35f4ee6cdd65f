"""Resamples against scikit-learn on data where drawn patients are really repeated, and intervals by hand."""

import numpy as np
import pytest
from scipy.stats import norm  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score, matthews_corrcoef, recall_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.auroc import auroc
from cxr.metrics.bootstrap import (
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_mean,
    bootstrap_rates,
    draws,
)
from cxr.metrics.interval import Resampling, interval
from tests.metrics.random_findings import findings

NAN = float("nan")
PLAN = Resampling(resamples=25, seed=3, keep=True)


def drawn_images(patient: np.ndarray, plan: Resampling) -> list[np.ndarray]:
    """Image numbers of every resample, those of a patient as often as the patient was drawn."""
    names = sorted(set(patient))
    times = np.concatenate(list(draws(len(names), plan.resamples, plan.seed)))
    return [
        np.concatenate([np.flatnonzero(patient == name) for name, n in zip(names, row, strict=True) for _ in range(n)])
        for row in times
    ]


def one_by_one(metric, target: np.ndarray, score: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """(R, L) values of a scikit-learn metric on the repeated images; NaN where a class is missing."""
    rows = []
    for images in drawn_images(patient, PLAN):
        row = []
        for t, s in zip(target[images].T, score[images].T, strict=True):
            t, s = t[~np.isnan(t)], s[~np.isnan(t)]
            row.append(metric(t, s) if len(set(t)) == 2 else NAN)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(bootstrap_auroc, roc_auc_score), (bootstrap_average_precision, average_precision_score)],
)
def test_resamples_are_those_of_scikit_learn_on_repeated_images(ours, theirs, seed: int) -> None:
    target, score, patient = findings(seed, images=60, prevalence=(0.5, 0.1, 0.02, 0.0))
    target[:, 3] = 0
    found = ours(target, score, patient, PLAN)
    expected = one_by_one(theirs, target, score, patient)
    np.testing.assert_allclose(found.findings.resamples, expected, atol=1e-12)
    assert found.findings.undefined.tolist() == np.isnan(expected).sum(axis=0).tolist()
    assert 0 < found.findings.undefined[2] < 25 and found.findings.undefined[3] == 25
    np.testing.assert_allclose(found.macro.resamples, expected[:, :3].mean(axis=1), atol=1e-12)
    assert found.macro.undefined == np.isnan(expected[:, :3]).any(axis=1).sum()


def test_more_resamples_than_fit_a_chunk_begin_with_the_same_ones() -> None:
    target, score, patient = findings(4)
    few, many = (
        bootstrap_auroc(target, score, patient, Resampling(resamples, seed=3, keep=True)).findings.resamples
        for resamples in (25, 1500)
    )
    assert many.shape == (1500, 3)
    np.testing.assert_array_equal(many[:25], few)
    chunks = list(draws(3000, 500, 0))
    assert len(chunks) > 1
    np.testing.assert_array_equal(np.concatenate(chunks)[:5], next(draws(3000, 5, 0)))


def test_values_are_those_of_the_data() -> None:
    target, score, patient = findings(5)
    found = bootstrap_auroc(target, score, patient, PLAN)
    np.testing.assert_allclose(found.findings.value, auroc(target, score), atol=1e-15)
    assert found.macro.value == pytest.approx(auroc(target, score).mean())
    assert (found.findings.low < found.findings.value).all() and (found.findings.value < found.findings.high).all()


def test_rates_of_resamples_are_those_of_scikit_learn_on_repeated_images() -> None:
    target, score, patient = findings(6, images=90, prevalence=(0.5, 0.3), unknown=0.2)
    found = bootstrap_rates(target, score, [0.3, 0.5], patient, PLAN)
    for k, limit in enumerate((0.3, 0.5)):
        for name, theirs in (("sensitivity", recall_score), ("mcc", matthews_corrcoef)):
            expected = one_by_one(lambda t, s, f=theirs, c=limit: f(t, s >= np.float32(c)), target, score, patient)
            np.testing.assert_allclose(found[name].findings.resamples[:, k], expected[:, k], atol=1e-12)


def test_means_agree_with_repeated_images() -> None:
    _, score, patient = findings(7)
    values = np.where(score > 0.6, NAN, score.astype(np.float64))
    expected = np.array([np.nanmean(values[images], axis=0) for images in drawn_images(patient, PLAN)])
    np.testing.assert_allclose(bootstrap_mean(values, patient, PLAN).findings.resamples, expected, atol=1e-12)


def test_every_resample_has_as_many_patients_as_the_data() -> None:
    times = np.concatenate(list(draws(40, 500, seed=0)))
    assert times.shape == (500, 40) and (times.sum(axis=1) == 40).all() and times.min() == 0
    # Multinomial: variance of a count is 1 - 1/P, and two counts are correlated at -1/(P - 1).
    assert times.var() == pytest.approx(1 - 1 / 40, rel=0.05)


def test_same_seed_same_resamples_and_other_seed_others() -> None:
    one, same, other = (np.concatenate(list(draws(30, 5, seed))) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_interval_is_normal_on_the_logit_scale() -> None:
    resamples = np.random.default_rng(0).beta(30, 5, 400)
    found = interval(0.85, resamples, Resampling(level=0.9))
    logit = np.log(resamples / (1 - resamples))
    ends = np.log(0.85 / 0.15) + norm.ppf([0.05, 0.95]) * logit.std(ddof=1)
    np.testing.assert_allclose([found.low, found.high], 1 / (1 + np.exp(-ends)), rtol=1e-9)


def test_interval_of_a_correlation_is_that_of_fishers_z() -> None:
    resamples = np.tanh(np.random.default_rng(1).normal(-0.3, 0.2, 300))
    found = interval(-0.25, resamples, bounds=(-1.0, 1.0))
    ends = np.tanh(np.arctanh(-0.25) + norm.ppf([0.025, 0.975]) * np.arctanh(resamples).std(ddof=1))
    np.testing.assert_allclose([found.low, found.high], ends, rtol=1e-9)


def test_resamples_at_the_bound_stay_finite_and_the_interval_inside() -> None:
    found = interval(1.0, np.array([1.0, 1.0, 0.9, 1.0, 0.96]))
    assert 0.5 < found.low < 0.95 < found.high < 1
    found = interval(0.5, np.array([0.0, 1.0, 1.0]))
    assert 0 < found.low < 0.5 < found.high < 1


@pytest.mark.parametrize("resamples", [[1.0, 1.0, 1.0], [NAN, NAN, NAN], [NAN, 0.5, NAN]])
def test_resamples_that_do_not_vary_give_no_interval(resamples: list[float]) -> None:
    found = interval(1.0, np.array(resamples))
    assert found.value == 1 and np.isnan(found.low) and np.isnan(found.high)
    assert found.undefined == np.isnan(resamples).sum() and found.resamples is None


def test_nothing_defined_gives_no_value() -> None:
    found = bootstrap_auroc(np.zeros((4, 2)), np.zeros((4, 2)), [1, 1, 2, 2], PLAN)
    assert np.isnan(found.findings.value).all() and np.isnan(found.macro.value) and found.macro.undefined == 25


@pytest.mark.parametrize("plan", [{"level": 0.0}, {"level": 1.0}, {"level": 95}, {"resamples": 1}])
def test_impossible_plans_are_refused(plan: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="level="):
        Resampling(**plan)


def test_patients_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match="one id for each of 2 images"):
        bootstrap_auroc(np.zeros((2, 1)), np.zeros((2, 1)), ["a"])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_auroc(np.zeros((0, 1)), np.zeros((0, 1)), [])

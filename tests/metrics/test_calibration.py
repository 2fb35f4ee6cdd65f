"""Brier score and calibration error against scikit-learn, torchmetrics and loops over bins."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]
from sklearn.metrics import brier_score_loss  # type: ignore[import-untyped]
from torchmetrics.functional.classification import binary_calibration_error

from cxr.metrics.calibration import (
    bootstrap_calibration_error,
    brier,
    expected_calibration_error,
    reliability_bins,
)
from cxr.metrics.interval import Resampling
from tests.metrics.random_findings import NAN, findings
from tests.metrics.test_bootstrap import drawn_images


def known(target: np.ndarray, score: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    seen = ~np.isnan(target[:, k])
    return target[seen, k].astype(float), score[seen, k].astype(float)


def test_brier_is_that_of_scikit_learn_on_known_targets() -> None:
    target, score, _ = findings(0)
    expected = [brier_score_loss(*known(target, score, k)) for k in range(3)]
    np.testing.assert_allclose(brier(target, score), expected, atol=1e-12)


def test_brier_and_error_are_nan_where_nothing_is_known() -> None:
    target, score = np.array([[NAN, 1.0]]), np.array([[0.5, 0.75]])
    assert np.isnan(brier(target, score)[0]) and brier(target, score)[1] == 0.0625
    error = expected_calibration_error(target, score)
    assert np.isnan(error[0]) and error[1] == 0.25
    assert [len(diagram.images) for diagram in reliability_bins(target, score, [0])] == [0, 1]


def test_diagrams_are_the_quantile_bins_of_scikit_learn_with_wilson_intervals() -> None:
    rng = np.random.default_rng(1)
    score = rng.random((1000, 1))
    target = (rng.random((1000, 1)) < score**2).astype(float)
    prevalence, mean = calibration_curve(target[:, 0], score[:, 0], n_bins=10, strategy="quantile")
    (diagram,) = reliability_bins(target, score, np.arange(1000))
    np.testing.assert_allclose(diagram.prevalence, prevalence, atol=1e-12)
    np.testing.assert_allclose(diagram.score, mean, atol=1e-12)
    assert diagram.images.tolist() == [100] * 10
    for share, low, high in zip(prevalence, diagram.low, diagram.high, strict=True):
        expected = binomtest(round(100 * share), 100).proportion_ci(0.95, "wilson")
        assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)


def test_images_of_one_patient_widen_the_intervals_of_a_diagram() -> None:
    score, target = np.full((100, 1), 0.5), (np.arange(100)[:, None] % 2).astype(float)
    one, four = (reliability_bins(target, score, np.arange(100) // images)[0] for images in (1, 4))
    expected = binomtest(round(25 * 0.5 + 0.5), 25).proportion_ci(0.95, "wilson")
    assert four.low[0] < one.low[0] < one.high[0] < four.high[0]
    assert four.high[0] - four.low[0] == pytest.approx(expected[1] - expected[0], rel=0.01)


def test_bins_of_a_diagram_hold_at_least_80_images_and_equal_scores_share_one() -> None:
    score = np.r_[np.full(300, 0.2), np.linspace(0.3, 0.9, 120)][:, None]
    (diagram,) = reliability_bins(np.zeros((420, 1)), score, np.arange(420))
    assert diagram.images.sum() == 420 and diagram.images.min() >= 80
    assert diagram.score[0] == pytest.approx(0.2) and diagram.images[0] == 300
    (single,) = reliability_bins(np.zeros((79, 1)), np.linspace(0, 1, 79)[:, None], np.arange(79))
    assert single.images.tolist() == [79]


@pytest.mark.parametrize("bins", [5, 15])
def test_error_of_equal_width_is_that_of_a_loop_and_of_torchmetrics(bins: int) -> None:
    target, score, _ = findings(2)
    score = (score * 0.98 + 0.005).astype(np.float32)
    for k, found in enumerate(expected_calibration_error(target, score, bins)):
        t, s = known(target, score, k)
        loop = 0.0
        for b in range(bins):
            inside = (s >= b / bins) & (s < (b + 1) / bins)
            if inside.any():
                loop += inside.mean() * abs(s[inside].mean() - t[inside].mean())
        assert found == pytest.approx(loop, abs=1e-12)
    t, s = known(target, score, 0)
    t[s < 0.5] = 0  # torchmetrics bins the confidence in the decision; for scores from 0.5 on, it is the score
    t, s = t[s >= 0.5], s[s >= 0.5]
    theirs = binary_calibration_error(torch.tensor(s), torch.tensor(t).int(), n_bins=bins, norm="l1")
    assert expected_calibration_error(t[:, None], s[:, None], bins)[0] == pytest.approx(float(theirs), abs=1e-6)


def test_one_belongs_to_the_last_bin() -> None:
    assert expected_calibration_error([[1.0], [0.0]], [[1.0], [0.95]], 10).tolist() == [pytest.approx(0.475)]


def test_resamples_of_the_error_are_those_of_repeated_images() -> None:
    target, score, patient = findings(4)
    plan = Resampling(resamples=10, seed=2, keep=True)
    found = bootstrap_calibration_error(target, score, patient, plan, bins=8)
    expected = [expected_calibration_error(target[some], score[some], 8) for some in drawn_images(patient, plan)]
    np.testing.assert_allclose(found.findings.resamples, expected, atol=1e-12)
    np.testing.assert_allclose(found.findings.value, expected_calibration_error(target, score, 8), atol=1e-12)


@pytest.mark.parametrize("invalid", [-0.01, 1.5, NAN])
def test_score_that_is_no_probability_is_refused_where_it_counts(invalid: float) -> None:
    for metric in (brier, expected_calibration_error):
        with pytest.raises(ValueError, match="probability"):
            metric([[1.0], [0.0]], [[0.5], [invalid]])
        assert not np.isnan(metric([[1.0], [NAN]], [[0.5], [invalid]])).any()

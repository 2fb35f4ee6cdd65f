"""Brier score and calibration error against scikit-learn, torchmetrics and loops over bins."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]
from sklearn.metrics import brier_score_loss  # type: ignore[import-untyped]
from torchmetrics.functional.classification import binary_calibration_error

from cxr.errors import CxrError
from cxr.metrics.bootstrap import Resampling
from cxr.metrics.calibration import (
    bootstrap_calibration_error,
    brier,
    expected_calibration_error,
    reliability_curves,
)
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
    for equal in ("width", "mass"):
        error = expected_calibration_error(target, score, equal=equal)
        assert np.isnan(error[0]) and error[1] == 0.25
    assert len(reliability_curves(target, score)[0].images) == 0


@pytest.mark.parametrize(("equal", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_curves_are_those_of_scikit_learn(equal: str, strategy: str) -> None:
    rng = np.random.default_rng(1)
    score = rng.random((500, 1))  # without ties and without scores on an edge, where the two cut alike
    target = (rng.random((500, 1)) < score**2).astype(float)
    prevalence, mean = calibration_curve(target[:, 0], score[:, 0], n_bins=7, strategy=strategy)
    (curve,) = reliability_curves(target, score, 7, equal)
    np.testing.assert_allclose(curve.prevalence, prevalence, atol=1e-12)
    np.testing.assert_allclose(curve.score, mean, atol=1e-12)
    assert curve.images.sum() == 500


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


def test_bins_of_equal_mass_hold_equally_many_images() -> None:
    rng = np.random.default_rng(3)
    target, score = (rng.random((1000, 1)) < 0.1).astype(float), rng.random((1000, 1)) ** 4
    (curve,) = reliability_curves(target, score, 10, "mass")
    assert curve.images.tolist() == [100] * 10


def test_equal_scores_share_a_bin_however_many_there_are() -> None:
    target, score = np.array([[0.0], [1.0], [0.0], [1.0], [1.0]]), np.array([[0.2], [0.2], [0.2], [0.2], [0.9]])
    (curve,) = reliability_curves(target, score, 4, "mass")
    assert curve.score.tolist() == pytest.approx([0.2, 0.9]) and curve.images.tolist() == [4, 1]


def test_one_belongs_to_the_last_bin() -> None:
    (curve,) = reliability_curves([[1.0], [0.0]], [[1.0], [0.95]], 10)
    assert curve.images.tolist() == [2] and curve.prevalence.tolist() == [0.5]


def test_resamples_of_the_error_are_those_of_repeated_images() -> None:
    target, score, patient = findings(4)
    plan = Resampling(resamples=10, seed=2, keep=True)
    found = bootstrap_calibration_error(target, score, patient, plan, bins=8)
    expected = [expected_calibration_error(target[some], score[some], 8) for some in drawn_images(patient, plan)]
    np.testing.assert_allclose(found.findings.resamples, expected, atol=1e-12)
    np.testing.assert_allclose(found.findings.value, expected_calibration_error(target, score, 8), atol=1e-12)
    mass = bootstrap_calibration_error(target, score, patient, plan, bins=8, equal="mass")
    np.testing.assert_allclose(mass.findings.value, expected_calibration_error(target, score, 8, "mass"), atol=1e-12)


@pytest.mark.parametrize("strange", [-0.01, 1.5, NAN])
def test_score_that_is_no_probability_is_refused_where_it_counts(strange: float) -> None:
    for metric in (brier, expected_calibration_error):
        with pytest.raises(ValueError, match="probability"):
            metric([[1.0], [0.0]], [[0.5], [strange]])
        assert not np.isnan(metric([[1.0], [NAN]], [[0.5], [strange]])).any()


@pytest.mark.parametrize(("bins", "equal"), [(0, "width"), (5, "height")])
def test_impossible_bins_are_refused(bins: int, equal: str) -> None:
    with pytest.raises(CxrError, match="bins must be at least 1 and equal one of width, mass"):
        reliability_curves([[1.0]], [[0.5]], bins, equal)

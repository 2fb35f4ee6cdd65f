"""Temperature and Platt scaling against scikit-learn and SciPy, and what they leave unchanged."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from cxr.metrics.auroc import auroc
from cxr.metrics.calibration import expected_calibration_error
from cxr.metrics.scaling import fit_platt, fit_temperature
from tests.metrics.random_findings import NAN


def overconfident(seed: int, images: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Two findings whose true logits are half of what the scores say, and one lower; a tenth unknown."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-2, 1.5, (images, 2))
    truth = 1 / (1 + np.exp(-(0.5 * logit - [0.0, 1.0])))
    target = np.where(rng.random((images, 2)) < 0.1, NAN, (rng.random((images, 2)) < truth).astype(float))
    return target, (1 / (1 + np.exp(-logit))).astype(np.float32)


def logits(score: np.ndarray) -> np.ndarray:
    return np.log(score.astype(float)) - np.log1p(-score.astype(float))


def test_platt_is_the_logistic_regression_of_scikit_learn() -> None:
    target, score = overconfident(0)
    found = fit_platt(target, score, ["Mass", "Edema"])
    for k in range(2):
        seen = ~np.isnan(target[:, k])
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
            logits(score[seen, k])[:, None], target[seen, k]
        )
        assert found.slope[k] == pytest.approx(model.coef_[0, 0], rel=1e-4)
        assert found.intercept[k] == pytest.approx(model.intercept_[0], rel=1e-4)
        expected = model.predict_proba(logits(score[:, k])[:, None])[:, 1]
        np.testing.assert_allclose(found.apply(score)[:, k], expected, atol=1e-5)


def test_temperature_is_the_least_log_loss_that_scipy_finds() -> None:
    target, score = overconfident(1)
    found = fit_temperature(target, score, ["Mass", "Edema"])
    for k in range(2):
        seen = ~np.isnan(target[:, k])
        z, t = logits(score[seen, k]), target[seen, k]
        best = minimize_scalar(lambda a, z=z, t=t: np.mean(np.logaddexp(0, a * z) - t * a * z), bounds=(0.01, 5))
        assert found.slope[k] == pytest.approx(best.x, abs=1e-4) and found.intercept[k] == 0


def test_scaling_improves_calibration_on_new_images_and_keeps_the_order() -> None:
    found = fit_platt(*overconfident(2), ["Mass", "Edema"])
    target, score = overconfident(3)
    scaled = found.apply(score)
    before, after = expected_calibration_error(target, score), expected_calibration_error(target, scaled)
    assert (after < 0.5 * before).all() and min(found.slope) > 0
    np.testing.assert_array_equal(auroc(target, scaled), auroc(target, score))


def test_nearly_certain_scores_stay_finite_and_in_order() -> None:
    target, score = overconfident(4)
    score[:4, 0] = [0.0, 1.0, 1e-30, 1 - 2.0**-24]
    scaled = fit_platt(target, score, ["Mass", "Edema"]).apply(score)[:4, 0]
    assert scaled[0] == 0 and scaled[1] == 1 and 0 < scaled[2] < scaled[3] < 1


@pytest.mark.parametrize("fit", [fit_platt, fit_temperature])
def test_findings_that_cannot_be_fitted_are_left_unchanged_and_listed(fit) -> None:
    target, score = overconfident(5, 400)
    seen = np.nan_to_num(target[:, 0])
    targets = np.stack([target[:, 1], np.zeros(400), np.ones(400), np.full(400, NAN), seen, 1 - seen], axis=1)
    split = np.where(seen == 1, 0.9, 0.1)
    scores = np.stack([score[:, 1], *[score[:, 0]] * 3, split, split], axis=1)
    names = ["fitted", "absent", "present", "unknown", "separated", "reversed"]
    found = fit(targets, scores, names)
    assert found.identity == ("absent", "present", "unknown", "separated", "reversed")
    np.testing.assert_array_equal(found.apply(scores)[:, 1:], scores[:, 1:].astype(np.float64))
    assert not np.allclose(found.apply(scores)[:, 0], scores[:, 0], atol=1e-3)


def test_classes_that_touch_at_one_score_only_are_separable() -> None:
    target, score = [[0.0], [0.0], [1.0], [1.0]], [[0.1], [0.4], [0.4], [0.8]]
    assert fit_platt(target, score, ["Mass"]).identity == ("Mass",)
    assert fit_platt([[0.0], [1.0], [0.0], [1.0]], [[0.3]] * 4, ["Mass"]).identity == ("Mass",)


def test_scores_worse_than_chance_have_no_temperature_and_a_falling_platt_line() -> None:
    target, score = overconfident(6)
    assert fit_temperature(1 - target, score, ["Mass", "Edema"]).identity == ("Mass", "Edema")
    assert max(fit_platt(1 - target, score, ["Mass", "Edema"]).slope) < 0


def test_plain_form_is_json_and_contains_every_number() -> None:
    found = fit_platt(*overconfident(7, 300), ["Mass", "Edema"])
    plain = json.loads(json.dumps(found.as_plain()))
    assert plain["slope"] == list(found.slope) and plain["intercept"] == list(found.intercept)
    assert (plain["method"], plain["findings"], plain["identity"]) == ("platt", ["Mass", "Edema"], [])


def test_scores_of_another_width_or_range_are_refused() -> None:
    found = fit_temperature(*overconfident(9, 300), ["Mass", "Edema"])
    with pytest.raises(ValueError, match=r"must be \(N, 2\)"):
        found.apply(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="not logits"):
        found.apply(np.full((3, 2), 1.5))

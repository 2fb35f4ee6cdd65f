"""Stacking: cross-fitted scores against SciPy, folds of patients, and findings with few positives."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.special import logit as scipy_logit
from sklearn.metrics import log_loss  # type: ignore[import-untyped]

from cxr.ensemble.combine import Stacking
from cxr.ensemble.splits import Validation
from cxr.ensemble.stacking import FOLDS, patient_folds


def drawn(images: int = 600, members: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores (M, N, 1), targets (N, 1) and patients of three images each."""
    rng = np.random.default_rng(seed)
    target = (rng.random((images, 1)) < 0.25).astype(np.float32)
    noise = rng.normal(size=(members, images, 1)) * (1 + np.arange(members))[:, None, None]
    scores = expit(-1 + noise + 1.5 * target).astype(np.float32)
    return scores, target, [f"p{i // 3:03}" for i in range(images)]


def test_folds_keep_patients_together_and_share_out_the_positives() -> None:
    _, target, patient = drawn()
    names = np.array(patient, object)
    fold = patient_folds(names, target[:, 0], 0)
    assert set(fold) == set(range(FOLDS))
    assert all(len(set(fold[names == name])) == 1 for name in set(patient))
    positives = [len(set(names[(fold == f) & (target[:, 0] == 1)])) for f in range(FOLDS)]
    assert max(positives) - min(positives) <= 1
    order = np.random.default_rng(0).permutation(len(names))
    np.testing.assert_array_equal(patient_folds(names[order], target[order, 0], 0), fold[order])


def test_validation_scores_come_from_fits_that_have_not_seen_the_patient() -> None:
    scores, target, patient = drawn()
    data = Validation.stacked(scores, target, patient)
    method = Stacking(penalties=[10], seed=4)
    fit = method.fit(data)
    fold = patient_folds(data.patient, target[:, 0], 4)
    design = scipy_logit(scores[:, :, 0].astype(np.float64)).T
    assert fit.validation_scores is not None
    for f in range(FOLDS):
        # a prior mean of 1 / M is a shift of the coefficients: the rest is an ordinary ridge penalty
        inside, prior = fold != f, np.full(3, 1 / 3)

        def loss(beta: np.ndarray, inside: np.ndarray = inside, prior: np.ndarray = prior) -> float:
            linear = design[inside] @ beta[:3] + beta[3]
            sign = 1 - 2 * target[inside, 0].astype(np.float64)
            return float(np.logaddexp(0, sign * linear).sum() + 5 * ((beta[:3] - prior) ** 2).sum())

        beta = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
        expected = expit(design[~inside] @ beta[:3] + beta[3])
        np.testing.assert_allclose(fit.validation_scores[~inside, 0], expected, atol=1e-5)


def test_the_penalty_has_the_smallest_log_loss_on_left_out_patients() -> None:
    scores, target, patient = drawn(150, seed=3)
    data = Validation.stacked(scores, target, patient)
    losses = {}
    for penalty in (0.1, 10.0, 1000.0):
        alone = Stacking(penalties=[penalty]).fit(data).validation_scores
        assert alone is not None
        losses[penalty] = log_loss(target[:, 0], alone[:, 0].astype(np.float64))
    chosen = Stacking(penalties=list(losses)).fit(data).record["penalty"]["finding0"]
    assert chosen == min(losses, key=lambda penalty: losses[penalty])


def test_a_huge_penalty_gives_the_mean_of_the_logits_up_to_a_constant() -> None:
    scores, target, patient = drawn()
    fit = Stacking(penalties=[1e9]).fit(Validation.stacked(scores, target, patient))
    assert fit.coefficients is not None
    np.testing.assert_allclose(fit.coefficients[0, :3], 1 / 3, atol=1e-4)


def test_images_of_unknown_target_are_not_used_in_the_fit_but_scored() -> None:
    scores, target, patient = drawn()
    known = Stacking(penalties=[10]).fit(Validation.stacked(scores[:, 60:], target[60:], patient[60:]))
    masked = target.copy()
    masked[:60] = np.nan
    with_unknown = Stacking(penalties=[10]).fit(Validation.stacked(scores, masked, patient))
    assert known.coefficients is not None and with_unknown.coefficients is not None
    np.testing.assert_allclose(with_unknown.coefficients, known.coefficients, atol=1e-6)
    assert with_unknown.validation_scores is not None and (with_unknown.validation_scores[:60] > 0).all()


def test_too_few_positive_patients_give_the_mean_of_the_logits_and_a_warning() -> None:
    scores, target, patient = drawn()
    target[:] = 0
    target[:45] = 1  # 15 patients
    data = Validation.stacked(scores, target, patient)
    method = Stacking()
    fit = method.fit(data)
    mean = expit(scipy_logit(scores[:, :, 0].astype(np.float64)).mean(axis=0))
    np.testing.assert_allclose(method.combine(data.scores[0], fit, 0), mean, atol=1e-6)
    assert len(fit.warnings) == 1 and "finding0 15 (method.min_positives=20)" in fit.warnings[0]
    assert fit.record["penalty"] == {"finding0": None}
    assert Stacking(min_positives=15).fit(data).warnings == ()

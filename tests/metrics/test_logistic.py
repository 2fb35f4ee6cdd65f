"""Logistic regression with a prior against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from cxr.metrics.logistic import fit_logistic


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three members (600, 3), more noisy one after the other, and targets (600,)."""
    rng = np.random.default_rng(seed)
    target = (rng.random(600) < 0.25).astype(np.float32)
    return -1 + rng.normal(size=(600, 3)) * [1, 2, 3] + 1.5 * target[:, None], target


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_it_agrees_with_scikit_learn(penalty: float) -> None:
    design, target = drawn(0)
    expected = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=1000).fit(design, target)
    ones = np.column_stack([design, np.ones(len(design))])
    beta = fit_logistic(ones, target, np.array([penalty] * 3 + [0]), np.zeros(4))
    np.testing.assert_allclose(beta, [*expected.coef_[0], *expected.intercept_], atol=1e-5)


def test_it_agrees_with_scipy_with_a_prior_mean() -> None:
    logits, target = drawn(1)
    design = np.column_stack([logits, np.ones(600)])
    penalty, prior = np.array([50.0, 50, 50, 0]), np.array([1 / 3, 1 / 3, 1 / 3, 0])

    def loss(beta: np.ndarray) -> float:
        sign = 1 - 2 * target.astype(np.float64)
        return float(np.logaddexp(0, sign * (design @ beta)).sum() + 0.5 * (penalty * (beta - prior) ** 2).sum())

    expected = minimize(loss, prior, method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(fit_logistic(design, target, penalty, prior), expected, atol=1e-5)


def test_separable_classes_have_finite_coefficients_with_and_without_a_penalty() -> None:
    design = np.column_stack([np.r_[-50 * np.ones(20), 50 * np.ones(20)], np.ones(40)])
    target = np.r_[np.zeros(20), np.ones(20)]
    for penalty in (1e-3, 0.0):
        beta = fit_logistic(design, target, np.array([penalty, 0]), np.array([1.0, 0]))
        assert np.isfinite(beta).all() and ((design @ beta > 0) == target).all()

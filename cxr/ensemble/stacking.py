"""Stacking: a logistic regression on the members' logits for each finding, judged on patients it has not seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError

_EDGE = 1e-7  # scores of 0 and 1 are moved inwards by it
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5


class Stacking(Method):
    """Logistic regression on the members' logits, drawn towards their plain mean.

    Wolpert, "Stacked Generalization", Neural Networks 5 (1992). For each finding the sum of log losses plus
    penalty / 2 times the sum of (coefficient - 1 / M)^2 is minimised; the intercept is free. A large penalty therefore
    gives the mean of the logits and not a constant. Coefficients may be negative: members agree so much that a
    difference between two of them can be what helps, and the penalty keeps them from running away.

    The penalty is the one with the least log loss on patients left out of the fit (five folds of patients); the scores
    of those folds are what validation is judged by.

    Args:
        min_positives: patients with and without the finding that a regression needs; with fewer, the finding gets the
            mean of the logits.
        penalties: to choose from.
        seed: of the folds.
    """

    label = "stacking"

    def __init__(self, min_positives: int = 20, penalties: Sequence[float] = PENALTIES, seed: int = 0) -> None:
        given: Any = list(penalties) if isinstance(penalties, Sequence) and not isinstance(penalties, str) else []
        if not given or not all(type(value) in (int, float) and 0 < value < np.inf for value in given):
            raise CxrError(f"method.penalties={penalties} must be a list of numbers above 0, such as [1,10,100]")
        for name, value, least in (("min_positives", min_positives, FOLDS), ("seed", seed, 0)):
            if type(value) is not int or value < least:
                raise CxrError(f"method.{name}={value} must be a whole number, {least} or more")
        self.min_positives, self.seed = min_positives, seed
        self.penalties = sorted(map(float, given), reverse=True)

    def _learn(self, data: Validation) -> Fit:
        coefficients = np.zeros((len(data.findings), data.members + 1))
        scores = np.zeros(data.target.shape, np.float32)
        chosen: dict[str, float | None] = {}
        few = []
        for k, name in enumerate(data.findings):
            design = designed(data.read(k))
            target = data.target[:, k]
            fold = patient_folds(data.patient, target, self.seed)
            positive, negative = (len(set(data.patient[target == label])) for label in (1, 0))
            if min(positive, negative) < self.min_positives:
                few.append(f"{name} {min(positive, negative)}")
                coefficients[k, :-1] = 1 / data.members
                scores[:, k], chosen[name] = sigmoid(design @ coefficients[k]), None
                continue
            penalty, scores[:, k] = self._cross_fitted(design, target, fold)
            known = ~np.isnan(target)
            coefficients[k] = fit_logistic(design[known], target[known], *_prior(data.members, penalty))
            chosen[name] = penalty
        warnings = []
        if few:
            warnings.append(
                "too few patients with (or without) a finding for a regression, the mean of the logits is taken: "
                f"{', '.join(few)} (method.min_positives={self.min_positives})"
            )
        record = {"penalty": chosen, "validation_scores": "of patients left out of the fit"}
        return Fit(coefficients=coefficients, validation_scores=scores, warnings=tuple(warnings), record=record)

    def _cross_fitted(
        self, design: NDArray[np.float64], target: NDArray[np.float32], fold: NDArray[np.int64]
    ) -> tuple[float, NDArray[np.float64]]:
        """The best penalty, the largest of equals, and every image's score by the fit without its fold."""
        known = ~np.isnan(target)
        linear = np.zeros((len(self.penalties), len(target)))
        for held_out in range(FOLDS):
            inside, outside = known & (fold != held_out), fold == held_out
            beta: NDArray[np.float64] | None = None
            for row, penalty in enumerate(self.penalties):
                prior = _prior(design.shape[1] - 1, penalty)
                beta = fit_logistic(design[inside], target[inside], *prior, start=beta)
                linear[row, outside] = design[outside] @ beta
        losses = np.logaddexp(0, linear[:, known]).sum(axis=1) - linear[:, known] @ target[known].astype(np.float64)
        best = int(losses.argmin())
        return self.penalties[best], sigmoid(linear[best])

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        assert fit.coefficients is not None
        return sigmoid(designed(scores) @ fit.coefficients[finding]).astype(np.float32)


def fit_logistic(
    design: NDArray[np.float64],
    target: NDArray[np.floating],
    penalty: NDArray[np.float64],
    prior: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Newton's method (iteratively reweighted least squares) with halved steps.

    Minimises the sum of log losses plus the sum of penalty_j (beta_j - prior_j)^2 / 2.

    Args:
        design: (N, D).
        target: (N,), 1 or 0.
        penalty: (D,), 0 for a free coefficient.
        prior: (D,).
        start: (D,), the prior if not given.

    Returns:
        (D,) coefficients.
    """
    truth = target.astype(np.float64)
    beta = prior.copy() if start is None else start.copy()

    def loss(at: NDArray[np.float64]) -> float:
        linear = design @ at
        return float(np.logaddexp(0, linear).sum() - truth @ linear + 0.5 * (penalty * (at - prior) ** 2).sum())

    now = loss(beta)
    for _ in range(100):
        probability = sigmoid(design @ beta)
        gradient = design.T @ (probability - truth) + penalty * (beta - prior)
        curvature = np.maximum(probability * (1 - probability), 1e-12)
        hessian = (design * curvature[:, None]).T @ design + np.diag(penalty)
        move = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (then := loss(beta - size * move)) > now and size > 1e-8:
            size /= 2
        if then > now:
            break
        beta, gain, now = beta - size * move, now - then, then
        if gain <= 1e-12 * (1 + abs(now)) and np.abs(size * move).max() < 1e-8:
            break
    return beta


def patient_folds(patient: NDArray[np.object_], target: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """(N,) fold of every image: patients are dealt out in a seeded order, those with the finding first."""
    names, where = np.unique(patient.astype(str), return_inverse=True)
    positive = np.zeros(len(names), bool)
    positive[where[target == 1]] = True
    order = np.random.default_rng([seed, 0xF01D]).permutation(len(names))
    order = np.concatenate([order[positive[order]], order[~positive[order]]])
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[where]


def designed(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (M, N) to logits and a column of ones, (N, M + 1); ValueError if one is NaN."""
    if np.isnan(scores).any():
        raise ValueError("a member's score is NaN; a regression needs numbers")
    return np.column_stack([*(logit(member) for member in scores), np.ones(scores.shape[1])])


def logit(score: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(p / (1 - p)) in float64, of scores within [1e-7, 1 - 1e-7]."""
    inside = np.clip(score.astype(np.float64), _EDGE, 1 - _EDGE)
    result: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return result


def sigmoid(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0, -linear))
    return result


def _prior(members: int, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Penalties and prior means of the members' coefficients and the intercept."""
    return np.append(np.full(members, penalty), 0.0), np.append(np.full(members, 1 / members), 0.0)

"""Stacking: logistic regression on the members' logits for each finding, evaluated on patients left out of the fit."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr.configuration.kinds import Kind, checked_option
from cxr.configuration.schema import Count
from cxr.ensemble.method import Fit, Method
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError
from cxr.metrics.logistic import fit_logistic

_EDGE = 1e-7  # scores are clipped to this distance from 0 and 1
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5
_FromFolds = Annotated[int, Kind(f"a whole number, {FOLDS} or more", lambda value: value >= FOLDS)]
_Floats = NDArray[np.float64]


class Stacking(Method):
    """Logistic regression on the members' logits, with coefficients shrunk towards 1 / M.

    Wolpert, "Stacked Generalization", Neural Networks 5 (1992). For each finding the sum of log losses plus
    penalty / 2 times the sum of (coefficient - 1 / M)^2 is minimised; the intercept is free. A large penalty therefore
    gives the mean of the logits and not a constant. Coefficients may be negative: members agree so much that the
    difference of two of them may be what helps, and the penalty limits it.

    The penalty is the one with the smallest log loss on patients left out of the fit (five folds of patients). The
    scores of those folds are the ensemble's validation scores.

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
        self.min_positives = checked_option("method.min_positives", min_positives, _FromFolds)
        self.seed = checked_option("method.seed", seed, Count)
        self.penalties = sorted(map(float, given), reverse=True)

    def _learn(self, data: Validation) -> Fit:
        coefficients = np.zeros((len(data.findings), data.members + 1))
        scores = np.zeros(data.target.shape, np.float32)
        chosen: dict[str, float | None] = {}
        few = []
        for k, name in enumerate(data.findings):
            design, target = design_matrix(data.scores[k]), data.target[:, k]
            patients = min(len(set(data.patient[target == label])) for label in (1, 0))
            if patients < self.min_positives:
                few.append(f"{name} {patients}")
                chosen[name], coefficients[k, :-1] = None, 1 / data.members
                scores[:, k] = expit(design @ coefficients[k])
                continue
            fold, known = patient_folds(data.patient, target, self.seed), ~np.isnan(target)
            chosen[name], scores[:, k] = self._cross_fitted(design, target, fold)
            coefficients[k] = _fit(design[known], target[known], chosen[name])
        warnings: tuple[str, ...] = ()
        if few:
            warnings = (
                "too few patients with (or without) a finding for a regression, using the mean of the logits: "
                f"{', '.join(few)} (method.min_positives={self.min_positives})",
            )
        record = {"penalty": chosen, "validation_scores": "of patients left out of the fit"}
        return Fit(coefficients=coefficients, validation_scores=scores, warnings=warnings, record=record)

    def _cross_fitted(
        self, design: _Floats, target: NDArray[np.float32], fold: NDArray[np.int64]
    ) -> tuple[float, _Floats]:
        """The best penalty, the largest of equals, and every image's score by the fit without its fold."""
        known = ~np.isnan(target)
        linear = np.zeros((len(self.penalties), len(target)))
        for held_out in range(FOLDS):
            inside, outside = known & (fold != held_out), fold == held_out
            beta: _Floats | None = None
            for row, penalty in enumerate(self.penalties):
                beta = _fit(design[inside], target[inside], penalty, start=beta)
                linear[row, outside] = design[outside] @ beta
        losses = np.logaddexp(0, linear[:, known]).sum(axis=1) - linear[:, known] @ target[known].astype(np.float64)
        best = int(losses.argmin())
        return self.penalties[best], expit(linear[best])

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        assert fit.coefficients is not None
        return np.asarray(expit(design_matrix(scores) @ fit.coefficients[finding]), np.float32)


def patient_folds(patient: NDArray[np.object_], target: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """(N,) fold of every image: patients are assigned in a seeded order, those with the finding first."""
    names, number = np.unique(patient.astype(str), return_inverse=True)
    positive = np.isin(np.arange(len(names)), number[target == 1])
    order = np.random.default_rng([seed, 0xF01D]).permutation(len(names))
    order = np.concatenate([order[positive[order]], order[~positive[order]]])
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[number]


def design_matrix(scores: NDArray[np.float32]) -> _Floats:
    """Scores (M, N) to logits and a column of ones, (N, M + 1); ValueError if one is NaN."""
    if np.isnan(scores).any():
        raise ValueError("a member's score is NaN; a regression needs numbers")
    return np.column_stack([*clipped_logit(scores), np.ones(scores.shape[1])])


def clipped_logit(score: NDArray[np.floating]) -> _Floats:
    """log(p / (1 - p)) in float64, of scores clipped to [1e-7, 1 - 1e-7]."""
    return np.asarray(logit(np.clip(score.astype(np.float64), _EDGE, 1 - _EDGE)))


def _fit(design: _Floats, target: NDArray[np.float32], penalty: float | None, start: _Floats | None = None) -> _Floats:
    """Coefficients (M + 1,) of the members' logits and the intercept."""
    members = design.shape[1] - 1
    strength, prior = np.append(np.full(members, penalty), 0.0), np.append(np.full(members, 1 / members), 0.0)
    return fit_logistic(design, target, strength, prior, start)

"""The base of all methods that combine members: fitted on validation alone, applied to one finding at a time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import Landscape
from cxr.ensemble.splits import Validation, only_validation


@dataclass(frozen=True)
class Fit:
    """The result of fitting a method on validation.

    Attributes:
        weights: (L, M), each row sums to one; None for a vote or a regression.
        landscape: every point that a search evaluated, or None.
        shared: (M,) the set of weights for all findings that a search chose, or None.
        other: the label and the weights (L, M) of the version that was not chosen (robust or not), or None.
        coefficients: (L, M + 1) of a regression on the members' logits, the intercept last, or None.
        validation_scores: (N, L) scores of validation images by fits without their patients, or None.
        warnings: sentences for the user.
        record: plain values for `metrics.json`.
    """

    weights: NDArray[np.float64] | None = None
    landscape: Landscape | None = None
    shared: NDArray[np.float64] | None = None
    other: tuple[str, NDArray[np.float64]] | None = None
    coefficients: NDArray[np.float64] | None = None
    validation_scores: NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to combine members. A subclass defines `_combine`, and `_learn` if it has something to learn."""

    label: str
    """Its name in tables."""
    fixed: ClassVar[bool] = False
    """Whether it does not use the labels of validation, so that it can combine the folds of a cross-validation."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "fit" in vars(cls):
            raise TypeError(f"{cls.__name__} defines fit, which refuses data other than validation; define _learn")

    @final
    def fit(self, data: Validation) -> Fit:
        """Learns from validation.

        Raises:
            CxrError: `data` is not validation.
        """
        return self._learn(only_validation(data, self.label))

    @final
    def combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        """Scores (M, N) of one finding to (N,) float32.

        Raises:
            ValueError: a score is NaN.
        """
        if np.isnan(scores).any():
            raise ValueError("a member's score is NaN; combining needs numbers")
        return self._combine(scores, fit, finding)

    def _learn(self, data: Validation) -> Fit:
        return Fit()

    @abstractmethod
    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]: ...

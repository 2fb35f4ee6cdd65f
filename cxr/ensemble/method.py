"""What every way to combine members shares: it learns from validation alone and combines a finding at a time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.objective import Landscape
from cxr.ensemble.splits import Split, Validation, only_validation


@dataclass(frozen=True)
class Fit:
    """What a method learnt on validation.

    Attributes:
        weights: (L, M), each row sums to one; none for a vote or a regression.
        landscape: every point that a search looked at, or none.
        shared: (M,) the one set for all findings that a search chose, or none.
        other: the label and the weights (L, M) of the version that was not asked for (robust or not), or none.
        coefficients: (L, M + 1) of a regression on the members' logits, the intercept last, or none.
        validation_scores: (N, L) scores of validation images by fits that had not seen their patients, or none.
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
    """A way to combine members. A subclass says how in `_learn` and `_combine`; `fit` is not its to change."""

    label: str
    """What tables call it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "fit" in vars(cls):
            raise TypeError(f"{cls.__name__} defines fit, which checks what a method learns from; define _learn")

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

    @final
    def combine_split(self, data: Split, fit: Fit) -> NDArray[np.float32]:
        """All findings of a split, (N, L) float32."""
        columns = [self.combine(data.read(k), fit, k) for k in range(len(data.findings))]
        return np.stack(columns, axis=1)

    def _learn(self, data: Validation) -> Fit:
        return Fit()

    @abstractmethod
    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]: ...

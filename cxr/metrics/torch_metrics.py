"""The pure functions as `torchmetrics` metrics: they gather images over batches and processes, and judge them once."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cxr.metrics.auroc import auroc, average_precision
from cxr.metrics.calibration import BINS, expected_calibration_error
from cxr.metrics.thresholds import rates, rates_of

_Array = NDArray[Any]
RATES = tuple(rates_of(*np.zeros((4, 1))))


class GatheredMetric(Metric):
    """Keeps number, score and target of every image; a subclass says what they are worth, finding by finding.

    Lightning repeats images so that all processes have equally many; an image that comes again is dropped, and so
    nothing is counted twice. Scores are probabilities: nothing is guessed from their range.
    """

    full_state_update = False
    is_differentiable = False
    ids: list[Tensor]
    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for state in ("ids", "scores", "targets"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, score: Tensor, target: Tensor) -> None:
        """Takes a batch.

        Args:
            index: (B,) int64, the number of each image in its split, the same whenever and wherever it comes.
            score: (B, L), probabilities.
            target: (B, L), 1, 0 or NaN for unknown.

        Raises:
            ValueError: shapes, or a score outside [0, 1].
        """
        if score.ndim != 2 or score.shape != target.shape or index.shape != score.shape[:1]:
            raise ValueError(
                f"index {tuple(index.shape)}, score {tuple(score.shape)} and target {tuple(target.shape)} "
                f"must be (B,), (B, L) and (B, L)"
            )
        if not bool(((score >= 0) & (score <= 1)).all()):
            raise ValueError("a score is outside [0, 1]; pass probabilities, not logits")
        self.ids.append(index.detach())
        self.scores.append(score.detach().float())
        self.targets.append(target.detach().float())

    def compute(self) -> Tensor:
        """The metric of every finding, (L,) float64 on the metric's device, () of a single one; NaN where undefined.

        Raises:
            ValueError: no image was seen.
        """
        if not len(self.ids):
            raise ValueError(f"{type(self).__name__} has seen no image; call update first")
        index, score, target = (dim_zero_cat(state).cpu().numpy() for state in (self.ids, self.scores, self.targets))
        _, first = np.unique(index, return_index=True)
        return torch.from_numpy(self.judge(target[first], score[first])).to(self.device)

    @abstractmethod
    def judge(self, target: _Array, score: _Array) -> NDArray[np.float64]:
        """(L,) values from (N, L) targets and scores of distinct images."""


class AUROC(GatheredMetric):
    """Exact AUROC of every finding; see `cxr.metrics.auroc.auroc`."""

    higher_is_better = True

    def judge(self, target: _Array, score: _Array) -> NDArray[np.float64]:
        """AUROC, (L,)."""
        return auroc(target, score)


class AveragePrecision(GatheredMetric):
    """Average precision of every finding; see `cxr.metrics.auroc.average_precision`."""

    higher_is_better = True

    def judge(self, target: _Array, score: _Array) -> NDArray[np.float64]:
        """Average precision, (L,)."""
        return average_precision(target, score)


class Rate(GatheredMetric):
    """F1 or another rate of every finding at fixed thresholds; see `cxr.metrics.thresholds.rates`.

    Args:
        rate: `f1`, `accuracy`, `sensitivity`, `specificity`, `ppv`, `npv` or `mcc`.
        threshold: one for all findings or one for each; a score of at least this says present.

    Raises:
        ValueError: another rate.
    """

    higher_is_better = True

    def __init__(self, rate: str = "f1", threshold: float | list[float] = 0.5, **options: Any) -> None:
        if rate not in RATES:
            raise ValueError(f"rate {rate!r} is unknown; known are {', '.join(RATES)}")
        super().__init__(**options)
        self.rate, self.threshold = rate, threshold

    def judge(self, target: _Array, score: _Array) -> NDArray[np.float64]:
        """The rate, (L,)."""
        return rates(target, score, self.threshold)[self.rate]


class CalibrationError(GatheredMetric):
    """Expected calibration error of every finding; see `cxr.metrics.calibration.expected_calibration_error`.

    Args:
        bins: how many.
        equal: `width` or `mass`.
    """

    higher_is_better = False

    def __init__(self, bins: int = BINS, equal: str = "width", **options: Any) -> None:
        super().__init__(**options)
        self.bins, self.equal = bins, equal

    def judge(self, target: _Array, score: _Array) -> NDArray[np.float64]:
        """Expected calibration error, (L,)."""
        return expected_calibration_error(target, score, self.bins, self.equal)

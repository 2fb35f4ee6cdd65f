"""Multi-label classification: each finding is present or absent, independently of the others."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.metrics.auroc import auroc, macro
from cxr.metrics.thresholds import rates
from cxr.task.base import ClassificationTask, Monitor


class MultiLabel(ClassificationTask):
    """Sigmoid scores, selected by macro AUROC."""

    activation = "sigmoid"
    monitor: ClassVar[Monitor] = Monitor("val/macro_auroc", "max")
    logged: ClassVar[tuple[str, ...]] = ("macro_auroc", "accuracy")

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, L) to probabilities (N, L), independent of each other."""
        return torch.sigmoid(logits)

    def metrics(self, target: NDArray[np.float32], score: NDArray[np.float32]) -> dict[str, float]:
        """Means over findings: AUROC, and binary accuracy at 0.5."""
        return {"macro_auroc": macro(auroc(target, score)), "accuracy": macro(rates(target, score, 0.5)["accuracy"])}

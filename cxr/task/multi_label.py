"""Multi-label classification: findings are present or absent, independently or in a hierarchy."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Count
from cxr.data.catalog import Catalog
from cxr.data.hierarchy import parent_columns, parents_of, violations
from cxr.loss.terms import Batch
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.thresholds import rates
from cxr.model.network import NetworkOutput
from cxr.task.base import ClassificationTask, Monitor
from cxr.task.chain import conditional, probabilities, unconditional


class MultiLabel(ClassificationTask):
    """Sigmoid scores, selected by macro AUROC.

    In a hierarchy a logit is that of a finding given its parent, and its score the product along its path. The first
    epochs may train each finding on images with its parent alone; from then on, and in validation, the loss is that
    of the scores. See `cxr.task.chain`.

    Args:
        hierarchy: a tree of findings, see `cxr.data.hierarchy`; none for findings that are independent.
        conditional_epochs: how many epochs train on images with the parent alone.
    """

    activation = "sigmoid"
    monitor: ClassVar[Monitor] = Monitor("val/macro_auroc", "max")
    logged: ClassVar[tuple[str, ...]] = ("macro_auroc", "accuracy")

    def __init__(self, hierarchy: Mapping[str, Any] | None = None, conditional_epochs: int = 0) -> None:
        super().__init__()
        checked_option("task.conditional_epochs", conditional_epochs, Count)
        if hierarchy is not None:
            parents_of(hierarchy)
        self.hierarchy, self.conditional_epochs = hierarchy, conditional_epochs

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, L) to probabilities (N, L); in a hierarchy a child's is at most its parent's."""
        return probabilities(logits, self._parents) if self.hierarchy else torch.sigmoid(logits)

    def loss_inputs(self, output: NetworkOutput, batch: Batch) -> tuple[NetworkOutput, Batch]:
        """In a hierarchy, targets given the parent in the first epochs of training, later unconditional logits."""
        if not self.hierarchy:
            return output, batch
        if self.training and self.current_epoch < self.conditional_epochs:
            return output, batch | {"target": conditional(batch["target"], self._parents)}
        return output._replace(logits=unconditional(output.logits, self._parents)), batch

    def metrics(self, target: NDArray[np.float32], score: NDArray[np.float32]) -> dict[str, float]:
        """Means over findings: AUROC, and binary accuracy at 0.5."""
        return {"macro_auroc": macro(auroc(target, score)), "accuracy": macro(rates(target, score, 0.5)["accuracy"])}

    def check(self, catalog: Catalog) -> None:
        """Prints how many labels contradict the hierarchy; such labels are trained on as they are."""
        if not self.hierarchy:
            return
        found = violations(catalog.table, catalog.findings, parent_columns(self.hierarchy, catalog.findings))
        for (child, parent), count in found.items():
            cases = int((catalog.table[child] == 1).sum())
            print(f"task.hierarchy: {count} of {cases} images with {child} are labelled without {parent}", flush=True)
        if not found:
            print("task.hierarchy: no label contradicts it", flush=True)

    @property
    def _parents(self) -> list[int]:
        assert self.hierarchy is not None
        return parent_columns(self.hierarchy, self.findings)

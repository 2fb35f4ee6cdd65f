"""Single-label classification: exactly one finding per image."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cxr.data.catalog import SPLITS, Catalog, some
from cxr.errors import CxrError
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import named, number, single
from cxr.metrics.single import bootstrap_single, confusion_matrix, mean_recall, rates_of_matrix
from cxr.metrics.subgroups import FREQUENCIES, frequency_groups
from cxr.task.base import ClassificationTask, Monitor


class SingleLabel(ClassificationTask):
    """Softmax scores, which sum to one over findings, selected by balanced accuracy."""

    activation = "softmax"
    monitor: ClassVar[Monitor] = Monitor("val/balanced_accuracy", "max")
    logged: ClassVar[tuple[str, ...]] = ("macro_auroc", "balanced_accuracy", "top1_accuracy")

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, L) to probabilities (N, L) that sum to one over findings."""
        return logits.softmax(dim=1)

    def metrics(self, target: NDArray[np.float32], score: NDArray[np.float32]) -> dict[str, float]:
        """Macro AUROC of each finding against the others, balanced accuracy and top-1 accuracy."""
        rates = rates_of_matrix(confusion_matrix(target, score))
        accuracies = {name: float(rates[name]) for name in ("balanced_accuracy", "top1_accuracy")}
        return {"macro_auroc": macro(auroc(target, score)), **accuracies}

    def report(
        self,
        target: NDArray[np.float32],
        score: NDArray[np.float32],
        findings: Sequence[str],
        patient: NDArray[Any],
        resampling: Resampling | None = None,
        train_positives: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Balanced accuracy, accuracy, macro F1, MCC, the recall of each finding and the confusion matrix.

        With `train_positives`, also `head_accuracy`, `medium_accuracy` and `tail_accuracy`: the mean recall of the
        findings of these groups, see `frequency_groups`.
        """
        matrix, groups = confusion_matrix(target, score), {}
        if train_positives is not None:
            frequency = frequency_groups([train_positives[name] for name in findings])
            groups = {f"{group}_accuracy": frequency == group for group in FREQUENCIES}
        if resampling is None:
            rates: dict[str, Any] = rates_of_matrix(matrix)
            rates |= {name: mean_recall(rates["recall"], members) for name, members in groups.items()}
        else:
            rates = dict(bootstrap_single(target, score, patient, resampling, groups))
        shown = {
            name: single(rate) if resampling else number(float(rate))
            for name, rate in rates.items()
            if name != "recall"
        }
        return {**shown, "recall": named(findings, rates["recall"]), "confusion": matrix.tolist()}

    def check(self, catalog: Catalog) -> None:
        """Raises CxrError unless every image has exactly one finding, and no unknown one."""
        rows = catalog.table[catalog.table["split"].isin(SPLITS)]
        labels = rows[list(catalog.findings)].to_numpy(np.float32)
        none, several = (labels == 1).sum(axis=1) == 0, (labels == 1).sum(axis=1) > 1
        unknown = np.isnan(labels).any(axis=1)
        wrong = none | several | unknown
        if len(catalog.findings) < 2:
            raise CxrError(
                f"task=single_label needs at least two findings; data.findings leaves only {catalog.findings[0]}"
            )
        if wrong.any():
            raise CxrError(
                f"task=single_label needs exactly one finding per image: of {len(labels)} images {none.sum()} have "
                f"none, {several.sum()} have several and {unknown.sum()} an unknown one, such as "
                f"{some(rows['image'][wrong])}; pass data.single_finding=true, which leaves them out"
            )

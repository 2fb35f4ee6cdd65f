"""The base of all tasks: training and validation steps, gradient accumulation, epoch metrics and optimizers.

Accumulation is exact: each batch is differentiated as a sum, and gradients are scaled once before the optimizer step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer

from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.loss.terms import Batch, LossTerms
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import number
from cxr.model.network import Network, NetworkOutput
from cxr.task.epoch import EpochScores
from cxr.task.mixing import Mixing

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer, int], dict[str, Any] | None]


@dataclass(frozen=True)
class Monitor:
    """The value of an epoch by which checkpoints are selected.

    Attributes:
        name: a column of `metrics.csv`, such as `val/macro_auroc`.
        mode: `max` or `min`, whichever is better.
    """

    name: str
    mode: str


class _Unchecked(NamedTuple):
    """A batch whose loss is not checked yet: whether it is finite (on the device), its images and its step."""

    finite: Tensor
    images: Tensor
    step: int


class ClassificationTask(pl.LightningModule, ABC):
    """Trains a network; a subclass defines scores and metrics.

    Built from its options alone, it converts logits to scores; `attach` adds the parts that training needs.

    With accumulation, the loss of a window is the sum over its known targets divided by their number, over all batches
    of the window and all ranks, also in a last, partial window.

    Attributes:
        activation: converts logits to scores; a loss with another `activation` is refused.
        monitor: the value by which checkpoints are selected.
        logged: the keys of `metrics`, in the order of the columns of `metrics.csv`.
    """

    activation: ClassVar[str]
    monitor: ClassVar[Monitor]
    logged: ClassVar[tuple[str, ...]]

    network: Network
    loss: nn.Module
    findings: tuple[str, ...] = ()  # of the logits; `attach` sets them

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, L) to probabilities (N, L)."""

    @abstractmethod
    def metrics(self, target: NDArray[np.float32], score: NDArray[np.float32]) -> dict[str, float]:
        """Metrics of an epoch, by the names in `logged`; NaN if undefined.

        Args:
            target: (N, L), NaN unknown.
            score: (N, L), probabilities.
        """

    def report(
        self,
        target: NDArray[np.float32],
        score: NDArray[np.float32],
        findings: Sequence[str],
        patient: NDArray[Any],
        resampling: Resampling | None = None,
        train_positives: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Results that the task adds to a split in `metrics.json` as plain values; by default `metrics`.

        Args:
            target: (N, L), NaN unknown.
            score: (N, L), probabilities.
            findings: L names.
            patient: (N,), the patient's id of every image.
            resampling: of patients, for intervals; None for no intervals.
            train_positives: of each finding in training, where known.
        """
        return {name: number(value) for name, value in self.metrics(target, score).items()}

    def loss_inputs(self, output: NetworkOutput, batch: Batch) -> tuple[NetworkOutput, Batch]:
        """The output and the batch for the loss; here unchanged."""
        return output, batch

    def check(self, catalog: Catalog) -> None:
        """Raises CxrError if the task cannot be trained with these labels; the base accepts any."""

    def attach(
        self,
        network: Network,
        loss: nn.Module,
        findings: Sequence[str],
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        names: Sequence[str] = (),
        seed: int = 0,
        provenance: dict[str, Any] | None = None,
        labels: NDArray[np.float32] | None = None,
        mix: Mixing | None = None,
    ) -> Self:
        """Adds the parts that training needs; returns the task.

        Args:
            loss: maps output, batch and epoch (from 0) to `LossTerms`; its parameters are optimized with the network's.
            findings: L names.
            optimizer: maps parameters to an optimizer.
            scheduler: maps an optimizer and its number of steps to Lightning's scheduler entry, or none.
            names: image name of every index, for messages.
            seed: of the random numbers inside the network (dropout), reset for every batch.
            provenance: plain values that every checkpoint stores under `cxr`.
            labels: (N, L) of every index, NaN unknown, for the metrics of an epoch; by default those are computed with
                the targets of the batches, which may be soft.
            mix: of training batches; of an epoch of mixed images only the loss is logged.
        """
        self.network, self.loss, self.findings = network, loss, tuple(findings)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.names, self.seed, self.provenance = names, seed, provenance or {}
        self.labels, self.mix = labels, mix
        self.train_scores, self.val_scores = EpochScores(), EpochScores()
        self.window: Tensor | None = None  # number of terms and summed loss of the open window, on this rank
        self.step_loss: Tensor | None = None  # mean loss of the last window, over all ranks; NaN without known targets
        self.nominal = 1.0  # number of targets of a full batch; keeps summed losses in the range of float16
        self.unchecked: list[_Unchecked] = []
        self.finite: Tensor | None = None  # whether all losses since the last check were finite, over all ranks
        return self

    @property
    def switch_epoch(self) -> int | None:
        """The epoch, from 0, at which deferred weights of the loss begin; selection and early stopping start anew."""
        return getattr(self.loss, "switch_epoch", None)

    def forward(self, batch: Batch) -> NetworkOutput:
        """The network's output, with logits in float32."""
        output = self.network(batch)
        return output._replace(logits=output.logits.float())

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Seeds the network's random numbers with (seed, epoch, batch, rank), so that resuming is exact."""
        seed = int(np.random.SeedSequence(self._key(batch_index)).generate_state(1)[0])
        torch.default_generator.manual_seed(seed)  # torch.manual_seed visits every kind of device: 0.8 ms
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The batch's summed loss divided by the number of targets of a full batch."""
        if self.mix:
            batch = self.mix(batch, self._key(batch_index))
        output, terms = self._scored(batch)
        self.nominal = float(self.trainer.datamodule.settings.batch_size * len(self.findings))  # type: ignore[attr-defined]
        sums = torch.stack([terms.number.detach().float(), terms.total.detach().float()])
        self.window = sums if self.window is None else self.window + sums
        self.unchecked.append(_Unchecked(torch.isfinite(sums[1]), batch["index"], self.global_step))
        self.train_scores.add(batch, output.logits, terms)
        return terms.total / self.nominal

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Rescales gradients, a mean over batches and ranks, to the mean over the window's known targets."""
        assert self.window is not None
        sums = self.trainer.strategy.reduce(self.window, reduce_op="sum")
        count, total = sums if isinstance(sums, Tensor) else self.window
        self.step_loss, self.window = total / count, None
        finite = torch.isfinite(total)
        self.finite = finite if self.finite is None else self.finite & finite
        if self.checks_now(finite):
            self.check_finite()
        batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
        factor = self.nominal * batches / torch.where(count > 0, count, 1.0)  # a sum of weights may be below 1
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def checks_now(self, value: Tensor) -> bool:
        """Whether a value is read after this step; on a GPU, where reading synchronizes, only at the log interval."""
        every = max(1, self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        return value.device.type == "cpu" or (self.global_step + 1) % every == 0

    def check_finite(self) -> None:
        """Checks the losses of all windows since the last check; all ranks call it after the same window.

        Raises:
            CxrError: a loss was not finite; the message names the first such step of any rank and its images.
        """
        seen, finite, self.unchecked, self.finite = self.unchecked, self.finite, [], None
        if finite is None or bool(finite):
            return
        bad = [(one.step, one.images.tolist()) for one in seen if not bool(one.finite)]
        of_ranks = [bad]
        if self.trainer.world_size > 1:
            of_ranks = [bad] * self.trainer.world_size
            dist.all_gather_object(of_ranks, bad)
        every = [one for rank in of_ranks for one in rank] or [(one.step, one.images.tolist()) for one in seen]
        raise CxrError(self._not_finite(*min(every)))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Stores the batch's logits and loss for the end of the epoch."""
        output, terms = self._scored(batch)
        self.val_scores.add(batch, output.logits, terms)

    def on_validation_start(self) -> None:
        """Raises CxrError before validation if a training loss was not finite."""
        self.check_finite()

    def on_validation_epoch_end(self) -> None:
        """Logs exact metrics over all validation images, and over the training images as augmented in this epoch."""
        self._log_epoch("val", self.val_scores)
        self._log_epoch("train", self.train_scores)
        self.log("lr", float(self.trainer.optimizers[0].param_groups[0]["lr"]))

    def configure_optimizers(self) -> Any:
        """The optimizer over all trainable parameters, and its schedule over the run's number of steps."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        steps = int(self.trainer.estimated_stepping_batches)
        entry = self.make_scheduler(optimizer, steps) if self.make_scheduler else None
        return {"optimizer": optimizer, "lr_scheduler": entry} if entry else optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the provenance, from which the network can be rebuilt.

        Raises:
            CxrError: a loss or a weight is not finite.
        """
        self.check_finite()
        _refuse_not_finite(checkpoint["state_dict"], self.global_step)
        checkpoint["cxr"] = self.provenance

    def _key(self, batch_index: int) -> list[int]:
        """Of the random numbers of a training batch on this rank."""
        return [self.seed, self.current_epoch, batch_index, self.global_rank]

    def _scored(self, batch: Batch) -> tuple[NetworkOutput, LossTerms]:
        output = self(batch)
        return output, self.loss(*self.loss_inputs(output, batch), self.current_epoch)

    def _log_epoch(self, stage: str, scores: EpochScores) -> None:
        index, logits, target, (total, number) = scores.collect(self._gather)
        if not torch.isfinite(total):
            raise CxrError(
                f"the {'validation' if stage == 'val' else 'training'} loss is not finite at epoch "
                f"{self.current_epoch + 1}, after step {self.global_step}; lower optimizer.lr or set "
                "trainer.gradient_clip_val"
            )
        self.log(f"{stage}/loss", float(total / number), prog_bar=True)  # NaN without known targets
        if stage == "train" and self.mix:
            values = dict.fromkeys(self.logged, float("nan"))
        else:
            labels = target.numpy() if self.labels is None else self.labels[index.numpy()]
            values = self.metrics(labels, self.scores(logits).numpy())
        for name in self.logged:
            self.log(f"{stage}/{name}", values[name], prog_bar=f"{stage}/{name}" == self.monitor.name)

    def _gather(self, values: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def _not_finite(self, step: int, index: Sequence[int]) -> str:
        images = [self.names[i] if i < len(self.names) else str(i) for i in index if i >= 0]
        return (
            f"the training loss is not finite at epoch {self.current_epoch + 1}, step {step}, on the "
            f"images {', '.join(images)}; lower optimizer.lr or set trainer.gradient_clip_val, and inspect these images"
        )


def _refuse_not_finite(state: Mapping[str, Any], step: int) -> None:
    """Raises CxrError if a weight is not finite, which is possible with a finite loss."""
    sums = [value.sum() for value in state.values() if isinstance(value, Tensor) and value.is_floating_point()]
    if sums and not bool(torch.isfinite(torch.stack([total.float() for total in sums])).all()):
        raise CxrError(
            f"the weights are not finite after step {step}; lower optimizer.lr or set trainer.gradient_clip_val"
        )

"""The LightningModule: which loss, which metrics, which optimizer; nothing else."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cxr.errors import CxrError
from cxr.loss.terms import LossTerms
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.summary import accuracy
from cxr.model.network import Network, NetworkOutput

Batch = dict[str, Tensor]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer, int], dict[str, Any] | None]


class EpochScores:
    """Logits, targets and indices of an epoch, kept on the device; gathered over ranks, each image once, by index."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Takes one batch: logits (B, L)."""
        self.parts.append((batch["index"], logits.detach().float(), batch["target"]))

    def state(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """What was added so far as one index (n,), logits (n, L) and targets (n, L); none if nothing was."""
        if not self.parts:
            return None
        index, logits, target = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.parts = [(index, logits, target)]
        return index, logits, target

    def restore(self, state: Sequence[Tensor]) -> None:
        """Takes back what `state` gave."""
        index, logits, target = state
        self.parts = [(index, logits, target)]

    def collect(self, gather: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and targets, (N, L) on the CPU, in the order of the table; filler is dropped. Empties itself.

        An image that was shown several times comes as often, the smallest logits first, whatever the number of ranks.
        """
        device = self.parts[-1][0].device  # a restored part may still lie on the CPU
        parts = [tuple(part.to(device) for part in parts) for parts in self.parts]
        index, logits, target = (gather(torch.cat(part)).cpu() for part in zip(*parts, strict=True))
        self.parts = []
        keys = [*logits.numpy().T[::-1], index.numpy()]  # the last key is the first that counts
        order = torch.from_numpy(np.lexsort(keys))[int((index < 0).sum()) :]  # filler has index -1
        return logits[order], target[order]


class ClassificationTask(pl.LightningModule):
    """Trains a network on many findings at once.

    Under accumulation the loss of a window is the sum over its known targets divided by their number, over all batches
    of the window and all ranks, also in a last, partial window: batches are differentiated as sums, and the gradients
    scaled once, before the optimizer's step.

    Args:
        network: scored by `loss`.
        loss: logits and targets to `LossTerms`.
        findings: L names.
        optimizer: from parameters to an optimizer.
        scheduler: from an optimizer and the number of its steps to Lightning's scheduler entry, or none.
        names: image name of every index, for messages.
        seed: of the random numbers inside the network (dropout), set anew for every batch.
        provenance: plain values that every checkpoint carries under `cxr`.
    """

    def __init__(
        self,
        network: Network,
        loss: nn.Module,
        findings: Sequence[str],
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        names: Sequence[str] = (),
        seed: int = 0,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.findings = network, loss, tuple(findings)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.names, self.seed, self.provenance = names, seed, provenance or {}
        self.train_scores, self.val_scores = EpochScores(), EpochScores()
        self.window: Tensor | None = None  # known targets of the open window and their summed loss, on this rank
        self.step_loss: Tensor | None = None  # mean loss of the last window, over all ranks; NaN if nothing was known
        self.nominal = 1.0  # a batch's usual number of targets; keeps summed losses in the range of float16

    def forward(self, image: Tensor) -> NetworkOutput:
        """(B, 1, H, W) uint8 to the network's output."""
        return self.network(image)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Random numbers of the network are a function of (seed, epoch, batch, rank), whatever was drawn before."""
        key = [self.seed, self.current_epoch, batch_index, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The batch's summed loss over its nominal number of targets."""
        output = self.network(batch["image"])
        terms: LossTerms = self.loss(output.logits.float(), batch["target"])
        if not torch.isfinite(terms.total):
            raise CxrError(self._not_finite(batch))
        self.nominal = float(self.trainer.datamodule.settings.batch_size * len(self.findings))  # type: ignore[attr-defined]
        sums = torch.stack([terms.number.detach().float(), terms.total.detach().float()])
        self.window = sums if self.window is None else self.window + sums
        self.train_scores.add(batch, output.logits)
        return terms.total / self.nominal

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Turns the mean of summed gradients over batches and ranks into the mean over the window's known targets."""
        assert self.window is not None
        sums = self.trainer.strategy.reduce(self.window, reduce_op="sum")
        count, total = sums if isinstance(sums, Tensor) else self.window
        self.step_loss, self.window = total / count, None
        batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
        factor = self.nominal * batches / count.clamp(min=1)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keeps the batch's logits for the epoch's end."""
        self.val_scores.add(batch, self.network(batch["image"]).logits)

    def on_validation_epoch_end(self) -> None:
        """Exact metrics over every validation image, and over the training images as this epoch showed them."""
        self._log_epoch("val", self.val_scores)
        self._log_epoch("train", self.train_scores)
        self.log("lr", float(self.trainer.optimizers[0].param_groups[0]["lr"]))

    def configure_optimizers(self) -> Any:
        """The optimizer over all trainable parameters, and its schedule over the run's number of steps."""
        optimizer = self.make_optimizer([p for p in self.network.parameters() if p.requires_grad])
        steps = int(self.trainer.estimated_stepping_batches)
        entry = self.make_scheduler(optimizer, steps) if self.make_scheduler else None
        return {"optimizer": optimizer, "lr_scheduler": entry} if entry else optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a stranger needs to rebuild the network from this file alone."""
        checkpoint["cxr"] = self.provenance

    def _log_epoch(self, stage: str, scores: EpochScores) -> None:
        logits, target = scores.collect(self._gather)
        terms: LossTerms = self.loss.to("cpu")(logits.double(), target.double())
        self.loss.to(self.device)
        probability, truth = torch.sigmoid(logits).numpy(), target.numpy()
        self.log(f"{stage}/loss", float(terms.total / terms.number), prog_bar=True)  # NaN where nothing is known
        self.log(f"{stage}/macro_auroc", macro(auroc(truth, probability)), prog_bar=stage == "val")
        self.log(f"{stage}/accuracy", macro(accuracy(truth, probability)))

    def _gather(self, values: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def _not_finite(self, batch: Batch) -> str:
        images = [self.names[i] if i < len(self.names) else str(i) for i in batch["index"].tolist() if i >= 0]
        return (
            f"the training loss is not finite at epoch {self.current_epoch + 1}, step {self.global_step}, on the "
            f"images {', '.join(images)}; lower optimizer.lr or set trainer.gradient_clip_val, and look at these images"
        )

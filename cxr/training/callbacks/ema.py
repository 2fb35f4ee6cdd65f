"""An exponential moving average of the weights, with which a run is validated and scored.

Lightning's `EMAWeightAveraging` is not used for four reasons. It ignores weights-only checkpoints, so `best.ckpt`
would contain the raw weights. At the end of training it overwrites the raw weights, which `last.ckpt` needs. It keeps
the average of GPU weights on the CPU. It averages counters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Below1
from cxr.errors import CxrError


class WeightAverage(Callback):
    """Keeps average = d * average + (1 - d) * weights, updated after each optimizer step.

    The average starts at the initial weights. At step t = 1, 2, ..., d = min(decay, (1 + t) / (10 + t)), so that the
    initial weights lose their influence quickly in short trainings, too (`tf.train.ExponentialMovingAverage` with
    `num_updates`).

    All floating-point parameters and buffers of network and loss are averaged, in at least float32. This includes the
    running statistics of batch norm, which then lag as much as the averaged weights. Counters are not averaged.

    Args:
        decay: at least 0 and below 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = checked_option("callbacks.ema.decay", decay, Below1)
        self.average: dict[str, Tensor] | None = None  # before training
        self._raw: dict[str, Tensor] = {}  # saved while the task has the averages
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts from the current weights, or from the average in the checkpoint.

        Raises:
            CxrError: that average is of other weights.
        """
        self._step = trainer.global_step
        weights = _weights(pl_module)
        start = weights if self.average is None else self.average
        if _shapes(start) != _shapes(weights):
            raise CxrError("the weight average in last.ckpt does not fit the network; start a new run")
        self.average = {name: _fine(start[name].to(weight.device, copy=True)) for name, weight in weights.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the average after an optimizer step."""
        if trainer.global_step == self._step:
            return  # inside an accumulation window
        assert self.average is not None
        self._step = trainer.global_step
        weights = [_fine(weight) for weight in _weights(pl_module).values()]
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swaps the average in for validation."""
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swaps the raw weights back in for training."""
        self._swap_out(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average; the checkpoint's `state_dict` contains the raw weights."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the average until training starts."""
        average = state_dict.get("average")
        self.average = average if isinstance(average, dict) else {}

    @torch.no_grad()
    def _swap_in(self, task: pl.LightningModule) -> None:
        assert self.average is not None
        weights = _weights(task)
        self._raw = {name: weight.clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.copy_(self.average[name])

    @torch.no_grad()
    def _swap_out(self, task: pl.LightningModule) -> None:
        for name, weight in _weights(task).items():
            weight.copy_(self._raw[name])
        self._raw = {}


@contextmanager
def averaged(trainer: pl.Trainer) -> Iterator[None]:
    """Inside the block the task has the averaged weights, if the run averages."""
    task = trainer.lightning_module
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAverage)]  # type: ignore[attr-defined]
    for average in averages:
        average._swap_in(task)
    try:
        yield
    finally:
        for average in averages:
            average._swap_out(task)


def _weights(task: pl.LightningModule) -> dict[str, Tensor]:
    """Floating-point parameters and buffers, detached, in the order of the state dict."""
    return {name: value for name, value in task.state_dict().items() if value.is_floating_point()}


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


def _fine(weight: Tensor) -> Tensor:
    """The weights in at least float32: bfloat16's 8 bits cannot represent the small updates of an average."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))

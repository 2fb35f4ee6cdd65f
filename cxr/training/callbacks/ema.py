"""An exponential moving average of the weights, by which a run is validated, selected and scored.

Lightning's `EMAWeightAveraging` is not used: it does not see checkpoints of weights alone, so that `best.ckpt` would
hold the raw weights; at the end of training it writes the average over the raw weights, which `last.ckpt` needs; it
keeps the average of a GPU's weights on the CPU, and averages counters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cxr.errors import CxrError


class WeightAverage(Callback):
    """Keeps average = d * average + (1 - d) * weights, updated after each optimizer step, beside the raw weights.

    It begins with the initial weights. At step t, from 1, d is the smaller of `decay` and (1 + t) / (10 + t), so that
    they are soon forgotten in a short training too (as `tf.train.ExponentialMovingAverage` does with `num_updates`).

    Averaged are all parameters and buffers of floating point of network and loss, in float32 or finer. The running
    statistics of batch norm are among them: they then lag as far as the averaged weights do, where copied ones would be
    those of the latest raw weights. Counters stay those of the raw network.

    Args:
        decay: at least 0 and below 1.

    Raises:
        CxrError: `decay` lies elsewhere.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not isinstance(decay, int | float) or isinstance(decay, bool) or not 0 <= decay < 1:
            raise CxrError(f"callbacks.ema.decay={decay} must be a number of at least 0 and below 1, such as 0.999")
        self.decay = decay
        self.average: dict[str, Tensor] | None = None  # before training
        self._raw: dict[str, Tensor] = {}  # of the task, while it has the average in their place
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts from the current weights, or from the average that a checkpoint holds.

        Raises:
            CxrError: that is of other weights.
        """
        self._step = trainer.global_step
        weights = _weights(pl_module)
        start = weights if self.average is None else self.average
        if _shapes(start) != _shapes(weights):
            raise CxrError("last.ckpt holds an average of other weights than the run's; start a new run")
        self.average = {name: _fine(start[name].to(weight.device, copy=True)) for name, weight in weights.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the average after an optimizer step."""
        if trainer.global_step == self._step:
            return  # within a window
        assert self.average is not None
        self._step = trainer.global_step
        weights = [_fine(weight) for weight in _weights(pl_module).values()]
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is of the average."""
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training is of the raw weights."""
        self._swap_out(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average, beside which a checkpoint holds the raw weights."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps it until training starts."""
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
    """The trainer's task has the average in place of its weights, where the run keeps one."""
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
    """Parameters and buffers of floating point, detached, in the order of the state dict."""
    return {name: value for name, value in task.state_dict().items() if value.is_floating_point()}


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


def _fine(weight: Tensor) -> Tensor:
    """In float32 or finer: steps of the average are lost in the 8 bits of bfloat16."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))

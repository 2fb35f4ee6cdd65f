"""Tau-normalisation of a finished run's classifier, with tau chosen on validation."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Above0
from cxr.errors import CxrError
from cxr.task.base import ClassificationTask


class TauNormalisation(Callback):
    """In epoch e, from 0, the head is w / ||w||^tau without a bias; tau = step * e, and w are the initial weights.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020. `best.ckpt` has the
    best tau on validation. Nothing is trained: freeze the other parts and set the learning rate to 0.
    """

    def __init__(self, step: float = 0.1) -> None:
        self.step = checked_option("callbacks.tau_norm.step", step, Above0)
        self.first: Tensor | None = None  # (L, C), before training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the initial weights, or those of the checkpoint."""
        weight = _linear(pl_module).weight
        self.first = (weight.detach().clone() if self.first is None else self.first).to(weight.device)

    @torch.no_grad()
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Normalises them for this epoch's validation and checkpoint."""
        assert self.first is not None
        layer, tau = _linear(pl_module), self.step * trainer.current_epoch
        layer.weight.copy_(self.first / self.first.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau)
        if layer.bias is not None:
            layer.bias.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The initial weights."""
        return {"first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps them until training starts."""
        self.first = state_dict["first"]


def _linear(task: pl.LightningModule) -> nn.Linear:
    assert isinstance(task, ClassificationTask)
    head = task.network.head
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    if len(layers) != 1:
        raise CxrError(f"callbacks=tau_norm normalises one linear layer, and {type(head).__name__} has {len(layers)}")
    return layers[0]

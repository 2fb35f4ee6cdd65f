"""Checkpoints: when they are written, what is in them, and how a network is rebuilt from one alone."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import OmegaConf
from torch import Tensor

from cxr.errors import CxrError
from cxr.files import replacing
from cxr.model.network import Network
from cxr.runs import Run
from cxr.training.build import build_network

_PREFIX = "network."


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, everything that training needs to go on, and `best.ckpt`, the best validation macro AUROC.

    `last` is written between epochs, when schedulers and early stopping have seen the epoch, and at the end.

    Args:
        run: whose `checkpoints/` they go to.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.best_score = -math.inf
        self.best_epoch = -1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `best.ckpt` if this epoch is the best; without a defined AUROC the latest epoch is."""
        score = float(trainer.callback_metrics["val/macro_auroc"])
        if (math.isnan(score) and self.best_score == -math.inf) or score > self.best_score:
            self.best_score = score if not math.isnan(score) else -math.inf
            self.best_epoch = trainer.current_epoch
            save(trainer, self.run.best, weights_only=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `last.ckpt` when an epoch has been completed since the start or the resumption."""
        if trainer.current_epoch > self._began:
            save(trainer, self.run.last)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes where this process began."""
        self._began = trainer.current_epoch

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the last `last.ckpt`."""
        save(trainer, self.run.last)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Says that the last epoch is over: Lightning has already counted the next one as begun, and would skip it."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for counts in progress.values():
            counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), counts["completed"]))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on comparing with."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]


def save(trainer: pl.Trainer, path: Path, weights_only: bool = False) -> None:
    """Writes a checkpoint whole or not at all; every rank calls it, the first one writes."""
    if trainer.is_global_zero:
        with replacing(path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=weights_only)
    else:
        trainer.save_checkpoint(path, weights_only=weights_only)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dict in the order of its names, not over a file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class LoadedNetwork:
    """A network rebuilt from a checkpoint.

    Attributes:
        network: in evaluation mode, on the CPU.
        findings: names of its outputs.
        epoch: of the checkpoint.
        sha256: of its weights, see `state_sha256`.
        config: the run's resolved configuration.
    """

    network: Network
    findings: tuple[str, ...]
    epoch: int
    sha256: str
    config: dict[str, Any]


def load_network(path: Path) -> LoadedNetwork:
    """Rebuilds a network from one checkpoint file; no object in it is unpickled.

    Raises:
        CxrError: the file is missing, broken, or not one of this framework's checkpoints.
    """
    checkpoint = read_checkpoint(path)
    about, state = checkpoint["cxr"], checkpoint["state_dict"]
    config: Any = OmegaConf.to_container(OmegaConf.create(about["config"]))
    assert isinstance(config, dict)
    findings = tuple(about["findings"])
    # The weights come from this file, not from where training once took its first ones.
    backbone = {**config["backbone"], "pretrained": False, "weights": None}
    network = build_network({**config, "backbone": backbone}, len(findings))
    try:
        network.load_state_dict({k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)})
    except RuntimeError as error:
        raise CxrError(
            f"{path} does not fit the network of its own configuration: {str(error).splitlines()[0]}"
        ) from error
    named = {str(key): value for key, value in config.items()}
    return LoadedNetwork(network.eval(), findings, int(checkpoint["epoch"]), state_sha256(state), named)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, read with `weights_only=True`.

    Raises:
        CxrError: the file is missing, broken, or not one of this framework's checkpoints.
    """
    if not path.is_file():
        raise CxrError(f"{path} is missing; has the run made a checkpoint yet?")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CxrError(
            f"{path} is not a checkpoint that can be read (cut short, damaged, or no checkpoint at all)"
        ) from error
    if not isinstance(checkpoint, dict) or not {"cxr", "state_dict", "epoch"} <= checkpoint.keys():
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks the network's configuration")
    return checkpoint


def next_epoch(checkpoint: Mapping[str, Any]) -> int:
    """The epoch that training goes on with from the content of `last.ckpt`."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"])

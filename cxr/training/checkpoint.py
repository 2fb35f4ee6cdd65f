"""Checkpoints: when they are written, what is in them, and how a network is rebuilt from one alone."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cxr.errors import CxrError, first_line
from cxr.files import replacing
from cxr.findings import check_names
from cxr.model.network import Network
from cxr.runs import Run, read_configuration
from cxr.training.build import build_network

_PREFIX = "network."


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, everything that training needs to go on, and `best.ckpt`, the best validation macro AUROC.

    `last` is written after optimizer steps, when an interval is over; between epochs, when schedulers and early
    stopping have seen the epoch; and at the end. After the last step of an epoch it waits for the validation.

    Args:
        run: whose `checkpoints/` they go to.
        every_steps: optimizer steps between two of `last`; none writes between epochs only.
        every_seconds: the same by the clock.
    """

    def __init__(self, run: Run, every_steps: int | None = None, every_seconds: float | None = None) -> None:
        self.run = run
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.best_score = -math.inf
        self.best_epoch = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes where this process began."""
        self._began = trainer.current_epoch
        self._step = self._look = self._saved_step = trainer.global_step
        self._saved = self._looked = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes `last.ckpt` after an optimizer step when it is due."""
        if trainer.global_step == self._step:
            return  # within a window: its gradients are in no checkpoint
        self._step = trainer.global_step
        due = bool(self.every_steps) and self._step - self._saved_step >= (self.every_steps or 0)
        due = self._due_by_clock(trainer) or due
        if due and not trainer.is_last_batch:
            self._save_last(trainer)

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
            self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the last `last.ckpt`."""
        self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        save(trainer, self.run.last)
        self._saved, self._saved_step = time.monotonic(), trainer.global_step

    def _due_by_clock(self, trainer: pl.Trainer) -> bool:
        """The first rank's clock decides for all, asked about once a second, since ranks have to wait for it."""
        if not self.every_seconds or self._step < self._look:
            return False
        now = time.monotonic()
        a_step = (now - self._looked) / max(1, self._step - (self._looked_step or self._step - 1))
        self._looked, self._looked_step = now, self._step
        pause = max(1, int(min(1.0, self.every_seconds / 10) / max(a_step, 1e-6)))
        answer = (now - self._saved >= self.every_seconds, self._step + pause)
        due, self._look = trainer.strategy.broadcast(answer)
        return due

    _looked_step: int | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Between epochs, says that the last one is over: Lightning has already counted the next, and would skip it."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        if _within_epoch(progress["current"]):
            return
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
    config = read_configuration(about["config"], f"the configuration in {path}")
    findings = tuple(about["findings"])
    try:
        # The weights come from this file, not from where training once took its first ones.
        backbone = {**config["backbone"], "pretrained": False, "weights": None}
        network = build_network({**config, "backbone": backbone}, len(findings))
    except CxrError:
        raise
    except Exception as error:  # any value of a configuration may be of another kind than ours
        raise CxrError(f"no network can be built from the configuration in {path}: {first_line(error)}") from error
    try:
        network.load_state_dict({k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)})
    except RuntimeError as error:
        raise CxrError(f"{path} does not fit the network of its own configuration: {first_line(error)}") from error
    return LoadedNetwork(network.eval(), findings, int(checkpoint["epoch"]), state_sha256(state), config)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, read with `weights_only=True`.

    Raises:
        CxrError: the file is missing, broken, or not one of this framework's checkpoints: every value that others
            take from it without looking is of the kind that they expect.
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
    about, state = checkpoint["cxr"], checkpoint["state_dict"]
    texts = ("config", "split_fingerprint", "labels_sha256")
    if not isinstance(about, dict) or not all(isinstance(about.get(name), str) for name in texts):
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks one of {', '.join(texts)}")
    findings = about.get("findings")
    if not isinstance(findings, list) or not findings or not all(isinstance(name, str) for name in findings):
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks the names of its findings")
    check_names(findings, "finding", str(path))
    if type(checkpoint["epoch"]) is not int or checkpoint["epoch"] < 0:
        raise CxrError(f"{path} is not a checkpoint of this framework: its epoch is {checkpoint['epoch']!r}")
    odd = [name for name, value in state.items() if not _is_weight(name, value)] if isinstance(state, dict) else ["all"]
    if odd:
        raise CxrError(f"{path} is not a checkpoint of this framework: {odd[0]!r} among its weights is no plain tensor")
    return checkpoint


def _is_weight(name: object, value: object) -> bool:
    """Whether it is a named tensor with each of its numbers in memory; a view can claim any number of them."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def place(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """(epoch, batches of it that were trained on) where training goes on from the content of `last.ckpt`.

    Raises:
        CxrError: it does not say so.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epoch = loop["epoch_progress"]["current"]
        had = loop["epoch_loop.batch_progress"]["current"]["processed"] if _within_epoch(epoch) else 0
        return int(epoch["completed"]), int(had)
    except (KeyError, TypeError, ValueError):
        raise CxrError("last.ckpt does not say where training goes on; was it written by this framework?") from None


def _within_epoch(progress: Mapping[str, int]) -> bool:
    return progress["started"] > progress["processed"]

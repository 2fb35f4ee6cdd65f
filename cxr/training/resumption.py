"""Resuming in the middle of an epoch: the running sums and random states that Lightning does not save."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch import distributed as dist

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training.checkpoint import parse_checkpoint, resume_position
from cxr.training.saving import newest_verified


class MidEpoch(Callback):
    """Saves and restores the epoch's training scores, the sums of its loss and the random states of every rank.

    A run may resume with another number of processes if the images already seen divide evenly into their batches.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._task: ClassificationTask | None = None
        self._restored: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keeps a reference to the task to save its scores."""
        assert isinstance(pl_module, ClassificationTask)
        self._task = pl_module

    def state_dict(self) -> dict[str, Any]:
        """Scores and sums of all ranks, (ranks, n, ...), and the random states of each; every rank calls it."""
        assert self._task is not None
        scores, sums = self._task.train_scores.state(), self._task.train_scores.sums
        return {
            "scores": None if scores is None else [self._of_all_ranks(part) for part in scores],
            "sums": None if sums is None else self._of_all_ranks(sums),
            "random": _gathered(random_states()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until training starts."""
        self._restored = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Converts Lightning's count of batches to batches of this number of processes."""
        saved = resume_position(checkpoint)[1]
        if saved:
            done = batches_done(checkpoint, self.batch_size, trainer.world_size)
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            counts.update({key: value + done - saved for key, value in counts.items()})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores scores, sums and random states before the first batch."""
        if self._restored is None:
            return
        assert self._task is not None
        scores, states = self._restored["scores"], self._restored["random"]
        if batch_idx and scores is not None:
            shares = [_share(part, trainer, filler=k == 0) for k, part in enumerate(scores)]
            sums = _share_of_sums(self._restored["sums"], trainer)
            self._task.train_scores.restore(shares, sums.to(self._task.device))
        if len(states) == trainer.world_size:
            set_random_states(states[trainer.global_rank])
        self._restored = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends Lightning's restart mode, in which it would skip a step of the plateau schedule after this epoch."""
        trainer.fit_loop.restarting = False

    def _of_all_ranks(self, part: Tensor) -> Tensor:
        assert self._task is not None
        if self._task.trainer.world_size == 1:
            return part.cpu()[None]
        gathered = self._task.all_gather(part)
        assert isinstance(gathered, Tensor)
        return gathered.cpu()


@dataclass(frozen=True)
class Restored:
    """The checkpoint that training resumes from.

    Attributes:
        start: epoch, and number of its batches that are done, counted in batches of the current number of processes.
    """

    path: Path
    content: dict[str, Any]
    start: tuple[int, int]


def read_resume_checkpoint(run: Run, batch_size: int, ranks: int, show: bool = True) -> Restored | None:
    """The newest undamaged checkpoint of a run, or None if the run has no checkpoint yet.

    Args:
        ranks: number of processes that resume it.
        show: report and rename a damaged checkpoint.

    Raises:
        CxrError: the file is not a checkpoint of this framework, its batches do not divide among these processes, or
            version 0.1 wrote it in the middle of an epoch.
    """
    newest = newest_verified(run, show)
    if newest is None:
        return None
    path, content = newest[0], parse_checkpoint(newest[1], newest[0])
    epoch, batches = resume_position(content)
    if batches and "sums" not in content["callbacks"][MidEpoch.__qualname__]:
        raise CxrError(
            f"{path} was written by version 0.1 in the middle of epoch {epoch + 1}, which only that version can "
            "resume; start a new run"
        )
    return Restored(path, content, (epoch, batches_done(content, batch_size, ranks)))


def batches_done(checkpoint: Mapping[str, Any], batch_size: int, ranks: int) -> int:
    """Batches of the current epoch that a checkpoint has trained on, counted in batches of `ranks` processes.

    Raises:
        CxrError: the images do not divide evenly into such batches.
    """
    saved = resume_position(checkpoint)[1]
    if not saved:
        return 0
    devices = len(checkpoint["callbacks"][MidEpoch.__qualname__]["random"])
    if saved * devices % ranks:
        raise CxrError(
            f"the run was stopped after {saved * devices * batch_size} images of an epoch on {devices} device(s), "
            f"which {ranks} devices do not share evenly in batches of {batch_size}; pass trainer.devices={devices}"
        )
    return saved * devices // ranks


def random_states() -> dict[str, Any]:
    """The states of all global generators of this process, as plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    states = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Sets the states of all global generators of this process."""
    torch.set_rng_state(states["torch"])
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, normal = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, normal))  # noqa: NPY002
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _gathered(states: dict[str, Any]) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_initialized()):
        return [states]
    parts: list[dict[str, Any]] = [states] * dist.get_world_size()
    dist.all_gather_object(parts, states)
    return parts


def _share_of_sums(sums: Tensor, trainer: pl.Trainer) -> Tensor:
    """This rank's row of (ranks, 2) sums; if the number of ranks changed, the first rank gets the total."""
    if len(sums) == trainer.world_size:
        return sums[trainer.global_rank]
    return sums.sum(dim=0) * (trainer.global_rank == 0)


def _share(part: Tensor, trainer: pl.Trainer, filler: bool) -> Tensor:
    """This rank's share of (ranks, n, ...) values; if the number of ranks changed, padded, indices with -1."""
    if len(part) == trainer.world_size:
        return part[trainer.global_rank]
    flat = part.flatten(0, 1)
    missing = -len(flat) % trainer.world_size
    flat = torch.cat([flat, torch.full_like(flat[:1], -1 if filler else 0).expand(missing, *flat.shape[1:])])
    return flat[trainer.global_rank :: trainer.world_size]

"""What going on in the middle of an epoch needs besides Lightning's counters: running sums and random states."""

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
from cxr.model.network import NetworkOutput
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training.checkpoint import parse_checkpoint, place
from cxr.training.saving import newest_checkpoint


class MidEpoch(Callback):
    """Puts the epoch's training scores, sums of its loss and every rank's random states into checkpoints, and back.

    A run may go on with another number of processes if what had been seen divides into whole batches of theirs.

    Args:
        batch_size: images a batch of one process.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._task: ClassificationTask | None = None
        self._restored: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Notes whose scores they are."""
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
        """Keeps it until training starts."""
        self._restored = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Counts the batches that were had in batches of this number of processes."""
        had = place(checkpoint)[1]
        if had:
            here = batches_here(checkpoint, self.batch_size, trainer.world_size)
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            counts.update({key: value + here - had for key, value in counts.items()})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores them before the first batch."""
        if self._restored is None:
            return
        assert self._task is not None
        scores, states = self._restored["scores"], self._restored["random"]
        if batch_idx and scores is not None:
            shares = [_share(part, trainer, filler=k == 0) for k, part in enumerate(scores)]
            sums = self._restored.get("sums")
            mine = self._summed(shares) if sums is None else _share_of_sums(sums, trainer)
            self._task.train_scores.restore(shares, mine.to(self._task.device))
        if len(states) == trainer.world_size:
            set_random_states(states[trainer.global_rank])
        self._restored = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the restart with the resumed epoch's training, or Lightning would not step the plateau schedule."""
        trainer.fit_loop.restarting = False

    def _summed(self, scores: list[Tensor]) -> Tensor:
        """The sums of the loss from the scores of a checkpoint of version 0.1, which does not hold them."""
        assert self._task is not None
        index, logits, target = (part.to(self._task.device) for part in scores)
        output, batch = NetworkOutput(logits, None, logits), {"index": index, "target": target}
        with torch.no_grad():
            terms = self._task.loss(output, batch, self._task.current_epoch)
        return torch.stack([terms.total.double(), terms.number.double()])

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
        path: of its file.
        content: of the file.
        start: epoch, and batches of it that are done, counted in batches of as many processes as there are now.
    """

    path: Path
    content: dict[str, Any]
    start: tuple[int, int]


def read_restored(run: Run, batch_size: int, ranks: int, show: bool = True) -> Restored | None:
    """The newest whole checkpoint of a run, or none where there is none yet.

    Args:
        run: which.
        batch_size: images a batch of one process.
        ranks: number of processes that resume it.
        show: say what is damaged, and rename it.

    Raises:
        CxrError: it is none of this framework's, or its batches do not divide among these processes.
    """
    whole = newest_checkpoint(run, show)
    if whole is None:
        return None
    content = parse_checkpoint(whole.content, whole.path)
    return Restored(whole.path, content, (place(content)[0], batches_here(content, batch_size, ranks)))


def batches_here(checkpoint: Mapping[str, Any], batch_size: int, ranks: int) -> int:
    """Batches of an epoch that a checkpoint has had, counted in batches of `ranks` processes.

    Raises:
        CxrError: they do not come out whole.
    """
    had = place(checkpoint)[1]
    if not had:
        return 0
    then = len(checkpoint["callbacks"][MidEpoch.__qualname__]["random"])
    if had * then % ranks:
        raise CxrError(
            f"the run was stopped after {had * then * batch_size} images of an epoch on {then} device(s), which "
            f"{ranks} devices do not share evenly in batches of {batch_size}; go on with trainer.devices={then}"
        )
    return had * then // ranks


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
    """This rank's of (ranks, 2) sums; the first rank takes all where there were another number of ranks."""
    if len(sums) == trainer.world_size:
        return sums[trainer.global_rank]
    return sums.sum(dim=0) * (trainer.global_rank == 0)


def _share(part: Tensor, trainer: pl.Trainer, filler: bool) -> Tensor:
    """This rank's share of (ranks, n, ...) values, padded where they do not divide: indices with -1."""
    if len(part) == trainer.world_size:
        return part[trainer.global_rank]
    flat = part.flatten(0, 1)
    missing = -len(flat) % trainer.world_size
    flat = torch.cat([flat, torch.full_like(flat[:1], -1 if filler else 0).expand(missing, *flat.shape[1:])])
    return flat[trainer.global_rank :: trainer.world_size]

"""The processes of a run: their rank for Lightning, and the data that rank 0 passes on to the others."""

import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.rendezvous import rendezvous

from cxr.errors import CxrError, first_line
from cxr.processes.ranks import Rank

_FILES, _FAILURE = "cxr/files", "cxr/failure"  # keys in the store
_CACHING = timedelta(days=14)  # the longest that ranks wait for rank 0, which may build a cache
_LEAVING = timedelta(seconds=10)


@cache
def connect(rank: Rank) -> Any:
    """The `torch.distributed.Store` of torchrun's agent or, with SLURM, one on the host of rank 0, for all ranks."""
    return next(rendezvous("env://", rank.number, rank.count))[0]


def send(rank: Rank, write: Callable[[Path], None] | None) -> None:
    """Sends the files that `write` writes to a folder from rank 0 to all others, once; None: there is nothing to do."""
    store = connect(rank)
    if store.check([_FILES]):
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        if write:
            write(Path(folder))
        files = list(Path(folder).iterdir())
        for file in files:
            store.set(f"{_FILES}/{file.name}", file.read_bytes())
        store.set(_FILES, json.dumps([file.name for file in files]))
    if write is None:  # this process ends, and the store with it
        store.wait([f"{_FILES}/{number}" for number in range(1, rank.count)], _LEAVING)


def receive(rank: Rank, folder: Path) -> bool:
    """Waits for rank 0 and writes its files to a folder; False if there is nothing to do."""
    store = connect(rank)
    store.wait([_FILES], _CACHING)
    names = json.loads(store.get(_FILES))
    for name in names:
        (folder / name).write_bytes(store.get(f"{_FILES}/{name}"))
    store.set(f"{_FILES}/{rank.number}", "")
    return bool(names)


def first_failure(rank: Rank, error: Exception) -> Exception:
    """The error of the first process that failed, which the others show instead of that they have lost it.

    Args:
        rank: of this process.
        error: of this process.
    """
    text = str(error) if isinstance(error, CxrError) else f"{type(error).__name__}: {first_line(error)}"
    own = f"process {rank.number} of {rank.count}: {text}"
    try:
        first = connect(rank).compare_set(_FAILURE, "", own).decode()
    except RuntimeError:  # the store has ended with the process that held it
        first = own
    return error if first == own else CxrError(first)


class OwnProcesses(LightningEnvironment):
    """Gives Lightning the rank of this process; it reads no variables of SLURM, torchrun, LSF or MPI itself.

    Each process is a node with one device to Lightning, so that hosts may have different numbers of processes.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank
        rank_zero_only.rank = rank.number  # type: ignore[attr-defined]

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning starts no processes."""
        return True

    def local_rank(self) -> int:
        """0: the only device of its node."""
        return 0

    def node_rank(self) -> int:
        """The rank."""
        return self.rank.number


class ProcessCountCheck(Callback):
    """Checks that as many processes are connected as were started.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: Rank) -> None:
        self.rank = rank

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raises CxrError if they are not."""
        number, count = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if (number, count) != (self.rank.number, self.rank.count):
            raise CxrError(
                f"process {self.rank.number} of {self.rank.count} is connected as process {number} of {count}; start "
                "the run again, with trainer.devices=1 if the error persists"
            )

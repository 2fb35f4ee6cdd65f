"""Rank and number of the processes that this program started, independent of a scheduler's variables."""

from dataclasses import dataclass

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from cxr.errors import CxrError


@dataclass(frozen=True)
class Rank:
    """The number of a process of a run, and how many there are."""

    number: int = 0
    count: int = 1


class OwnProcesses(LightningEnvironment):
    """Keeps Lightning from reading the variables of SLURM, torchrun, LSF or MPI.

    Args:
        rank: of this process. Rank 0 writes Lightning's logs.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank
        rank_zero_only.rank = rank.number  # type: ignore[attr-defined]

    @property
    def creates_processes_externally(self) -> bool:
        """True: `launch` starts the processes, Lightning starts none."""
        return True

    def local_rank(self) -> int:
        """The rank: all processes run on one host."""
        return self.rank.number

    def node_rank(self) -> int:
        """0, the only host."""
        return 0


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

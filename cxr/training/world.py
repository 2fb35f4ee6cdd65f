"""The processes of a run, as this program started them; what a scheduler says about its own processes is not asked."""

from dataclasses import dataclass

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from cxr.errors import CxrError


@dataclass(frozen=True)
class Rank:
    """Which process of a run this is, of how many."""

    number: int = 0
    count: int = 1


class OwnProcesses(LightningEnvironment):
    """Keeps Lightning from reading the variables of SLURM, torchrun, LSF or MPI.

    Args:
        rank: of this process. It is also the one by which Lightning decides who writes logs.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank
        rank_zero_only.rank = rank.number  # type: ignore[attr-defined]

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    def local_rank(self) -> int:
        """All processes run on one host."""
        return self.rank.number

    def node_rank(self) -> int:
        """Of that host."""
        return 0


class WholeWorld(Callback):
    """Checks, once the processes are connected, that they are as many as were started.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: Rank) -> None:
        self.rank = rank

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raises CxrError if they are fewer or more."""
        connected = dist.is_initialized()
        place = (dist.get_rank(), dist.get_world_size()) if connected else (0, 1)
        if place != (self.rank.number, self.rank.count):
            raise CxrError(
                f"process {self.rank.number} of {self.rank.count} is connected as process {place[0]} of {place[1]}; "
                "start the run again, with trainer.devices=1 if it stays so"
            )

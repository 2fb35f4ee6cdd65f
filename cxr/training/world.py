"""The rank of this process for Lightning, and a check that all processes of the run are connected."""

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from cxr.errors import CxrError
from cxr.processes.ranks import Rank


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

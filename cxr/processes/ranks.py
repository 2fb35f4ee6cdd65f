"""The rank of this process where torchrun or SLURM started it.

torchrun's variables count because torchrun starts the program itself, SLURM's only with `trainer=slurm`. No other
variable of a scheduler changes a run.
"""

import os
import re
from dataclasses import dataclass

from cxr.errors import CxrError


@dataclass(frozen=True)
class Rank:
    """The number of a process of a run, and how many there are.

    Attributes:
        number: from 0, over all hosts.
        count: of processes on all hosts.
        local: number on its host, from 0.
    """

    number: int = 0
    count: int = 1
    local: int = 0


def given_rank(strategy: str) -> Rank | None:
    """The rank of this process if torchrun or, with `trainer=slurm`, srun started it; none otherwise.

    With SLURM, `MASTER_ADDR` and `MASTER_PORT` are set where the job does not set them.

    Args:
        strategy: `trainer.strategy`.

    Raises:
        CxrError: `trainer=slurm` outside a job step.
    """
    environ = os.environ
    if strategy != "slurm":
        if "TORCHELASTIC_RUN_ID" not in environ or "RANK" not in environ:
            return None
        return Rank(*(int(environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    needed = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST")
    missing = [name for name in needed if name not in environ]
    if missing:
        raise CxrError(f"trainer=slurm, but {missing[0]} is not set; start the program with srun, or use trainer=ddp")
    environ.setdefault("MASTER_ADDR", first_host(environ["SLURM_STEP_NODELIST"]))
    environ.setdefault("MASTER_PORT", str(20000 + int(environ["SLURM_JOB_ID"]) % 10000))
    return Rank(*(int(environ[name]) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")))


def first_host(hosts: str) -> str:
    """The first host of SLURM's list: `a1` of `a[1-3,7],b2`."""
    return re.sub(r"^([^,\[]*)(?:\[([^,\]-]*)[^\]]*\])?.*", r"\1\2", hosts)

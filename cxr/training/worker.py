"""One of several processes of a run.

`launch` starts `python -m cxr.training.worker RUN REASON`; torchrun and SLURM start the program itself.
"""

import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from cxr.configuration.plugins import trust, user_configuration
from cxr.errors import CxrError, first_line
from cxr.processes.isolation import die_with_parent
from cxr.processes.ranks import Rank
from cxr.processes.stopping import REQUEUE, Stopped, requests
from cxr.run.directory import Run
from cxr.training.assemble import assemble
from cxr.training.devices import resolve_devices
from cxr.training.launch import rank_of_this_process
from cxr.training.prepare import read_prepared
from cxr.training.resumption import read_resume_checkpoint
from cxr.training.run import work
from cxr.training.world import connect, first_failure, receive, send


def main(path: str, reason: str) -> int:
    """Trains this rank of the run at `path`; returns the exit code.

    The reason of a failure is written to the file `reason`, not printed: when one rank fails, all others do, and the
    parent prints the first reason.
    """
    die_with_parent()
    run = Run(Path(path))
    rank = rank_of_this_process()
    requests.patient = True
    requests.listen()
    try:
        _train(run, rank, Path(reason).parent)
    except CxrError as error:
        Path(reason).write_text(str(error), encoding="utf-8")
        return 1
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}; HYDRA_FULL_ERROR=1 shows the traceback"
        Path(reason).write_text(message, encoding="utf-8")
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        return 1
    except KeyboardInterrupt:  # the parent prints it
        return 130
    except Stopped as stopped:
        if rank.number == 0:
            print(stopped, file=sys.stderr, flush=True)
        return REQUEUE
    return 0


def train_as(rank: Rank, begin: Callable[[], float]) -> float:
    """Trains a run in the processes that torchrun or SLURM started.

    Args:
        begin: starts or resumes the run, in rank 0; the others get the run and its data from there.

    Returns:
        The return value of `begin`; NaN in other ranks.

    Raises:
        CxrError: this process failed, or another did before; the message is that of the first.
    """
    connect(rank)
    try:
        if rank.number == 0:
            try:
                return begin()
            finally:
                send(rank, None)  # unless it has sent its data: the run was finished, or could not begin
        requests.patient = True
        with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
            if receive(rank, Path(folder)):
                run = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
                _train(Run(Path(run)), rank, Path(folder))
        return math.nan
    except Exception as error:
        raise first_failure(rank, error) from error
    finally:
        if dist.is_initialized():  # otherwise the process would end with SIGABRT, whatever its exit code
            dist.destroy_process_group()


def _train(run: Run, rank: Rank, folder: Path) -> None:
    """Trains one rank with the data that another process has read and checked, and left in a folder."""
    config = run.config()
    trusted = json.loads((folder / "trust.json").read_text(encoding="utf-8"))
    trust(trusted["plugins"])
    with user_configuration(trusted["own"]):
        restored = read_resume_checkpoint(run, int(config["batch_size"]), rank.count, show=False)
        devices = resolve_devices(config["trainer"])
        work(assemble(config, run, devices, restored, rank, read_prepared(folder)), restored)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

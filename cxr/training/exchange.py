"""What the processes of a run tell each other: the run, the data that rank 0 has read, and the first failure."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from torch.distributed.rendezvous import rendezvous

from cxr.configuration.plugins import trust, trust_state, user_configuration
from cxr.errors import CxrError, first_line
from cxr.processes.ranks import Rank
from cxr.run.directory import Run

_FILES, _FAILURE = "cxr/files", "cxr/failure"  # keys in the store
_LEAVING = timedelta(seconds=10)
_PART = 1 << 22  # bytes of a file in one value; torch's store refuses values of more than 8 MiB


@cache
def connect(rank: Rank) -> Any:
    """The `torch.distributed.Store` of `launch` or torchrun or, with SLURM, one in rank 0, for all ranks."""
    return next(rendezvous("env://", rank.number, rank.count))[0]


def send(rank: Rank, write: Callable[[Path], None] | None) -> bool:
    """Sends the files that `write` writes to a folder from rank 0 to all others, once; None: there is nothing to do.

    Returns:
        Whether nothing had been sent before.
    """
    store = connect(rank)
    if store.check([_FILES]):
        return False
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        if write:
            write(Path(folder))
        parts = dict[str, int]()
        for file in Path(folder).iterdir():
            content = file.read_bytes()
            starts = range(0, len(content), _PART)
            for number, start in enumerate(starts):
                store.set(f"{_FILES}/{file.name}/{number}", content[start : start + _PART])
            parts[file.name] = len(starts)
        store.set(_FILES, json.dumps(parts))
    if write is None and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # the store ends with this process
        with suppress(RuntimeError):  # a rank has ended, or is slow
            store.wait([f"{_FILES}/{number}" for number in range(1, rank.count)], _LEAVING)
    return True


def receive(rank: Rank, folder: Path) -> bool:
    """Waits for rank 0, which may build a cache, and writes its files to a folder; False if there is nothing to do."""
    store = connect(rank)
    while not store.check([_FILES]):  # unlike `store.wait`, signals interrupt this
        time.sleep(0.1)
    parts = json.loads(store.get(_FILES))
    for name, count in parts.items():
        (folder / name).write_bytes(b"".join(store.get(f"{_FILES}/{name}/{number}") for number in range(count)))
    store.set(f"{_FILES}/{rank.number}", "")
    return bool(parts)


def write_job(run: Run, folder: Path) -> None:
    """Writes which run another process trains, and what this process trusts."""
    (folder / "job.json").write_text(json.dumps({"run": str(run.path), **trust_state()}), encoding="utf-8")


@contextmanager
def trusting(folder: Path) -> Iterator[Run]:
    """The run of `write_job`; inside the block, this process trusts what that process does."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    trust(job["plugins"])
    with user_configuration(job["own"]):
        yield Run(Path(job["run"]))


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

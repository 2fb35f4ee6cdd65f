"""Starts the processes of a run on several devices of this host, before the data are read: they work as torchrun's."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cxr.errors import CxrError
from cxr.processes.isolation import die_with_parent, how_it_ended
from cxr.processes.stopping import Stopped, pass_on
from cxr.run.directory import Run
from cxr.training.exchange import write_job
from cxr.training.worker import REFUSED

_GRACE = 10  # seconds for a child to end after SIGTERM
_INTERRUPTED = 2  # after ctrl-C
_SETTLE = 0.5  # seconds after the first failure, in which its cause in another process becomes visible


def launch(config: Mapping[str, Any], run: Run, count: int) -> float:
    """Trains a run in one process per device and waits for them; when one fails, the others are ended.

    Inside `user_configuration()` it is a new run, otherwise an existing one is resumed.

    Args:
        config: as for `cxr.training.run`, of which rank 0 calls `train` or `resume`.
        count: of processes.

    Returns:
        What rank 0 returns.

    Raises:
        CxrError: a process failed; the message is its reason, with the process once training has begun.
    """
    threads = max(1, (os.cpu_count() or 1) // count)
    listener = socket.create_server(("127.0.0.1", 0))  # other hosts do not reach the store
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(os.path.abspath, sys.path))),  # imports work as here
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(listener.getsockname()[1]),
        "WORLD_SIZE": str(count),
        "TORCHELASTIC_RUN_ID": "cxr",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    with tempfile.TemporaryDirectory(prefix="cxr-") as name:
        folder = Path(name)
        write_job(run, folder)
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
        children: list[subprocess.Popen[bytes]] = []
        try:
            for rank in map(str, range(count)):
                place = common | {"RANK": rank, "LOCAL_RANK": rank}
                command = [sys.executable, "-m", "cxr.training.worker", name]
                children.append(subprocess.Popen(command, env=place, preexec_fn=_begin_quietly))
            port = listener.getsockname()[1]
            _store = TCPStore("127.0.0.1", port, None, True, wait_for_workers=False, master_listen_fd=listener.detach())
            _wait(run, children, [folder / str(rank) for rank in range(count)])
        finally:
            _end(children)
        return float((folder / "value").read_text())


def _begin_quietly() -> None:
    """For a rank before it starts: ctrl-C, which the terminal sends to all, is the parent's until the rank hears it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait(run: Run, children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> None:
    try:
        while any(child.poll() is None for child in children) or _failed(children, reasons):
            if _failed(children, reasons):
                time.sleep(_SETTLE)
                sentence = _first_failure(run, children, reasons)
                for child in children:
                    child.kill()
                raise CxrError(sentence)
            time.sleep(0.1)
    except KeyboardInterrupt:  # the terminal sends ctrl-C to the ranks as well
        deadline = time.monotonic() + _INTERRUPTED
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        for child in children:
            child.kill()
        raise
    except Stopped:
        print("waiting for the processes to write a checkpoint; once more stops at once", flush=True)
        pass_on([child.pid for child in children if child.poll() is None])
        while all(child.poll() is None for child in children):
            time.sleep(0.1)
        deadline = time.monotonic() + _GRACE  # the others are done too, or wait for one that is gone
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        for reason in sorted(filter(Path.exists, reasons), key=lambda one: one.stat().st_mtime_ns)[:1]:
            print(f"process {reason.name} of {run.path}: {reason.read_text(encoding='utf-8')}", file=sys.stderr)
        raise


def _failed(children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> list[int]:
    """Ranks that ended with an error, or wrote a reason and may hang while ending."""
    return [rank for rank, child in enumerate(children) if child.poll() not in (None, 0) or reasons[rank].exists()]


def _first_failure(run: Run, children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> str:
    """The error of the first process that failed.

    A killed process writes no reason. The others fail after it: they write a reason, or abort.
    """

    def when(rank: int) -> tuple[bool, int]:
        written = reasons[rank].stat().st_mtime_ns if reasons[rank].exists() else 0
        return children[rank].poll() == -signal.SIGABRT, written

    first = min(_failed(children, reasons), key=when)
    name = f"process {first} of {len(children)} of {run.path}"
    if reasons[first].exists():
        reason = reasons[first].read_text(encoding="utf-8")
        return reason if reasons[first].with_name(REFUSED).exists() else f"{name}: {reason}"
    ended = how_it_ended(children[first].returncode)
    return f"{name} {ended}; with resume=true the run resumes from its last checkpoint"


def _end(children: list["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + _GRACE
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

"""Starts the processes of a run on several devices; they read the run's configuration, not the command line."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr.configuration.plugins import trust_state
from cxr.errors import CxrError
from cxr.processes.isolation import how_it_ended
from cxr.processes.ranks import Rank
from cxr.processes.stopping import Stopped, pass_on
from cxr.run.directory import Run
from cxr.training.devices import Devices
from cxr.training.prepare import Prepared

_GRACE = 10  # seconds for a child to end after SIGTERM
_SETTLE = 0.5  # seconds after the first failure, in which its cause in another process becomes visible


def launch(run: Run, devices: Devices, prepared: Prepared) -> None:
    """Runs one process per device and waits for them; when one fails, the others are ended.

    Raises:
        CxrError: a process failed; the message names the first one and its reason.
    """
    threads = max(1, (os.cpu_count() or 1) // devices.count)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TORCHELASTIC_")}
    common = inherited | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(os.path.abspath, sys.path))),  # imports work as here
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices.count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        write_inputs(prepared, Path(folder))
        reasons = [Path(folder) / str(rank) for rank in range(devices.count)]
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "cxr.training.worker", str(run.path), str(reason)],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, reason in enumerate(reasons)
        ]
        _wait(run, children, reasons)


def write_inputs(prepared: Prepared, folder: Path) -> None:
    """Writes what other ranks need beside the run's configuration: the checked data, and the trusted packages."""
    prepared.write(folder)
    (folder / "trust.json").write_text(json.dumps(trust_state()), encoding="utf-8")


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
    finally:
        _end(children)


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
        return f"{name}: {reasons[first].read_text(encoding='utf-8')}"
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rank_of_this_process() -> Rank:
    """This process's rank, from the variables that `launch` set."""
    local = int(os.environ["LOCAL_RANK"])
    return Rank(local, int(os.environ["WORLD_SIZE"]), local)

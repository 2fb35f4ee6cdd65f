"""Several processes for one run: each child reads the run's own configuration and never the parent's command line."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr.configuration.plugins import as_plain
from cxr.errors import CxrError
from cxr.processes.isolation import how_it_ended
from cxr.processes.stopping import Stopped, pass_on
from cxr.run.directory import Run
from cxr.training.devices import Devices
from cxr.training.prepare import Prepared
from cxr.training.world import Rank

_PATIENCE = 10  # seconds a child has to end after it was asked to
_NEWS = 0.5  # seconds from the first death that is seen until all that caused it can be seen


def launch(run: Run, devices: Devices, prepared: Prepared) -> None:
    """Runs one process a device and waits; when one fails the others, which cannot go on without it, are killed.

    Args:
        run: whose configuration they read.
        devices: one process each.
        prepared: the data, which they read as this process has checked them.

    Raises:
        CxrError: a process failed: the first that did, and why.
    """
    threads = max(1, (os.cpu_count() or 1) // devices.count)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TORCHELASTIC_")}
    common = inherited | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(os.path.abspath, sys.path))),  # what this process can import
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices.count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        prepared.write(Path(folder))
        (Path(folder) / "trust.json").write_text(json.dumps(as_plain()), encoding="utf-8")
        reasons = [Path(folder) / str(rank) for rank in range(devices.count)]
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "cxr.training.worker", str(run.path), str(reason)],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, reason in enumerate(reasons)
        ]
        _wait(run, children, reasons)


def _wait(run: Run, children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> None:
    try:
        while any(child.poll() is None for child in children) or _failed(children, reasons):
            if _failed(children, reasons):
                time.sleep(_NEWS)
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
        deadline = time.monotonic() + _PATIENCE  # the others are done too, or wait for one that is gone
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        for reason in sorted(filter(Path.exists, reasons), key=lambda one: one.stat().st_mtime_ns)[:1]:
            print(f"process {reason.name} of {run.path}: {reason.read_text(encoding='utf-8')}", file=sys.stderr)
        raise
    finally:
        _end(children)


def _failed(children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> list[int]:
    """Ranks; one that has given its reason may hang in its end."""
    return [rank for rank, child in enumerate(children) if child.poll() not in (None, 0) or reasons[rank].exists()]


def _first_failure(run: Run, children: list["subprocess.Popen[bytes]"], reasons: list[Path]) -> str:
    """A process that was killed gives no reason; those that miss it fail afterwards, and give theirs or abort."""

    def when(rank: int) -> tuple[bool, int]:
        told = reasons[rank].stat().st_mtime_ns if reasons[rank].exists() else 0
        return children[rank].poll() == -signal.SIGABRT, told

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
    deadline = time.monotonic() + _PATIENCE
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
    """As the launcher set it."""
    return Rank(int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"]))

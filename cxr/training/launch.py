"""Several processes for one run: each child reads the run's own configuration and never the parent's command line."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cxr
from cxr.errors import CxrError
from cxr.isolation import how_it_ended
from cxr.runs import Run
from cxr.stopping import Stopped, pass_on
from cxr.training.prepare import Devices

_PATIENCE = 10  # seconds a child has to end after it was asked to


def launch(run: Run, devices: Devices) -> None:
    """Runs one process a device and waits; when one fails the others are ended.

    Raises:
        CxrError: a process failed; its own message stands before on the terminal.
    """
    threads = max(1, (os.cpu_count() or 1) // devices.count)
    package = str(Path(cxr.__file__).parents[1])  # children find it wherever the parent was started
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(devices.count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    command = [sys.executable, "-m", "cxr.training.worker", str(run.path)]
    children = [subprocess.Popen(command, env=common | {"LOCAL_RANK": str(rank)}) for rank in range(devices.count)]
    try:
        while True:
            codes = [child.poll() for child in children]
            failed = [rank for rank, code in enumerate(codes) if code not in (None, 0)]
            if failed:
                raise CxrError(
                    f"process {failed[0]} of {devices.count} of {run.path} {how_it_ended(codes[failed[0]])}; "
                    "with resume=true the run goes on from its last checkpoint"
                )
            if all(code == 0 for code in codes):
                return
            time.sleep(0.1)
    except Stopped:
        print("waiting for the processes to write a checkpoint; once more stops at once", flush=True)
        pass_on([child.pid for child in children if child.poll() is None])
        while all(child.poll() is None for child in children):
            time.sleep(0.1)
        deadline = time.monotonic() + _PATIENCE  # the others are done too, or wait for one that is gone
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        raise
    finally:
        _end(children)


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


def rank_of_this_process() -> tuple[int, int]:
    """(rank, number of ranks) as the launcher set them."""
    return int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])

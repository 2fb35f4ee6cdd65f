"""What signals ask of a process: at once, at the next checkpoint, or as its parent decides."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.processes.stopping import Stopped, StopRequests

ROOT = Path(__file__).parents[2]


def test_twice_ends_the_process_at_once() -> None:
    program = (
        "import os, signal, time; from cxr.processes.stopping import requests; "
        "requests.listen(); requests.can_wait = True; "
        "os.kill(os.getpid(), signal.SIGTERM); print('waits', flush=True); os.kill(os.getpid(), signal.SIGUSR1); "
        "time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (75, "error: stopped by SIGUSR1\n") and "waits" in done.stdout


def test_where_no_checkpoint_will_come_it_stops_at_once() -> None:
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        StopRequests()._handle(signal.SIGTERM, None)


def test_a_process_whose_parent_passes_signals_on_waits_for_its_checkpoint() -> None:
    requests = StopRequests()
    requests.can_wait = requests.patient = True
    for _ in range(3):
        requests._handle(signal.SIGTERM, None)
    assert requests.received == "SIGTERM"

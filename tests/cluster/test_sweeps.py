"""Sweeps of joblib and submitit_local that are sent signals: their jobs leave checkpoints, and the sweep continues."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxr.processes.isolation import alive
from tests.cluster.conftest import plain_environment, wait_for

pytestmark = pytest.mark.cluster
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit": ("hydra/launcher=submitit_local",),
}
RUNS = [Path("runs") / "s" / f"seed-{seed}" for seed in (0, 1)]
Sweep = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def sweep(recipe: list[str], clone: Path) -> Iterator[Sweep]:
    """Starts a sweep over two seeds."""
    pytest.importorskip("joblib")
    pytest.importorskip("submitit")
    started: list[subprocess.Popen[str]] = []

    def begin(launcher: str, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "train.py", "-m", *recipe, "trainer=cpu", "callbacks=[]", "trainer.max_epochs=12",
                   "seed=0,1", "sweep=s", *LAUNCHERS[launcher], *options]  # fmt: skip
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=plain_environment(), **pipe))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def records() -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in sorted(Path("runs/.hydra/s/jobs").glob("*.json"))]


def jobs_of_the_sweep() -> list[int]:
    """Processes that train."""
    return [process for record in records() if alive(process := int(str(record.get("process", 0))))]


def finished(sweep: Sweep, launcher: str) -> str:
    process = sweep(launcher, "resume=auto")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    with Path("runs/s/summary.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "finished"]
    assert all(json.loads((run / "metrics.json").read_text())["max_epochs"] == 12 for run in RUNS)
    return out + err


@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ("joblib", signal.SIGTERM),
        ("joblib", signal.SIGUSR2),
        ("submitit", signal.SIGTERM),
        ("submitit", signal.SIGUSR2),
    ],
)
def test_a_sweep_that_is_told_to_stop_waits_for_checkpoints_and_continues(
    sweep: Sweep, launcher: str, number: signal.Signals
) -> None:
    process = sweep(launcher)
    for run in RUNS:
        wait_for(run / "checkpoints" / "last.ckpt")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    assert not jobs_of_the_sweep()
    with Path("runs/s/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert all("last.ckpt is written; the same command with resume=true" in row["reason"] for row in rows), rows
    finished(sweep, launcher)


def test_the_jobs_of_a_joblib_sweep_end_with_it_and_continue(sweep: Sweep) -> None:
    process = sweep("joblib")
    for run in RUNS:
        wait_for(run / "checkpoints" / "last.ckpt")
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while jobs_of_the_sweep():
        assert time.monotonic() < deadline, "jobs still run after their sweep has ended"
        time.sleep(0.2)
    finished(sweep, "joblib")


def test_a_job_that_submitit_puts_back_resumes_by_itself(sweep: Sweep) -> None:
    process = sweep("submitit", "resume=auto")
    for run in RUNS:
        wait_for(run / "checkpoints" / "last.ckpt")
    os.kill(int(str(records()[0]["parent"])), signal.SIGUSR2)  # submitit's own signal for a time limit
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    with Path("runs/s/summary.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "finished"]
    assert sorted(path.name for path in Path("runs/s").glob("seed-*")) == ["seed-0", "seed-1"]
    logs = "".join(file.read_text() for file in Path("runs/.hydra/s").rglob("*log.out"))
    assert logs.count("resumes from") == 1

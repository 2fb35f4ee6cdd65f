"""SIGTERM and SIGUSR1: a checkpoint, a sentence, exit code 75, and the way on to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.processes.stopping import requests
from cxr.task.base import ClassificationTask
from tests.end_to_end.test_resume import RECIPE, ROOT, last_of, same_end, straight


def send_at(monkeypatch: pytest.MonkeyPatch, hook: str, calls: int, number: int) -> None:
    """The process sends itself a signal at the n-th call of a method of the task."""
    real, left = getattr(ClassificationTask, hook), [calls]

    def signalling(task: ClassificationTask, *given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
        return real(task, *given)

    monkeypatch.setattr(ClassificationTask, hook, signalling)


@pytest.mark.parametrize(
    ("hook", "calls", "number"),
    [
        ("training_step", 9, signal.SIGTERM),
        ("on_validation_epoch_end", 3, signal.SIGUSR1),
        pytest.param("training_step", 16, signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("validation_step", 2, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_request_is_answered_with_a_checkpoint_and_changes_no_byte(
    train: Callable[..., Any], here: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch, hook: str, calls: int,
    number: signal.Signals,
) -> None:  # fmt: skip
    reference = straight(train, shelf)
    with monkeypatch.context() as patch:
        send_at(patch, hook, calls, number)
        stopped = train(*RECIPE, "name=a", "checkpoint.every_steps=null", "checkpoint.every_seconds=3600")
    run = here / "runs" / "a"
    assert stopped.code == 75, stopped.err
    step = last_of(run)["global_step"]
    assert f"stopped by {number.name} after step {step}: runs/a/checkpoints/last.ckpt is written" in stopped.err
    assert "Traceback" not in stopped.err
    requests.received = None
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(run, reference)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["cpu", "ddp"])
@pytest.mark.parametrize("group", [False, True])
def test_a_real_process_stops_in_time_and_resumes(
    here: Path, phantoms: Path, environment: dict[str, str], trainer: str, group: bool
) -> None:
    """Also where a cluster signals the parent and all its children at once."""
    command = [
        sys.executable, str(ROOT / "train.py"), *RECIPE, "backbone=resnet10", "data.images=90", "data.phantom_size=64",
        f"data.root={phantoms}", "name=a", f"trainer={trainer}", "trainer.accelerator=cpu",
        "checkpoint.every_steps=null", "trainer.max_epochs=40",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    log = here / "runs" / "a" / "steps.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or log.read_text().count("\n") < 4):
        time.sleep(0.2)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 75, out
    assert "stopped by SIGTERM" in out and "Traceback" not in out
    step = last_of(here / "runs" / "a")["global_step"]
    again = [*command[:2], "name=a", "resume=true", "trainer.max_epochs=1"]
    ended = subprocess.run(again, env=environment, capture_output=True, text=True, timeout=180)
    assert f"step {step}" in ended.stdout or ended.returncode == 0, ended.stderr

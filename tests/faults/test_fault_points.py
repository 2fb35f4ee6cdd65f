"""One run that dies over and over, at chosen calls in this process or by SIGKILL, and ends as the run that did not."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from cxr.data.datamodule import Radiographs
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training import finish, log, run, saving
from cxr.training.saving import newest_verified
from tests.end_to_end.test_resume import EVERY, RECIPE, Killed, command, killed_and_resumed, same_end

POINTS = {
    "a training step": (ClassificationTask, "training_step"),
    "an optimizer step": (ClassificationTask, "on_before_optimizer_step"),
    "a validation step": (ClassificationTask, "validation_step"),
    "the end of a validation": (ClassificationTask, "on_validation_epoch_end"),
    "a checkpoint": (pl.Trainer, "save_checkpoint"),
    "PyTorch's writing": (torch, "save"),
    "a sum's file": (saving, "_write_hashes"),
    "a sync": (os, "fsync"),
    "a rename": (Path, "replace"),
    "the rows of an epoch": (log, "_write_rows"),
    "the rows of a step": (log.StepLog, "on_train_batch_end"),
    "a batch": (Radiographs, "images"),
    "a prediction": (finish, "predict"),
    "the end of the run": (run, "finish"),
    "its metrics": (finish, "evaluate"),
}


class Deaths:
    """Kills at a call of a point, before or after it, once the life has passed as many checkpoints of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.point, self.calls, self.after, self.checkpoints, self.needed = "", 0, False, 0, 0
        for point, (owner, name) in POINTS.items():
            monkeypatch.setattr(owner, name, self._mortal(point, getattr(owner, name)))

    def _mortal(self, point: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            due = point == self.point and self.checkpoints >= self.needed
            self.calls -= due
            if due and self.calls == 0 and not self.after:
                raise Killed
            result = real(*arguments, **named)
            self.checkpoints += point == "a checkpoint" and Path(arguments[1]).name == "last.ckpt"
            if due and self.calls == 0:
                raise Killed
            return result

        return call

    def arm(self, point: str, calls: int, after: bool, needed: int) -> None:
        self.point, self.calls, self.after, self.checkpoints, self.needed = point, calls, after, 0, needed


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaths]:
    torch.set_num_threads(1)
    yield Deaths(monkeypatch)


@pytest.mark.parametrize(("number", "epochs"), [(5, 2), pytest.param(80, 80, marks=pytest.mark.slow)])
def test_deaths_at_many_points_of_one_run_change_no_byte(
    train: Callable[..., Any], here: Path, deaths: Deaths, number: int, epochs: int
) -> None:
    """Each life passes a checkpoint at least, and then dies at another point; every point has its turn."""
    recipe = [*RECIPE, f"trainer.max_epochs={epochs}", "checkpoint.every_steps=1", "early_stopping.patience=null"]
    assert train(*recipe, "runs_dir=straight", "name=a").code == 0
    rng, path, died, reached = random.Random(number), here / "runs" / "a", [], [0]
    within = [point for point in POINTS if point not in ("a prediction", "the end of the run", "its metrics")]
    arguments: list[str] = [*recipe, "name=a"]
    while len(died) < number - 3:
        point = within[len(died) % len(within)]
        deaths.arm(point, rng.randint(1, 2), bool(rng.randint(0, 1)), 1)
        with pytest.raises(Killed):
            ended = train(*arguments, plain=len(arguments) == 2)
            pytest.fail(f"it outlived {point} after {died}, step {reached}: {ended.out}{ended.err}")
        assert deaths.checkpoints > 0 and not list((path / "checkpoints").glob(".*.ckpt"))
        died.append(point)
        newest = newest_verified(Run(path), show=False)
        assert newest is not None
        reached.append(torch.load(newest[0], weights_only=True)["global_step"])
        arguments = ["name=a", "resume=true"]
    assert reached == sorted(reached) and reached[-1] > reached[len(reached) // 2] > 0
    for point in ("a prediction", "the end of the run", "its metrics"):  # after the last checkpoint
        deaths.arm(point, 1, False, 0)
        with pytest.raises(Killed):
            train(*arguments, plain=True)
        died.append(point)
    deaths.arm("", 0, False, 0)
    assert train(*arguments, plain=True).code == 0
    assert len(died) == number
    same_end(path, here / "straight" / "a")


@pytest.mark.slow
def test_twenty_real_kills_of_one_run_change_no_byte(here: Path, phantoms: Path, environment: dict[str, str]) -> None:
    recipe = [
        *RECIPE, "backbone=resnet10", "trainer=cpu", f"data.root={phantoms}", "data.images=90", "data.phantom_size=64",
        "trainer.max_epochs=30",
    ]  # fmt: skip
    subprocess.run(command(*recipe, "name=straight"), env=environment, check=True, capture_output=True)
    where = killed_and_resumed(here, environment, recipe, lives=20, seed=5, least=EVERY + 1)
    assert np.all(np.diff(where) > 0), "each life passed a checkpoint"
    same_end(here / "runs" / "killed", here / "runs" / "straight")

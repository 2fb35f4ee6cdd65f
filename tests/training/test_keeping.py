"""Which epochs `best.ckpt` and `epoch-<n>.ckpt` keep, and when `last.ckpt` is written and the process stops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cxr.loss.bce import BinaryCrossEntropy
from cxr.processes.stopping import Stopped, requests
from cxr.run.directory import Run
from cxr.task.base import Monitor
from cxr.task.multi_label import MultiLabel
from cxr.training.keeping import RunCheckpoints
from cxr.training.saving import CheckpointFiles
from tests.training.constant import KNOWN, NAN, fit

MONITOR = Monitor("val/told", "max")


class Told(MultiLabel):
    """Whose epochs have the values that it is given."""

    logged = ("told",)

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def metrics(self, target: NDArray[np.float32], score: NDArray[np.float32]) -> dict[str, float]:
        return {"told": self.values[self.current_epoch]}


def train(folder: Path, values: list[float], monitor: Monitor = MONITOR, **options: Any) -> Run:
    run = Run(folder)
    fit(
        RunCheckpoints(run, monitor, **options),
        epochs=len(values),
        task=Told(values),
        plugins=[CheckpointFiles(run)],
        lr=0.1,
    )
    return run


def epochs(run: Run) -> dict[str, int]:
    """The epoch that each checkpoint says it is of."""
    files = [path for path in run.best.parent.glob("*.ckpt") if path.stem not in ("last", "previous")]
    return {path.stem: int(torch.load(path, weights_only=True)["epoch"]) for path in files}


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([0.1, 0.3, 0.2], "max", 1), ([0.3, 0.1, 0.2], "min", 1), ([0.2, 0.2, 0.1], "max", 0),
        ([NAN, 0.1, NAN], "max", 1),
        ([NAN, NAN, NAN], "max", 2), ([NAN, 0.2, 0.1], "min", 2), ([-0.5, -0.1], "max", 1), ([0.4, NAN], "min", 0),
    ],
)  # fmt: skip
def test_best_is_the_first_of_the_best_epochs_and_the_latest_where_none_has_a_value(
    tmp_path: Path, values: list[float], mode: str, best: int
) -> None:
    run = train(tmp_path, values, Monitor("val/told", mode))
    assert epochs(run) == {"best": best}


@pytest.mark.parametrize(
    ("values", "mode", "kept"),
    [([0.1, 0.4, 0.2, 0.3], "max", {1, 3}), ([0.1, 0.4, 0.2, 0.3], "min", {0, 2}), ([0.4, NAN, 0.2], "max", {0, 2}),
     ([0.2, 0.2, 0.2], "max", {0, 1})],
)  # fmt: skip
def test_more_than_one_best_epoch_is_kept_under_its_number(
    tmp_path: Path, values: list[float], mode: str, kept: set[int]
) -> None:
    run = train(tmp_path, values, Monitor("val/told", mode), keep_best=2)
    best = epochs(run)["best"]
    assert epochs(run) == {"best": best} | {f"epoch-{epoch}": epoch for epoch in kept} and best in kept
    sums = {path.name for path in run.best.parent.glob("epoch-*.sha256")}
    assert sums == {f"epoch-{epoch}.ckpt.sha256" for epoch in kept}, "a file that goes takes its sum with it"


class Switching(BinaryCrossEntropy):
    """With deferred weights from the third epoch on."""

    switch_epoch = 2


@pytest.mark.parametrize(
    ("values", "kept"),
    [([0.9, 0.8, 0.1, 0.3], {3, 2}), ([0.1, 0.2, 0.5], {2}), ([0.9, 0.8, NAN], {2}), ([0.9, 0.8], {0, 1})],
)  # fmt: skip
def test_selection_starts_anew_where_the_weights_of_the_loss_begin(
    tmp_path: Path, values: list[float], kept: set[int]
) -> None:
    run = Run(tmp_path)
    fit(
        RunCheckpoints(run, MONITOR, keep_best=2), epochs=len(values), task=Told(values),
        plugins=[CheckpointFiles(run)], loss=lambda: Switching([1, 1], [1, 1]),
    )  # fmt: skip
    best = max(kept, key=lambda epoch: values[epoch])
    assert epochs(run) == {"best": best} | {f"epoch-{epoch}": epoch for epoch in kept}


def written(run: Run, values: list[float], monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[int]:
    """The step of each `last.ckpt`, in order."""
    steps: list[int] = []
    real = CheckpointFiles.save_checkpoint

    def save(files: CheckpointFiles, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path) == run.last:
            steps.append(checkpoint["global_step"])
        real(files, checkpoint, path, storage_options)

    monkeypatch.setattr(CheckpointFiles, "save_checkpoint", save)
    callback = RunCheckpoints(run, MONITOR, **options)
    fit(
        callback, epochs=len(values), task=Told(values), train=KNOWN * 3, plugins=[CheckpointFiles(run)]
    )  # six steps an epoch
    return steps


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [6, 12]), ({"every_steps": 2}, [2, 4, 6, 8, 10, 12]), ({"every_steps": 4}, [4, 6, 10, 12]),
        ({"every_steps": 100}, [6, 12]), ({"every_seconds": 1e-9}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ({"every_seconds": 1e9}, [6, 12]),
    ],
)  # fmt: skip
def test_last_is_written_when_an_interval_is_over_between_epochs_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], steps: list[int]
) -> None:
    assert written(Run(tmp_path), [0.1, 0.2], monkeypatch, **options) == steps


def test_a_process_with_a_signal_writes_last_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "received", "SIGTERM")
    monkeypatch.setattr(requests, "can_wait", True)
    run = Run(tmp_path / "a")
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM after step \d+: .*last\.ckpt is written; .*resume=true"):
        fit(RunCheckpoints(run, MONITOR), epochs=2, task=Told([0.1, 0.2]), plugins=[CheckpointFiles(run)])
    assert requests.can_wait is False


def test_a_resumed_run_knows_its_best_value(tmp_path: Path) -> None:
    run = train(tmp_path, [0.125, 0.5, 0.25], keep_best=2)
    state = torch.load(run.last, weights_only=True)["callbacks"]["RunCheckpoints"]
    again = RunCheckpoints(run, MONITOR, keep_best=2)
    again.load_state_dict(state)
    assert again.best == [(0.5, 1), (0.25, 2)]
    again.load_state_dict({})  # of an earlier version
    assert again.best == []

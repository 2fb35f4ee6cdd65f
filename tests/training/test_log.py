"""`metrics.csv` and `steps.csv`: what an epoch and a step write, what a resumed run cuts off, and what is read back."""

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer
from torch import nn

from cxr.errors import CxrError
from cxr.loss.mae import MeanAbsoluteError
from cxr.run.directory import Run
from cxr.training.log import EpochLog, StepLog, read_log, read_rows, read_steps, shown
from cxr.training.saving import CheckpointFiles
from tests.training.constant import KNOWN, UNKNOWN, bce, fit

EPOCHS = 4
HEADER = "epoch,step,lr,train/loss,val/loss,images_per_second\n"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def logged(folder: Path, show: bool = True, every: int = 1, **options: Any) -> tuple[list[Any], list[Any]]:
    """Rows of `metrics.csv` and of `steps.csv` of a training."""
    fit(EpochLog(folder / "metrics.csv", show), StepLog(folder / "steps.csv", every), epochs=EPOCHS, **options)
    return rows(folder / "metrics.csv"), rows(folder / "steps.csv")


@pytest.mark.parametrize("loss", [bce, MeanAbsoluteError])
def test_the_loss_of_a_validation_without_a_known_label_is_undefined(
    tmp_path: Path, loss: Callable[[], nn.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, _ = logged(tmp_path, val=UNKNOWN, loss=loss)
    assert all(np.isnan(float(row["val/loss"])) for row in epochs)
    assert all(float(row["train/loss"]) > 0 for row in epochs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == EPOCHS and all("train undefined val  AUROC" in line for line in lines)


def test_the_loss_of_a_step_without_a_known_label_is_undefined_and_the_next_one_is_not(tmp_path: Path) -> None:
    _, steps = logged(tmp_path, train=[*UNKNOWN[:2], *KNOWN[:2]])
    losses = [float(row["loss"]) for row in steps]
    assert np.isnan(losses[::2]).all()
    assert losses[1::2] == pytest.approx([np.log(2)] * EPOCHS)


def test_an_epoch_is_a_row_and_a_line_and_a_step_is_a_row_if_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, steps = logged(tmp_path, every=3, train=KNOWN * 2, lr=0.25)  # four steps an epoch
    assert [(row["epoch"], row["step"]) for row in epochs] == [("0", "4"), ("1", "8"), ("2", "12"), ("3", "16")]
    assert [(row["epoch"], row["step"]) for row in steps] == [
        ("0", "3"),
        ("1", "6"),
        ("2", "9"),
        ("2", "12"),
        ("3", "15"),
    ]
    assert {row["lr"] for row in (*epochs, *steps)} == {"0.25"}
    assert all(float(row["images_per_second"]) > 0 for row in epochs)
    lines = capsys.readouterr().out.splitlines()
    last = epochs[-1]
    assert lines[-1].startswith(
        f"epoch 4/4  step 16  loss {float(last['train/loss']):.4f} train {float(last['val/loss']):.4f} val  AUROC "
        f"{float(last['train/macro_auroc']):.4f} train {float(last['val/macro_auroc']):.4f} val  "
    )
    logged(tmp_path, show=False)
    assert capsys.readouterr().out == ""


class Ends(Callback):
    """Breaks off within an epoch, or after it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("enough")


class Keeps(Callback):
    """Writes a checkpoint after a step."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_cuts_rows_after_its_checkpoint_off_and_writes_them_again(tmp_path: Path) -> None:
    run, straight = Run(tmp_path / "a"), tmp_path / "straight"
    run.path.mkdir()
    straight.mkdir()
    options: dict[str, Any] = {"lr": 0.5, "plugins": [CheckpointFiles(run)], "epochs": EPOCHS}
    logged(straight, lr=0.5)

    def logs() -> tuple[Callback, Callback]:
        return EpochLog(run.log, False), StepLog(run.steps, 1)

    with pytest.raises(RuntimeError, match="enough"):
        fit(*logs(), Keeps(run.last, 4), Ends(7), **options)
    assert [len(rows(run.log)), len(rows(run.steps))] == [3, 7]
    with run.steps.open("a") as file:
        file.write("8,3,0.1")  # half a row
    fit(*logs(), **options, resumed={"ckpt_path": run.last, "weights_only": True})
    assert run.steps.read_bytes() == (straight / "steps.csv").read_bytes()
    ours, theirs = rows(run.log), rows(straight / "metrics.csv")
    assert [row["epoch"] for row in ours] == ["0", "1", "2", "3"]
    for name in ("step", "lr", "train/loss", "val/loss", "train/macro_auroc", "val/macro_auroc"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


def test_a_new_training_with_the_same_files_begins_them_anew(tmp_path: Path) -> None:
    logged(tmp_path)
    assert [len(part) for part in logged(tmp_path)] == [EPOCHS, 2 * EPOCHS]


def test_a_log_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("step,epoch,loss,lr\n1,0,0.5,0.1\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "steps.csv").symlink_to(mine)
    fit(StepLog(tmp_path / "runs" / "steps.csv", 1), epochs=1)
    assert mine.read_text() == "step,epoch,loss,lr\n1,0,0.5,0.1\n"
    assert not (tmp_path / "runs" / "steps.csv").is_symlink() and len(rows(tmp_path / "runs" / "steps.csv")) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.training.log.no_link", lambda path, flags: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(CxrError, match=r"cannot write .*steps\.csv: the disk is full"):
        fit(StepLog(tmp_path / "steps.csv", 1), epochs=1)


def test_rows_are_read_up_to_the_first_that_a_kill_has_cut(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    assert read_steps(path) == [] and read_rows(tmp_path / "metrics.csv") == []
    path.write_text("step,epoch,loss,lr\n1,0,0.5,0.1\n2,0,nan,0.1\n3,0,0.5\n4,0,0.5,0.1\n")
    assert read_steps(path) == [
        {"step": "1", "epoch": "0", "loss": "0.5", "lr": "0.1"},
        {"step": "2", "epoch": "0", "loss": "nan", "lr": "0.1"},
    ]  # fmt: skip
    path.write_text("step,epoch,loss,lr\n1,0,0.5,0.1\n2,0,0.5,0.1")
    assert [row["step"] for row in read_steps(path)] == ["1"]
    path.write_text("")
    assert read_steps(path) == []


def test_a_log_is_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(HEADER + "0,4,0.1,0.7,nan,12.5\n1,8,0.1,inf,0.6,\n")
    table = read_log(path)
    assert list(table) == HEADER.strip().split(",") and len(read_rows(path)) == 2
    assert table["epoch"].tolist() == [0, 1] and table["train/loss"][0] == 0.7 and table["val/loss"][1] == 0.6
    assert [math.isnan(table[name][row]) for name, row in (("val/loss", 0), ("train/loss", 1))] == [True, True]
    assert list(read_log(tmp_path / "absent.csv")) == HEADER.strip().split(",")


@pytest.mark.parametrize(
    ("value", "said"), [(None, "undefined"), (math.nan, "undefined"), (0.12344, "0.1234"), (1, "1.0000")]
)
def test_the_terminal_shows_four_decimals_or_undefined(value: float | None, said: str) -> None:
    assert shown(value) == said

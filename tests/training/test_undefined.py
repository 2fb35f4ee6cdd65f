"""Where no label of a split is known its loss is undefined, and nothing that reads the loss is misled or stopped."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping as LightningsOwn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxr.data.datamodule import LoaderSettings
from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.mae import MeanAbsoluteError
from cxr.model.network import NetworkOutput
from cxr.task.multi_label import MultiLabel
from cxr.training.callbacks.early_stopping import EarlyStopping
from cxr.training.log import EpochLog, StepLog
from cxr.training.schedule import plateau

EPOCHS = 4


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        vector = batch["image"].float().flatten(1)
        return NetworkOutput(self.weight.expand(len(vector), 2), None, vector)


class Labels(Dataset[dict[str, Tensor]]):
    def __init__(self, target: list[list[float]]) -> None:
        self.target = torch.tensor(target)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"image": torch.zeros(1, 2, 2), "target": self.target[row], "index": torch.tensor(row)}


class Data(pl.LightningDataModule):
    def __init__(self, train: list[list[float]], val: list[list[float]]) -> None:
        super().__init__()
        self.train, self.val, self.settings = train, val, LoaderSettings(2)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Labels(self.train), batch_size=2)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Labels(self.val), batch_size=2)


NAN = float("nan")
KNOWN, UNKNOWN = [[1.0, 0.0], [0.0, 1.0], [1.0, NAN], [0.0, 0.0]], [[NAN, NAN]] * 3


def bce() -> nn.Module:
    return BinaryCrossEntropy([1, 1], [1, 1])


def fit(folder: Path, val: list[list[float]], train: list[list[float]] = KNOWN, loss: Callable[[], nn.Module] = bce,
        patience: int = 1) -> tuple[list[dict[str, str]], list[dict[str, str]]]:  # fmt: skip
    """Rows of `metrics.csv` and of `steps.csv`."""
    task = MultiLabel().attach(
        Constant(),  # type: ignore[arg-type]
        loss(),
        ["a", "b"],
        lambda parameters: torch.optim.SGD(parameters, 0.0),
        lambda optimizer, steps: plateau(optimizer, steps, patience=0, factor=0.5),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            EpochLog(folder / "metrics.csv", show=True),
            StepLog(folder / "steps.csv", 1),
            EarlyStopping("val/loss", patience=patience),
        ],
    )
    trainer.fit(task, datamodule=Data(train, val))
    found = []
    for name in ("metrics.csv", "steps.csv"):
        with (folder / name).open(newline="") as file:
            found.append(list(csv.DictReader(file)))
    return found[0], found[1]


@pytest.mark.parametrize("loss", [bce, MeanAbsoluteError])
def test_the_loss_of_a_validation_without_a_known_label_is_undefined(
    tmp_path: Path, loss: Callable[[], nn.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, _ = fit(tmp_path, UNKNOWN, loss=loss)
    assert all(np.isnan(float(row["val/loss"])) for row in epochs)
    assert all(float(row["train/loss"]) > 0 for row in epochs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == EPOCHS and all("train undefined val  AUROC" in line for line in lines)


def test_an_undefined_loss_neither_stops_training_nor_lowers_the_rate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    epochs, _ = fit(tmp_path, UNKNOWN)
    assert len(epochs) == EPOCHS
    assert len({row["lr"] for row in epochs}) == 1


def test_a_defined_loss_that_does_not_fall_still_stops_training(tmp_path: Path) -> None:
    epochs, _ = fit(tmp_path, KNOWN, patience=2)  # the rate is 0: nothing falls
    assert len(epochs) == 3


def test_the_loss_of_a_step_without_a_known_label_is_undefined_and_the_next_one_is_not(tmp_path: Path) -> None:
    _, steps = fit(tmp_path, KNOWN, train=[*UNKNOWN[:2], *KNOWN[:2]], patience=9)
    losses = [float(row["loss"]) for row in steps]
    assert np.isnan(losses[::2]).all()
    assert losses[1::2] == pytest.approx([np.log(2)] * EPOCHS)


def test_early_stopping_of_earlier_runs_is_found_in_their_checkpoints() -> None:
    assert EarlyStopping("val/loss", mode="min").state_key == LightningsOwn("val/loss", mode="min").state_key

"""A network whose two logits no image changes, tables of labels for it, and a training of it without a run."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxr.data.datamodule import LoaderSettings
from cxr.loss.bce import BinaryCrossEntropy
from cxr.model.network import NetworkOutput
from cxr.task.multi_label import MultiLabel

Labels = list[list[float]]
NAN = float("nan")
KNOWN, UNKNOWN = [[1.0, 0.0], [0.0, 1.0], [1.0, NAN], [0.0, 0.0]], [[NAN, NAN]] * 3


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        vector = batch["image"].float().flatten(1)
        return NetworkOutput(self.weight.expand(len(vector), 2), None, vector)


class Labelled(Dataset[dict[str, Tensor]]):
    def __init__(self, target: Labels) -> None:
        self.target = torch.tensor(target)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"image": torch.zeros(1, 2, 2), "target": self.target[row], "index": torch.tensor(row)}


class Data(pl.LightningDataModule):
    def __init__(self, train: Labels, val: Labels) -> None:
        super().__init__()
        self.train, self.val, self.settings = train, val, LoaderSettings(2)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Labelled(self.train), batch_size=2)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Labelled(self.val), batch_size=2)


def bce() -> nn.Module:
    return BinaryCrossEntropy([1, 1], [1, 1])


def fit(
    *callbacks: pl.Callback,
    epochs: int,
    train: Labels = KNOWN,
    val: Labels = KNOWN,
    task: MultiLabel | None = None,
    loss: Callable[[], nn.Module] = bce,
    scheduler: Callable[[Any, int], Any] | None = None,
    lr: float = 0.0,
    plugins: Sequence[Any] = (),
    resumed: dict[str, Any] | None = None,
) -> pl.Trainer:
    """Trains in batches of two; at a rate of 0 nothing falls."""
    made = (task or MultiLabel()).attach(
        Constant(), loss(), ["a", "b"], lambda weights: torch.optim.SGD(weights, lr), scheduler  # type: ignore[arg-type]
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), plugins=list(plugins),
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
    )  # fmt: skip
    trainer.fit(made, datamodule=Data(train, val), **(resumed or {}))
    return trainer

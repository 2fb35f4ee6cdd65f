"""`metrics.csv`, a row an epoch, kept over resumptions; and the line that each epoch prints."""

import csv
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback

from cxr.files import replacing

COLUMNS = (
    "epoch", "step", "lr", "train/loss", "val/loss", "train/macro_auroc", "val/macro_auroc", "train/accuracy",
    "val/accuracy", "images_per_second",
)  # fmt: skip


class EpochLog(Callback):
    """Writes the epoch's metrics as a row of a CSV file, and prints them as one line.

    Args:
        path: the file. When a run goes on, rows from the epoch it goes on with are written again.
        images: training images an epoch.
        show: print the line.
    """

    def __init__(self, path: Path, images: int, show: bool) -> None:
        self.path, self.images, self.show = path, images, show
        self._began = 0.0
        self._training_seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops it: the rate is that of training alone."""
        self._training_seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes and prints the epoch, on the first rank."""
        if not trainer.is_global_zero:
            return
        values: dict[str, Any] = {key: float(value) for key, value in trainer.callback_metrics.items()}
        values |= {"epoch": trainer.current_epoch, "step": trainer.global_step}
        values["images_per_second"] = round(self.images / max(self._training_seconds, 1e-9), 1)
        rows = [row for row in read_rows(self.path) if int(row["epoch"]) < trainer.current_epoch]
        rows.append({column: values.get(column, "") for column in COLUMNS})
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        if self.show:
            last = (trainer.max_epochs or 0) if trainer.max_epochs != -1 else "?"
            print(
                f"epoch {trainer.current_epoch + 1}/{last}  step {trainer.global_step}  "
                f"loss {values['train/loss']:.4f} train {values['val/loss']:.4f} val  "
                f"AUROC {values['train/macro_auroc']:.4f} train {values['val/macro_auroc']:.4f} val  "
                f"{values['images_per_second']:.0f} images/s",
                flush=True,
            )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.csv` as strings; none where it is missing."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_log(path: Path) -> pd.DataFrame:
    """`metrics.csv` as numbers, a row an epoch."""
    return pd.DataFrame(read_rows(path), columns=list(COLUMNS)).apply(pd.to_numeric, errors="coerce")

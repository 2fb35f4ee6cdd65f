"""Early stopping that skips epochs with an undefined value."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import callbacks

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Count
from cxr.task.base import ClassificationTask


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's `EarlyStopping`, except that epochs with an undefined monitored value are skipped.

    The class keeps Lightning's name, under which checkpoints store its state.

    Args:
        monitor: a column of `metrics.csv`.
        mode: `max` or `min`, whichever is better.
        patience: epochs without a better value after which training ends; with none it never ends early.
        more: further arguments of Lightning's class.
    """

    def __init__(self, monitor: str, mode: str = "min", patience: int | None = 10, **more: Any) -> None:
        checked_option("early_stopping.patience", patience, Count | None)
        super().__init__(monitor, mode=mode, patience=patience, **more)  # type: ignore[arg-type]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts an epoch whose value is defined; from the task's `switch_epoch` on, earlier ones no longer count."""
        assert isinstance(pl_module, ClassificationTask)
        if trainer.current_epoch == pl_module.switch_epoch:
            self.wait_count = 0
            self.best_score = torch.tensor(math.inf if self.mode == "min" else -math.inf)
        if self.patience is not None and not math.isnan(float(trainer.callback_metrics.get(self.monitor, 0.0))):
            super().on_train_epoch_end(trainer, pl_module)

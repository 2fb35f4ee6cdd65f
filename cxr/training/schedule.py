"""Learning rate schedules, in the form of Lightning's `lr_scheduler` entries."""

import math
from typing import Any, SupportsFloat

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, ReduceLROnPlateau

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Below1, Positive


def constant(optimizer: Optimizer, steps: int) -> None:
    """No schedule."""
    return None


def cosine(optimizer: Optimizer, steps: int, warmup: float = 0.1) -> dict[str, Any]:
    """Linear warm-up over the first share of all steps, then half a cosine down to zero.

    Args:
        optimizer: its learning rate is the peak.
        steps: of the whole run.
        warmup: share of the steps, in [0, 1).
    """
    checked_option("scheduler.warmup", warmup, Below1)
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def plateau(
    optimizer: Optimizer, steps: int, patience: int = 2, factor: float = 0.2, monitor: str = "val/loss"
) -> dict[str, Any]:
    """Multiplies the rate by `factor` when `monitor` has not decreased for more than `patience` epochs.

    Epochs in which `monitor` is undefined are not counted.
    """
    scheduler = _Plateau(optimizer, mode="min", patience=patience, factor=factor)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def step(optimizer: Optimizer, steps: int, after_epochs: int = 10, factor: float = 0.1) -> dict[str, Any]:
    """Multiplies the rate by `factor` once, after `after_epochs` epochs."""
    checked_option("scheduler.after_epochs", after_epochs, Positive)
    return {"scheduler": MultiStepLR(optimizer, [after_epochs], factor), "interval": "epoch"}


class _Plateau(ReduceLROnPlateau):
    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        if not math.isnan(float(metrics)):
            super().step(metrics, epoch)

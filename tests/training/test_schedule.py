"""Learning rates of the schedules, against rates computed by hand and PyTorch's own schedulers."""

import math
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau

from cxr.errors import CxrError
from cxr.training.schedule import constant, cosine, plateau, step
from tests.training.constant import UNKNOWN, Labels, fit

HIGHEST = 0.5


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], HIGHEST)


def rates(stepped: SGD, scheduler: Any, steps: int) -> list[float]:
    """The rate of each step."""
    seen = []
    for _ in range(steps):
        seen.append(float(stepped.param_groups[0]["lr"]))
        stepped.step()
        scheduler.step()
    return seen


def test_cosine_rises_by_equal_parts_and_falls_along_half_a_cosine() -> None:
    made = optimizer()
    entry = cosine(made, 10, warmup=0.4)
    assert entry["interval"] == "step"
    falling = [HIGHEST * (1 + math.cos(math.pi * k / 6)) / 2 for k in range(6)]
    assert rates(made, entry["scheduler"], 10) == pytest.approx([0.125, 0.25, 0.375, 0.5, *falling])
    assert made.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12), "zero when all steps are done"


def test_cosine_falls_as_pytorchs_does_after_its_warm_up() -> None:
    made, theirs = optimizer(), optimizer()
    ours = rates(made, cosine(made, 25, warmup=0.2)["scheduler"], 25)
    assert ours[5:] == pytest.approx(rates(theirs, CosineAnnealingLR(theirs, 20), 20))
    rising = optimizer()
    assert ours[:5] == pytest.approx(rates(rising, LinearLR(rising, 1 / 5, total_iters=4), 5))


@pytest.mark.parametrize(("steps", "warmup"), [(2, 0.5), (3, 0.0), (9, 0.9), (1000, 0.0)])
def test_cosine_reaches_its_highest_rate_and_stays_at_zero_after_its_last_step(steps: int, warmup: float) -> None:
    made = optimizer()
    seen = rates(made, cosine(made, steps, warmup)["scheduler"], steps + 3)  # Lightning may take more than it estimated
    assert seen[0] > 0 and min(seen) >= 0 and max(seen) == pytest.approx(HIGHEST)
    assert seen[steps:] == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_constant_rate_has_no_schedule() -> None:
    made = optimizer()
    assert constant(made, 10) is None and made.param_groups[0]["lr"] == HIGHEST


def test_step_lowers_the_rate_once_after_the_given_epochs() -> None:
    made = optimizer()
    entry = step(made, 99, after_epochs=3, factor=0.5)
    assert entry["interval"] == "epoch"
    assert rates(made, entry["scheduler"], 6) == pytest.approx([HIGHEST] * 3 + [HIGHEST / 2] * 3)
    with pytest.raises(CxrError, match=r"scheduler\.after_epochs=0 must be"):
        step(made, 99, after_epochs=0)


def test_plateau_falls_as_pytorchs_does_and_passes_over_undefined_values() -> None:
    losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6]
    made, theirs = optimizer(), optimizer()
    entry = plateau(made, 99, patience=1, factor=0.25)
    reference = ReduceLROnPlateau(theirs, mode="min", patience=1, factor=0.25)
    assert (entry["interval"], entry["monitor"]) == ("epoch", "val/loss")
    ours, expected = [], []
    for loss in losses:
        entry["scheduler"].step(math.nan)  # a validation without a known label
        entry["scheduler"].step(loss)
        reference.step(loss)
        ours.append(made.param_groups[0]["lr"])
        expected.append(theirs.param_groups[0]["lr"])
    assert ours == expected and len(set(ours)) == 4
    assert plateau(made, 99, monitor="val/brier")["monitor"] == "val/brier"


@pytest.mark.parametrize(("val", "rate"), [(UNKNOWN, HIGHEST), ([[0.0, 1.0]], HIGHEST / 8)])
def test_a_loss_that_rises_lowers_the_rate_of_a_training_and_an_undefined_one_does_not(
    val: Labels, rate: float
) -> None:
    trainer = fit(
        epochs=4,
        train=[[1.0, 0.0]] * 2,
        val=val,
        lr=HIGHEST,
        scheduler=lambda made, steps: plateau(made, steps, 0, 0.5),
    )
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate, "lowered after each epoch but the first, or never"

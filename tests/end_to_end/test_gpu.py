"""What only a machine with GPUs can confirm: `make check-gpu`."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.gpu
EXACT = ("trainer.precision=32-true", "augment=none", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")


@pytest.fixture(autouse=True)
def gpus() -> int:
    count = torch.cuda.device_count()
    assert count, "make check-gpu needs a CUDA GPU, and PyTorch finds none here"
    return count


def losses(run: Path) -> list[float]:
    with (run / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def scores(run: Path) -> "pd.DataFrame":
    return pd.read_parquet(run / "predictions" / "test.parquet")


def test_a_gpu_trains_as_the_cpu_does(train: Callable[..., Any], here: Path) -> None:
    for device in ("cpu", "gpu"):
        assert train(*EXACT, f"trainer.accelerator={device}", f"name={device}").code == 0
    np.testing.assert_allclose(losses(here / "runs/gpu")[:3], losses(here / "runs/cpu")[:3], rtol=1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_stays_close_to_float32(train: Callable[..., Any], here: Path, precision: str) -> None:
    for kind in ("32-true", precision):
        options = [word for word in EXACT if "precision" not in word]
        assert train(*options, "trainer.accelerator=gpu", f"trainer.precision={kind}", f"name=p{kind}").code == 0
    exact, mixed = (losses(here / f"runs/p{kind}") for kind in ("32-true", precision))
    np.testing.assert_allclose(mixed[:3], exact[:3], rtol=0.05)
    assert np.isfinite(mixed).all()


def test_a_resumed_run_reaches_the_losses_of_an_unbroken_one(train: Callable[..., Any], here: Path) -> None:
    deterministic = (*EXACT, "trainer.accelerator=gpu", "trainer.deterministic=true", "scheduler=none")
    assert train(*deterministic, "name=whole").code == 0
    assert train(*deterministic, "trainer.max_epochs=1", "name=parts").code == 0
    assert train("name=parts", "resume=true", "trainer.max_epochs=2").code == 0
    np.testing.assert_allclose(losses(here / "runs/parts"), losses(here / "runs/whole"), rtol=1e-5)


def test_all_gpus_score_each_image_once(train: Callable[..., Any], here: Path, gpus: int) -> None:
    options = ("trainer=ddp", "trainer.accelerator=gpu", f"trainer.devices={gpus}", "trainer.max_epochs=1")
    assert train(*options, "name=all").code == 0
    assert train("trainer.accelerator=gpu", "trainer.max_epochs=1", "name=one").code == 0
    assert scores(here / "runs/all")["image"].tolist() == scores(here / "runs/one")["image"].tolist()

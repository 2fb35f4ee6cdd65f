"""From the trainer group to Lightning's Trainer: which options reach it, and what is refused before a run is there."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.utilities import rank_zero_only

from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.run.directory import Run
from cxr.task.multi_label import MultiLabel
from cxr.training.devices import Devices
from cxr.training.saving import CheckpointFiles
from cxr.training.trainer import build_trainer, silence_lightning
from tests.training.conftest import composed

CPU = Devices("cpu", 1, "32-true")


@pytest.fixture(autouse=True)
def same_rank() -> Iterator[None]:
    yield
    rank_zero_only.rank = 0


def made(run: Run, *options: str, devices: Devices = CPU, rank: Rank = Rank()) -> pl.Trainer:  # noqa: B008
    return build_trainer(composed("trainer=cpu", *options), run, devices, rank, MultiLabel())


def test_options_reach_lightning_by_their_own_names(tmp_path: Path) -> None:
    trainer = made(
        Run(tmp_path), "trainer.max_epochs=7", "trainer.gradient_clip_val=0.5", "+trainer.limit_val_batches=3",
        "batch_size=4", "synthetic_batch_size=24", "trainer.log_every_n_steps=2",
    )  # fmt: skip
    assert (trainer.max_epochs, trainer.gradient_clip_val, trainer.limit_val_batches) == (7, 0.5, 3)
    assert (trainer.accumulate_grad_batches, trainer.log_every_n_steps) == (6, 2)
    assert trainer.num_sanity_val_steps == 0 and trainer.loggers == []
    assert isinstance(trainer.strategy.checkpoint_io, CheckpointFiles) and trainer.world_size == 1
    assert not list(tmp_path.iterdir()), "nothing is written yet"


def test_a_rank_has_the_number_it_was_given(tmp_path: Path) -> None:
    trainer = made(Run(tmp_path), "batch_size=4", "synthetic_batch_size=24", devices=Devices("cpu", 3, "32-true"),
                   rank=Rank(2, 3))  # fmt: skip
    assert (trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches) == (2, 3, 2)
    assert not trainer.is_global_zero


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["+trainer.nosuch=1"], "^trainer: .*nosuch"),
        (["+trainer.barebones=true"], "^trainer: .*barebones"),
        (["+trainer.max_time=soon"], "^trainer: .*soon"),
        (["trainer.gradient_clip_val=0.5", "+trainer.gradient_clip_algorithm=hard"], "^trainer: .*hard"),
        (["batch_size=4", "synthetic_batch_size=6"], "^synthetic_batch_size=6 is not a multiple of batch_size=4"),
    ],
)
def test_options_that_lightning_refuses_are_one_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    with pytest.raises(CxrError, match=said) as refused:
        made(Run(tmp_path), *options)
    assert "\n" not in str(refused.value)


def test_a_precision_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"^trainer: .*17-true"):
        made(Run(tmp_path), devices=Devices("cpu", 1, "17-true"))


def test_lightnings_notices_are_not_shown() -> None:
    silence_lightning()
    levels: list[Any] = [logging.getLogger(name).getEffectiveLevel() for name in ("lightning.pytorch", "lightning")]
    assert min(levels) >= logging.ERROR and math.isfinite(levels[0])

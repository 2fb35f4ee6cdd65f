"""A finished run scored again from its checkpoint: the same scores, on data that have moved or on its own."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.run.predictions import Predictions
from cxr.training.predict import predict
from cxr.training.reopen import open_finished
from tests.training.conftest import Trained

NOTHING: dict[str, Any] = {"data": {"root": None}, "cache": {"dir": None}}
CPU = torch.device("cpu")


def scored(run: Run, splits: tuple[str, ...], named: dict[str, Any]) -> dict[str, Predictions]:
    loaded, data = open_finished(run, named)
    return {split: predict(loaded, data, split, CPU) for split in splits}


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Run:
    """The run in another place, where nobody remembers its paths."""
    shutil.copytree(trained.run.path, tmp_path / "b")
    return Run(tmp_path / "b")


def test_scores_made_again_are_those_that_the_run_stored(trained: Trained) -> None:
    made = scored(trained.run, ("val", "test"), NOTHING)
    for split, predicted in made.items():
        stored = pd.read_parquet(trained.run.predictions(split))
        assert predicted.image.tolist() == stored["image"].tolist()
        for position, name in enumerate(predicted.findings):
            np.testing.assert_array_equal(predicted.score[:, position], stored[f"score:{name}"])
            np.testing.assert_array_equal(predicted.target[:, position], stored[f"target:{name}"])


def test_moved_data_are_scored_in_the_users_folder(trained: Trained, copied: Run, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained.config["data"]["root"], moved, ignore=shutil.ignore_patterns("cxr-cache"))
    made = scored(copied, ("test",), {"data": {"root": str(moved)}, "cache": {"dir": str(tmp_path / "cache")}})
    stored = pd.read_parquet(copied.predictions("test"))
    first = made["test"].findings[0]
    np.testing.assert_array_equal(made["test"].score[:, 0], stored[f"score:{first}"])
    assert not (moved / "cxr-cache").exists() and list((tmp_path / "cache").iterdir())


def test_a_cache_is_built_beside_data_that_are_named_and_not_where_the_run_had_it(
    trained: Trained, copied: Run, tmp_path: Path
) -> None:
    checkpoint = torch.load(copied.best, weights_only=True)
    config = OmegaConf.create(checkpoint["cxr"]["config"])
    config.cache.dir = str(tmp_path / "theirs")
    checkpoint["cxr"]["config"] = OmegaConf.to_yaml(config)
    torch.save(checkpoint, copied.best)
    moved = tmp_path / "moved"
    shutil.copytree(trained.config["data"]["root"], moved, ignore=shutil.ignore_patterns("cxr-cache"))
    open_finished(copied, {"data": {"root": str(moved)}, "cache": {"dir": None}})
    assert (moved / "cxr-cache").is_dir() and not (tmp_path / "theirs").exists()


def test_a_run_without_a_checkpoint_is_reported(copied: Run) -> None:
    copied.best.unlink()
    with pytest.raises(CxrError, match=r"best\.ckpt is missing; has the run written a checkpoint yet"):
        open_finished(copied, NOTHING)


def test_loaders_use_the_preprocessing_of_the_checkpoint(trained: Trained) -> None:
    loaded, data = open_finished(trained.run, NOTHING)
    assert data.preprocessing == loaded.network.preprocessing and data.settings.batch_size == 8
    batch = next(iter(data.evaluation_dataloader("test")))
    assert batch["image"].shape[1:] == (1, 32, 32) and batch["image"].dtype == torch.uint8

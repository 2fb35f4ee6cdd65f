"""A finished run opened again: stored scores are taken where they belong to the checkpoint, and else made from it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.errors import CxrError
from cxr.metrics.interval import DEFAULT
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.training.finished_run import FinishedRun
from tests.training.conftest import Trained

OPTIONS: dict[str, Any] = {"accelerator": "cpu", "data": {"root": None}, "cache": {"dir": None}}


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Run:
    """The finished run in a place where it may be changed, with the paths that are remembered for it."""
    shutil.copytree(trained.run.path.parent, tmp_path / "runs")
    return Run(tmp_path / "runs" / "a")


def test_stored_scores_need_neither_network_nor_images(trained: Trained, listening: Callable[[], Any]) -> None:
    with listening() as opened:
        found, made = FinishedRun(trained.run, OPTIONS).predictions()
    assert made == frozenset() and list(found) == ["val", "test"]
    assert opened.times("Data_Entry_2017.csv") == opened.times("images.npy") == 0
    for split, predicted in found.items():
        np.testing.assert_array_equal(predicted.score, read_predictions(trained.run.predictions(split)).score)


@pytest.mark.parametrize("how", ["missing", "another checkpoint"])
def test_scores_that_are_missing_or_of_other_weights_are_made_again(trained: Trained, copied: Run, how: str) -> None:
    stored = read_predictions(copied.predictions("test"))
    if how == "missing":
        copied.predictions("test").unlink()
    else:
        replace(stored, score=1 - stored.score, checkpoint_sha256="0" * 64).write(copied.predictions("test"))
    found, made = FinishedRun(copied, OPTIONS).predictions()
    assert made == {"test"} and set(found) == {"val", "test"}
    np.testing.assert_array_equal(found["test"].score, stored.score)
    assert found["test"].image.tolist() == stored.image.tolist()


def test_a_run_states_which_weights_computed_its_scores(trained: Trained, copied: Run) -> None:
    metrics = json.loads(trained.run.metrics_path.read_text())
    names = ("checkpoint_sha256", "split_fingerprint", "labels_sha256")
    assert FinishedRun(trained.run, OPTIONS).provenance == {name: metrics[name] for name in names}
    copied.best.unlink()
    alone = FinishedRun(copied, OPTIONS)
    assert alone.provenance == {name: metrics[name] for name in names} | {"checkpoint_sha256": ""}
    assert alone.ancestry.unknown == ("predictions without a checkpoint",)
    assert alone.predictions()[1] == frozenset(), "they are taken as they are"
    copied.predictions("test").unlink()
    with pytest.raises(CxrError, match=r"has no checkpoints/best\.ckpt and no predictions/val\.parquet"):
        FinishedRun(copied, OPTIONS).predictions()


def test_scores_of_what_the_weights_were_trained_on_are_refused(trained: Trained, copied: Run) -> None:
    val = read_predictions(copied.predictions("val"))
    replace(val, split="test").write(copied.predictions("test"))  # the checkpoint was selected with them
    with pytest.raises(CxrError, match=r"were trained or selected with \d+ patients of the test split"):
        FinishedRun(copied, OPTIONS).predictions()


def test_a_finished_run_localises_as_its_training_did(trained: Trained) -> None:
    stored = json.loads(trained.run.metrics_path.read_text())["localisation"]
    assert stored["pairs"] > 0
    again = FinishedRun(trained.run, OPTIONS).localisation("test", DEFAULT)
    assert json.loads(json.dumps(again)) == stored

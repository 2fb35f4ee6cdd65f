"""What a configuration may name as a task, and what a loss and an attention are told."""

from pathlib import Path

import numpy as np
import pytest

import cxr.task
from cxr.configuration.reading import read_configuration
from cxr.errors import CxrError
from cxr.loss.bce import BinaryCrossEntropy
from cxr.task.multi_label import MultiLabel
from cxr.training.build import build_loss, build_task
from tests.parts import add

TASKS = """
from cxr.task.base import Monitor
from cxr.task.multi_label import MultiLabel


class Unlogged(MultiLabel):
    monitor = Monitor("val/brier", "min")


class Upwards(MultiLabel):
    monitor = Monitor("val/loss", "up")
"""


def test_a_configuration_without_a_task_is_of_many_findings() -> None:
    assert type(build_task(read_configuration("seed: 0", "a run"))) is MultiLabel


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "cxr.task.mine.Unlogged",
            "Unlogged selects by min of val/brier; it must be max or min of what it logs, val/l",
        ),
        ("cxr.task.mine.Upwards", "Upwards selects by up of val/loss"),
        ("cxr.model.attention.smooth", "does not work"),
        ("cxr.task.base.ClassificationTask", "abstract"),
        ("cxr.task.base.Monitor", "does not work"),
        ("cxr.loss.mae.MeanAbsoluteError", "is no task; it must be a subclass of ClassificationTask"),
        ("os.system", "_target_=os.system is not allowed"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str) -> None:
    add(cxr.task, TASKS, tmp_path, monkeypatch)
    with pytest.raises(CxrError, match=said):
        build_task({"task": {"_target_": target}})


def test_a_loss_is_told_the_counts_of_known_targets_and_one_that_names_nothing_is_told_nothing() -> None:
    target = np.array([[1, 0], [0, np.nan], [0, 0], [0, np.nan]], np.float32)
    config = {"loss": {"_target_": "cxr.loss.bce.BinaryCrossEntropy", "positive_weights": True},
              "trainer": {"max_epochs": 1}}  # fmt: skip
    loss = build_loss(config, target, ["Mass", "Nodule"])
    assert isinstance(loss, BinaryCrossEntropy) and loss.weight is not None and loss.weight.tolist() == [3, 1]
    build_loss(config | {"loss": {"_target_": "cxr.loss.mae.MeanAbsoluteError"}}, target, ["Mass", "Nodule"])


def test_a_finding_that_is_called_like_a_reference_is_not_looked_up(tmp_path: Path) -> None:
    config = {"loss": {"_target_": "cxr.model.head.LinearHead", "in_features": 3}, "trainer": {"max_epochs": 1}}
    with pytest.raises(CxrError, match="holds the reference"):
        build_loss(config, np.zeros((1, 1), np.float32), ["${oc.env:HOME}"])

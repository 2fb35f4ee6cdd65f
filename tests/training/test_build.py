"""Building the task, the loss, the attention and the preprocessing of a configuration."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cxr.model
import cxr.task
from cxr.configuration.saved import read_configuration
from cxr.data.augment import Draws
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.cross_entropy import CrossEntropy
from cxr.loss.ldam import LDAM
from cxr.loss.mae import MeanAbsoluteError
from cxr.loss.two_way import TwoWay
from cxr.task.base import ClassificationTask
from cxr.task.multi_label import MultiLabel
from cxr.task.single_label import SingleLabel
from cxr.training.build import (
    build_augmentation,
    build_loss,
    build_network,
    build_task,
    check_loss,
    warn_of_late_switch,
)
from tests.parts import add
from tests.training.conftest import composed

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
            "Unlogged selects by min of val/brier; choose max or min of a value that it logs: val/l",
        ),
        ("cxr.task.mine.Upwards", "Upwards selects by up of val/loss"),
        ("cxr.model.attention.smooth", "cannot be built from its configuration"),
        ("cxr.task.base.ClassificationTask", "abstract"),
        ("cxr.task.base.Monitor", "cannot be built from its configuration"),
        ("cxr.loss.mae.MeanAbsoluteError", "is not a subclass of ClassificationTask"),
        ("os.system", "_target_=os.system is not allowed"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str) -> None:
    add(cxr.task, TASKS, tmp_path, monkeypatch)
    with pytest.raises(CxrError, match=said):
        build_task({"task": {"_target_": target}})


def test_a_loss_receives_the_counts_of_known_targets_if_it_has_the_parameters() -> None:
    target = np.array([[1, 0], [0, np.nan], [0, 0], [0, np.nan]], np.float32)
    config = {"loss": {"_target_": "cxr.loss.bce.BinaryCrossEntropy", "positive_weights": True},
              "trainer": {"max_epochs": 1}}  # fmt: skip
    loss = build_loss(config, target, ["Mass", "Nodule"])
    assert isinstance(loss, BinaryCrossEntropy) and loss.weight is not None and loss.weight.tolist() == [3, 1]
    build_loss(config | {"loss": {"_target_": "cxr.loss.mae.MeanAbsoluteError"}}, target, ["Mass", "Nodule"])


def test_a_finding_that_is_called_like_a_reference_is_not_looked_up(tmp_path: Path) -> None:
    config = {"loss": {"_target_": "cxr.model.head.LinearHead", "in_features": 3}, "trainer": {"max_epochs": 1}}
    with pytest.raises(CxrError, match="has the interpolation"):
        build_loss(config, np.zeros((1, 1), np.float32), ["${oc.env:HOME}"])


def test_a_trained_network_has_its_checkpoints_preprocessing_and_loads_no_initial_weights() -> None:
    config = composed("image_size=64", "backbone.weights=nosuch.pth", "backbone.mean=0.5")
    kept = Preprocessing(32, 48, True, 0.25, 0.125)
    network = build_network(config, 3, kept)
    assert network.preprocessing == kept
    logits = network({"image": torch.zeros(2, 1, 32, 32, dtype=torch.uint8)}).logits
    assert logits.shape == (2, 3)
    with pytest.raises(CxrError, match=r"backbone\.weights=nosuch\.pth is not a file"):
        build_network(config, 3)


def test_a_new_network_has_the_preprocessing_of_its_configuration() -> None:
    config = composed("image_size=64", "cache.size=80", "crop=true", "backbone.mean=0.5")
    assert build_network(config, 3).preprocessing == Preprocessing(64, 80, True, 0.5, config["backbone"]["std"])
    config["crop"] = False
    assert build_network(config, 3).preprocessing == Preprocessing(64, 80, False, 0.5, config["backbone"]["std"])


MAPS = """
import torch
from torch import nn


class Told(nn.Module):
    def __init__(self, in_features, findings):
        super().__init__()
        self.out_features, self.findings = in_features, findings

    def forward(self, features):
        return features.mean(dim=(2, 3)), None
"""


def test_an_attention_with_the_parameter_findings_receives_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cxr.model, MAPS, tmp_path, monkeypatch)
    network = build_network(composed("attention=none") | {"attention": {"_target_": "cxr.model.mine.Told"}}, 5)
    assert network.attention.findings == 5


def test_transforms_and_order_are_those_of_the_options() -> None:
    augmentation, order = build_augmentation(composed("augment=none", "sampler=shuffled"))
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(augmentation([pixels], Draws.of([0]), 16)[0], pixels)
    shuffled = order(np.zeros((50, 1), np.float32), 0, 3).tolist()
    assert sorted(shuffled) == list(range(50)) != shuffled


@pytest.mark.parametrize(
    ("loss", "task", "said"),
    [(CrossEntropy, MultiLabel, "CrossEntropy trains for softmax, but MultiLabel scores with sigmoid"),
     (MeanAbsoluteError, SingleLabel, "MeanAbsoluteError trains for sigmoid, but SingleLabel scores with softmax")],
)  # fmt: skip
def test_a_loss_that_trains_for_other_scores_than_the_task_gives_is_refused(
    loss: type[nn.Module], task: type[ClassificationTask], said: str
) -> None:
    with pytest.raises(CxrError, match=said):
        check_loss(loss(), task())
    check_loss(nn.Identity(), task())  # says nothing of scores


def test_a_loss_receives_the_activation_of_the_task_and_the_scale_of_the_head() -> None:
    target = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    config = composed("loss=ldam", "head=normalised", "head.scale=20", "task=single_label")
    loss = build_loss(config, target, ["Mass", "Nodule"])
    assert isinstance(loss, LDAM) and loss.activation == "softmax"
    assert loss.margin.tolist() == pytest.approx([20 * 0.5, 20 * 0.5 * 2**-0.25])
    with pytest.raises(CxrError, match="only head=normalised gives; choose it"):
        build_loss(composed("loss=ldam"), target, ["Mass", "Nodule"])
    text = ["head=label_vectors", "text=file", "text.file=a.npz"]
    with pytest.raises(CxrError, match="only head=normalised gives"):
        build_loss(composed("loss=ldam", *text), target, ["Mass", "Nodule"])
    with pytest.raises(CxrError, match=r"task\.hierarchy combines those of a path"):
        build_loss(composed("loss=ldam", "head=normalised", "task=nih_tree"), target, ["Mass", "Nodule"])


def test_a_loss_that_couples_the_samples_of_a_batch_needs_them_in_one_batch() -> None:
    check_loss(TwoWay(), MultiLabel())
    check_loss(BinaryCrossEntropy([1], [1]), MultiLabel(), batches=4)
    with pytest.raises(
        CxrError, match="TwoWay compares the images of a batch, and an optimizer step of this run has 4"
    ):
        check_loss(TwoWay(), MultiLabel(), batches=4)


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (("loss.defer_epochs=2", "trainer.max_epochs=2"), "before those of loss.defer_epochs=2 are over"),
        (("loss.defer_epochs=1", "trainer.max_epochs=2"), ""),
        (("loss.defer_epochs=2", "trainer.max_epochs=1", "debug=fast"), ""),
    ],
)
def test_weights_that_never_begin_are_a_warning(
    options: tuple[str, ...], warned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed("loss=class_balanced", *options)
    loss = build_loss(config, np.array([[1, 0], [0, 1]], np.float32), ["Mass", "Nodule"])
    warn_of_late_switch(config, loss, build_task(config))
    assert (warned in capsys.readouterr().out) if warned else not capsys.readouterr().out


def test_a_hierarchy_whose_second_stage_never_begins_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("task=nih_tree", "task.conditional_epochs=3", "trainer.max_epochs=3")
    warn_of_late_switch(config, nn.Identity(), build_task(config))
    assert "before those of task.conditional_epochs=3 are over" in capsys.readouterr().out

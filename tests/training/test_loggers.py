"""Loggers beside `metrics.csv`: which configurations are refused, their options, and where they write."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.run.predictions import Predictions
from cxr.training.loggers import build_loggers, check_loggers, log_result
from tests.training.conftest import composed

BOARD = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": None, "version": "tensorboard"}
WANDB = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "cxr", "offline": True, "tags": []}
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")


def test_without_a_logger_there_is_metrics_csv_alone(tmp_path: Path) -> None:
    for node in ({}, None, {"csv": {"_target_": None}}, {"csv": None}):
        check_loggers({"logger": node})
        assert build_loggers({"logger": node}, Run(tmp_path)) == []
    assert composed("logger=[csv]")["logger"] == {"csv": {"_target_": None}}
    assert not list(tmp_path.iterdir())


def test_an_option_file_that_belongs_to_no_name_is_refused() -> None:
    with pytest.raises(CxrError, match=r"must begin with the line '# @package logger\.NAME'"):
        check_loggers({"logger": BOARD})


@pytest.mark.parametrize(("name", "node"), [("tensorboard", BOARD), ("wandb", WANDB)])
def test_a_package_that_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, name: str, node: dict[str, Any]
) -> None:
    monkeypatch.setattr("cxr.training.loggers.find_spec", lambda package: None)
    with pytest.raises(
        CxrError, match=f"^logger={name} needs the package {name}, which is missing; pip install {name}$"
    ):
        check_loggers({"logger": {name: node}})


@needs_wandb
def test_an_argument_that_wandb_does_not_have_is_refused() -> None:
    check_loggers({"logger": {"mine": WANDB | {"notes": "x", "group": None, "settings": {}}}})
    with pytest.raises(
        CxrError, match=r"^logger\.mine\.projekt is not an argument of WandbLogger or wandb\.init; remove it"
    ):
        check_loggers({"logger": {"mine": WANDB | {"projekt": "x"}}})


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", r"_target_=os\.system is not allowed"),
        ("lightning.pytorch.loggers.Absent", "Absent does not exist"),
    ],
)
def test_a_class_of_no_logger_is_refused(target: str, said: str) -> None:
    with pytest.raises(CxrError, match=said):
        check_loggers({"logger": {"x": {"_target_": target}}})


@needs_tensorboard
def test_tensorboard_writes_into_the_run_without_absolute_paths(tmp_path: Path) -> None:
    config = {"logger": {"tensorboard": BOARD}, "data": {"root": "/home/me/nih"}, "seed": 5, "run_id": "1"}
    (logger,) = build_loggers(config, Run(tmp_path / "a"))
    assert isinstance(logger, TensorBoardLogger)
    logger.save()
    kept = (tmp_path / "a" / "tensorboard" / "hparams.yaml").read_text()
    assert "elsewhere:nih" in kept and "/home/me" not in kept and "seed: 5" in kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


class Answers:
    """What W&B's run would be, as far as it is used."""

    def __init__(self) -> None:
        self.finished = 0

    def finish(self) -> None:
        self.finished += 1


@needs_wandb
def test_wandb_receives_the_run_and_its_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    begun: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **arguments: begun.update(arguments) or Answers())
    monkeypatch.setattr(WandbLogger, "log_hyperparams", lambda *_: None)
    monkeypatch.setenv("WANDB_MODE", "online")  # Lightning changes it
    choices = {"experiment": None, "data": "nih", "backbone": "b" * 80, "attention": "none", "loss": "bce", "head": "x"}
    node = WANDB | {"tags": ["mine"]}
    build_loggers({"logger": {"wandb": node}, "choices": choices, "run_id": "0123"}, Run(tmp_path / ("r" * 60)))
    assert (begun["name"], begun["id"]) == ("r" * 60, "r" * 48 + "-0123"), "the same after resuming"
    assert begun["tags"] == ["nih", "b" * 64, "none", "bce", "mine"] and begun["dir"] == str(tmp_path / ("r" * 60))


@needs_wandb
@pytest.mark.parametrize("problem", ["silent", "refused"])
def test_a_run_continues_offline_without_an_answer_of_wandb_and_fails_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: str
) -> None:
    import wandb

    errors = {"silent": wandb.errors.CommError("no route\nmore"), "refused": wandb.errors.UsageError("no key")}

    def begin(**_: Any) -> Answers:
        if os.environ["WANDB_MODE"] == "online":
            raise errors[problem]
        return Answers()

    monkeypatch.setenv("WANDB_MODE", "online")  # Lightning changes it if the logger is offline
    monkeypatch.setattr(wandb, "init", begin)
    monkeypatch.setattr(WandbLogger, "log_hyperparams", lambda *_: None)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    config = {"logger": {"wandb": WANDB | {"offline": False}}, "run_id": "0123"}
    run = Run(tmp_path / "a")
    if problem == "refused":
        with pytest.raises(CxrError, match=r"^W&B refuses: no key; run wandb login.*resume=true name=a$"):
            build_loggers(config, run)
        return
    (logger,) = build_loggers(config, run)
    assert isinstance(logger, WandbLogger) and isinstance(logger.experiment, Answers)
    assert os.environ["WANDB_MODE"] != "online"
    assert f"W&B does not answer (no route); the run continues offline, and wandb sync {run.path}/wandb" in (
        capsys.readouterr().out
    )


class Kept(Logger):
    """Records its metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, float]] = []
        self.ended = ""

    name = version = "kept"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.told.append(metrics)

    def log_hyperparams(self, *_: Any) -> None:
        """Nothing."""

    def finalize(self, status: str) -> None:
        self.ended = status


def test_the_result_of_a_run_goes_to_every_logger_and_an_undefined_one_does_not(tmp_path: Path) -> None:
    first, second = Kept(), Kept()
    names, numbers = np.array(["a"], object), np.zeros((1, 1), np.float32)
    made = Predictions(names, names, ("Mass",), numbers, numbers)
    log_result([first, second], Run(tmp_path), {"val": {"macro_auroc": 0.75}, "test": {"macro_auroc": None}},
               {"val": made, "test": made})  # fmt: skip
    assert first.told == second.told == [{"best/val/macro_auroc": 0.75}]
    assert first.ended == second.ended == "success"


def test_wandb_is_imported_only_where_it_is_chosen() -> None:
    before = "wandb" in sys.modules
    check_loggers({"logger": {"tensorboard": BOARD} if find_spec("tensorboard") else {}})
    assert ("wandb" in sys.modules) == before

"""Wrong values on the command line of each program: a sentence with the name, the value and what is expected."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.cli.options import apply_resume, plain
from cxr.cli.program import program_of
from cxr.cli.sweep import prepare
from cxr.errors import CxrError
from cxr.run.directory import Run


def read(line: str) -> dict[str, Any]:
    """What a program gets of a command line."""
    program, *words = line.split()
    config = read_command_line(program, words, str(conf_dir())).config
    assert config is not None
    return plain(config, program_of(program).schema)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train batch_size=0", "batch_size=0 must be a positive whole number"),
        ("train batch_size=8.0", "batch_size=8.0 must be a positive whole number"),
        ("train batch_size=true", "batch_size=true must be a positive whole number"),
        ('train batch_size="8"', "batch_size='8' must be a positive whole number"),
        ("train batch_size=null", "batch_size=null must be a positive whole number"),
        ("train image_size=100000", "image_size=100000 must be at most 16384"),
        ("train seed=-1", "seed=-1 must be 0 or a positive whole number"),
        ("train seed=4294967296", "seed=4294967296 must be at most 4294967295"),
        ("train name=1", "name=1 must be text; write 'name=\"1\"'"),
        ("train name=../a", "name=../a is not a name: use letters"),
        ("train data=nih", "data.root is not set; pass data.root=DIR, the folder of the data set (see docs/data.md)"),
        ("train data.root=2017", "data.root=2017 must be text; write 'data.root=\"2017\"'"),
        ("train resume=maybe", "resume=maybe is unknown; choose true, false or auto"),
        ("train crop=1", "crop=1 must be true or false"),
        ("train data.findings=Mass", "data.findings=Mass must be a list of names, such as [Mass,Nodule]"),
        ("train data.exclude=null", "data.exclude=null must be a list of names, such as [Mass,Nodule]"),
        ("train data.val_share=1.0", "data.val_share=1.0 must be above 0 and below 1"),
        ("train data.workers=-1", "data.workers=-1 must be auto, 0 or a positive whole number"),
        ("train data.on_missing=ignore", "data.on_missing=ignore is unknown; choose fail or skip"),
        ("train trainer.devices=0", "trainer.devices=0 must be auto or a positive whole number"),
        ("train trainer.accelerator=tpu", "trainer.accelerator=tpu is unknown; choose auto, cpu, gpu or cuda"),
        ("train trainer.log_every_n_steps=0", "trainer.log_every_n_steps=0 must be a positive whole number"),
        ("train +trainer.max_steps=3", "trainer.max_steps is not supported: each epoch ends with a validation"),
        ("train trainer.deterministic=true +trainer.benchmark=true", "exclude each other; set one of them"),
        ("train checkpoint.every_seconds=inf", "checkpoint.every_seconds=inf must be a finite number above 0"),
        ("train early_stopping.patience=2.5", "early_stopping.patience=2.5 must be 0 or a positive whole number"),
        ("train optimizer.lr=nan", "optimizer.lr=nan must be a finite number, 0 or more"),
        ("train backbone.pretrained=maybe", "backbone.pretrained=maybe must be true or false"),
        ("train cache=3", "cache=3 must be a group of options"),
        ("train cache.dir=", "cache.dir is empty; give it a value or null"),
        ("train +backbone.of_mine=???", "backbone.of_mine is not set; pass backbone.of_mine=VALUE"),
        ("cache verify=perhaps", "verify=perhaps must be true or false"),
        ("cache cache.processes=0", "cache.processes=0 must be a positive whole number"),
        ("evaluate", "run is not set; pass run=runs/a"),
        ("evaluate run=a resamples=1e3", "resamples=1000.0 must be a whole number, 2 or more"),
        ("evaluate run=a points.half=0.5", "points.half=0.5 must be null"),
        ("evaluate run=a points.sensitivity=null", "points.sensitivity=null must be above 0 and at most 1"),
        ("evaluate run=a calibration=magic", "calibration=magic is unknown; choose none, temperature or platt"),
        ("ensemble", "runs is not set; pass runs='[runs/a,runs/b]' or runs='runs/paper/*'"),
        ("ensemble runs=[]", "runs=[] must be a directory, a glob or a list of them"),
        ("ensemble runs=a leave_one_out=1", "leave_one_out=1 must be true or false"),
        ("compare runs=a metric=auc", "metric=auc is unknown; choose auroc, average_precision or balanced_accuracy"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(line: str, said: str) -> None:
    with pytest.raises(CxrError) as caught:
        read(line)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("train +trainer.benchmark=true", "trainer.benchmark", True),
        ("train trainer.precision=32", "trainer.precision", 32),
        ("train trainer.deterministic=warn", "trainer.deterministic", "warn"),
        ("train early_stopping=null", "early_stopping", None),
        ("train data.findings=[Mass,Nodule]", "data.findings", ["Mass", "Nodule"]),
        ("train +optimizer.betas=[0.9,0.99]", "optimizer.betas", [0.9, 0.99]),
        ("train optimizer.lr=1", "optimizer.lr", 1),
        ('train name="1"', "name", "1"),
        ("evaluate run=a points.sensitivity=1", "points.sensitivity", 1),
        ("compare runs=[a,b]", "runs", ["a", "b"]),
    ],
)
def test_a_valid_value_is_unchanged(line: str, key: str, value: Any) -> None:
    found: Any = read(line)
    for part in key.split("."):
        found = found[part]
    assert found == value and type(found) is type(value)


def test_an_argument_of_a_target_may_be_left_out() -> None:
    assert "weight_decay" not in read("train ~optimizer.weight_decay")["optimizer"]


def test_the_folder_of_a_sweep_is_text() -> None:
    config = read_command_line("train", ["-m", "seed=0,1", "sweep=3"], str(conf_dir())).config
    assert config is not None
    with pytest.raises(CxrError, match="sweep=3 must be text"):
        prepare(config, ["seed=0,1", "sweep=3"])


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a run."""
    return {**read("train"), "name": "a", "choices": {"data": "phantom"}, "run_id": "0"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("batch_size", "8", "config.yaml: batch_size='8' must be a positive whole number"),
        ("trainer", {"max_epochs": 1}, "lacks trainer.accelerator, trainer.devices"),
        ("early_stopping", {"monitor": None}, "lacks early_stopping.mode, early_stopping.patience"),
        ("checkpoint", None, "config.yaml: checkpoint=null must be a group of options"),
    ],
)
def test_missing_keys_and_wrong_types_of_a_saved_run_are_named(
    tmp_path: Path, saved: dict[str, Any], key: str, value: Any, said: str
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved | {key: value}))
    with pytest.raises(CxrError) as caught:
        apply_resume(Run(tmp_path), OmegaConf.create({}), {}, [])
    assert said in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_run_without_keys_of_this_version_resumes_with_its_former_behaviour(
    tmp_path: Path, saved: dict[str, Any]
) -> None:
    earlier = {key: value for key, value in saved.items() if key not in ("crop", "task", "sampler")}
    earlier |= {"checkpoint": {"every_steps": None, "every_seconds": 300}, "optimizer": {"_target_": "x"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(earlier))
    resumed = apply_resume(Run(tmp_path), OmegaConf.create({}), {}, [])
    for key in ("crop", "task", "sampler", "checkpoint"):
        assert resumed[key] == saved[key]
    assert resumed["optimizer"] == {"_target_": "x", "groups": saved["optimizer"]["groups"]}

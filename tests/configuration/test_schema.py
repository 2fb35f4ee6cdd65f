"""The schema of every program against the YAML files that users read, and configurations of earlier versions."""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from cxr.cli import conf_dir
from cxr.cli.program import program_of
from cxr.configuration.saved import read_configuration
from cxr.configuration.schema import Train
from cxr.errors import CxrError
from cxr.metrics.bootstrap import RANK_METRICS
from cxr.metrics.thresholds import RULES
from cxr.run.directory import Run
from tests.test_configuration import composed

PROGRAMS = {
    "train": (),
    "cache": (),
    "inspect": (),
    "evaluate": ("run=a",),
    "ensemble": ("runs=a",),
    "compare": ("runs=a",),
}
DATA = ("data=nih", "data.root=nowhere")
OPEN = {"backbone": {"_target_", "name", "mean", "std"}, "optimizer": {"_target_", "_partial_"},
        "early_stopping": {"_target_"}}  # fmt: skip  # of their classes


def parts(schema: type) -> dict[str, Any]:
    """Of each key the dataclass that stands there, or none."""
    hints = get_type_hints(schema)
    alternatives = {
        key: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,) for key, hint in hints.items()
    }
    return {key: next(filter(is_dataclass, each), None) for key, each in alternatives.items()}


def same(schema: type, node: Any, above: str = "") -> None:
    """Keys of a schema are those of a composed node, and its defaults too."""
    inner = parts(schema)
    assert set(inner) == set(node) - OPEN.get(above, set()), above
    for option in fields(schema):
        assert option.default is MISSING or option.default == node[option.name], f"{above}.{option.name}"
        if inner[option.name]:
            same(inner[option.name], node[option.name], option.name)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_schema_has_the_keys_of_the_yaml_files_and_their_defaults(program: str) -> None:
    config = composed(program, *PROGRAMS[program], *(DATA if program in ("train", "cache", "inspect") else ()))
    same(program_of(program).schema, config)


def test_choices_are_those_of_the_code_that_reads_them() -> None:
    assert tuple(parts(parts(program_of("evaluate").schema)["points"])) == RULES
    assert get_args(get_type_hints(program_of("compare").schema)["metric"]) == (*RANK_METRICS, "balanced_accuracy")


GROUPS = [path for group in ("data", "trainer", "optimizer", "backbone") for path in (conf_dir() / group).glob("*")]


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_an_option_file_names_what_the_schema_knows(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    known = parts(parts(Train)[path.parent.name])
    if path.parent.name == "backbone":
        assert set(known) <= set(found)
    elif path.parent.name == "trainer":
        assert set(found) <= set(known)
    elif path.stem == "nih":
        assert set(found) == set(known)
    else:
        assert set(known) & set(found)


EARLIER = """
seed: 0
logger: {_target_: lightning.pytorch.loggers.WandbLogger, project: cxr}
data: {min_cases: 0}
cache: {size: 64}
checkpoint: {every_seconds: 300}
choices: {backbone: resnet10}
"""


def test_a_run_of_an_earlier_version_reads_as_one_of_this(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EARLIER)
    config, now = Run(tmp_path).config(), composed("train", *DATA)
    for key in ("crop", "task", "sampler", "mix", "fusion"):
        assert config[key] == now[key]
    later = {key: now["data"][key] for key in ("single_finding", "test_lists", "folds", "fold")}
    assert config["data"] == {"min_cases": 0, **later}
    assert config["cache"] == {**now["cache"], "size": 64} and config["checkpoint"]["keep_best"] == 1
    assert list(config["logger"]) == ["wandb"] and config["logger"]["wandb"]["project"] == "cxr"
    chosen = {"task": "multi_label", "mix": "none", "fusion": "none", "text": "none", "callbacks": "early_stopping"}
    assert config["choices"] == {"backbone": "resnet10", **chosen}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch_size: '8'", "config.yaml: batch_size='8' must be a positive whole number"),
        ("trainer: [1]", "config.yaml: trainer=[1] must be a group of options"),
        ("data: {workers: 1.5}", "config.yaml: data.workers=1.5 must be auto, 0 or a positive whole number"),
        ("early_stopping: {patience: .nan}", "config.yaml: early_stopping.patience=nan must be 0 or a positive"),
        ("backbone: 3", "config.yaml: backbone=3 must be a group of options"),
        ("method: {}\nbootstrap: true", "config.yaml: bootstrap=true must be 0 or a positive whole number"),
        ("sampler: null", "config.yaml: sampler=null must be a group of options"),
    ],
)
def test_a_wrong_value_in_a_file_is_one_sentence_with_its_name(line: str, said: str) -> None:
    with pytest.raises(CxrError) as caught:
        read_configuration(f"seed: 1\n{line}\n", "config.yaml")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)

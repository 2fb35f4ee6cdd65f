"""The help of each program, against the files in `conf` read with PyYAML alone."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr.cli.compose import read_command_line
from cxr.cli.options import plain
from cxr.cli.program import program_of

CONF = Path(__file__).parents[2] / "conf"
PROGRAMS = ("train", "ensemble", "evaluate", "compare", "inspect", "phantom", "cache")
EVERY_GROUP = {path.name for path in CONF.iterdir() if path.is_dir()}


def groups(program: str) -> list[str]:
    entries = yaml.safe_load((CONF / f"{program}.yaml").read_text())["defaults"]
    keys = [key for entry in entries if isinstance(entry, dict) for key in entry]
    return [key for key in keys if not key.startswith("override ")]


def leaves(node: Any, key: str = "") -> list[str]:
    if isinstance(node, dict) and node:
        return [leaf for name, value in node.items() for leaf in leaves(value, f"{key}.{name}".lstrip("."))]
    return [key]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_its_own_groups_alone_with_the_first_comment_of_each_option(call: Any, program: str) -> None:
    lines = call(program, "--help").out.splitlines()
    shown = [line.strip() for line in lines if re.fullmatch(r"  \w+", line)]
    assert shown == groups(program)
    for group in shown:
        for file in (CONF / group).glob("*.yaml"):
            comment = next(t for t in file.read_text().splitlines() if t[:1] == "#" and "@package" not in t)
            begin = lines.index(f"  {group}")
            (line,) = (
                t for t in lines[begin:] if re.match(rf"    [* ] {file.stem}  ", f"{t}  ") and comment[2:40] in t
            )
            assert len(line) <= 120


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_explains_up_to_fifteen_common_options(call: Any, program: str) -> None:
    title, *lines = call(program, "--help").out.partition("Common options")[2].partition("\n\n")[0].splitlines()
    keys = [line.strip().partition("=")[0] for line in lines]
    assert title == " (key=value)" and keys == [key for key in program_of(program).options]
    assert len(keys) == 15 if program in ("train", "ensemble") else 5 < len(keys) < 15
    explained = [line for line in lines if re.search(r"=.*\s{2,}\S", line)]
    assert explained == lines


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_all_shows_every_option(call: Any, program: str) -> None:
    needed = {"ensemble": ["runs=a"], "compare": ["runs=a"], "evaluate": ["run=a"]}.get(program, [])
    composed = yaml.safe_load(call(program, "--cfg", "job", *needed).out)
    table = call(program, "help=all").out.partition("All options")[2]
    assert re.findall(r"^  ([\w.]+)=", table, re.MULTILINE) == leaves(composed)


def test_help_shows_the_values_and_options_of_its_command_line(call: Any) -> None:
    said = call("train", "--help", "backbone=timm", "image_size=64", "logger=[csv,wandb]").out
    assert re.search(r"^  image_size=64 +pixels", said, re.MULTILINE)
    chosen = re.findall(r"^    \* (\w+)", said, re.MULTILINE)
    assert {"timm", "csv", "wandb"} <= set(chosen) and not {"resnet10", "tensorboard"} & set(chosen)
    assert "logger.wandb.offline=" in call("train", "help=all", "logger=wandb").out


def test_a_custom_option_file_is_listed(call: Any, tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# Mine, of 2026.\n_target_: cxr.loss.bce.BinaryCrossEntropy\n")
    said = call("train", "--help", f"hydra.searchpath=[file://{tmp_path}]", "loss=mine").out
    assert re.search(r"^    \* mine +Mine, of 2026\.$", said, re.MULTILINE) and re.search(
        r"^      bce +Bin", said, re.M
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_examples_of_the_help_can_be_run(program: str) -> None:
    for words, _ in program_of(program).examples:
        line = read_command_line(program, shlex.split(words), str(CONF))
        if line.config is not None:
            plain(line.config, program_of(program).schema)

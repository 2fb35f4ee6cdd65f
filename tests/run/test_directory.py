"""Run directories: their names, that none is ever overwritten, and what a broken one is told."""

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cxr.errors import CxrError
from cxr.files.naming import check_name, check_test_names, free_name, legal_name
from cxr.run.directory import Run


@pytest.mark.parametrize("name", ["a", "paper_vgg19", "2017-best.1", "-x", "_", "A" * 120, None])
def test_legal_names_pass(name: str | None) -> None:
    check_name(name, "name")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "é", "a\n", "a=b", "*"])
def test_illegal_name_is_refused_with_option_and_value(name: str) -> None:
    with pytest.raises(CxrError, match=re.escape(f"sweep={name} ")):
        check_name(name, "sweep")


@given(st.text())
def test_any_text_becomes_a_name(text: str) -> None:
    name = legal_name(text)
    check_name(name, "name")
    assert 0 < len(name) <= 120


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("backbone=vgg19,loss=mae", "backbone-vgg19-loss-mae"),
        ("resnet50", "resnet50"),
        ("[a, b]", "a-b"),
        ("../etc", "etc"),
        ("--- ", "run"),
        ("", "run"),
    ],
)
def test_runs_of_other_characters_become_one_dash(text: str, name: str) -> None:
    assert legal_name(text) == name


def test_free_name_is_the_first_not_taken(tmp_path: Path) -> None:
    assert free_name(tmp_path, "a") == "a"
    (tmp_path / "a").mkdir()
    assert free_name(tmp_path, "a") == "a-2"
    (tmp_path / "a-2").write_text("a file takes a name too")
    (tmp_path / "a-4").mkdir()
    assert free_name(tmp_path, "a") == "a-3"
    assert free_name(tmp_path / "absent", "a") == "a"


def test_created_run_contains_its_configuration(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "first")
    made = {"seed": 3, "data": {"val_list": None, "exclude": ["Hernia"]}, "lr": 5e-4, "note": "a: b"}
    run.create(made)
    assert yaml.safe_load(run.config_path.read_text()) == made
    assert {key: run.config()[key] for key in ("seed", "lr", "note")} == {"seed": 3, "lr": 5e-4, "note": "a: b"}
    assert os.listdir(tmp_path / "runs") == ["first"] and os.listdir(run.path) == ["config.yaml"]


@pytest.mark.parametrize("content", [None, "metrics.json"])
def test_create_refuses_what_exists_and_leaves_it_alone(tmp_path: Path, content: str | None) -> None:
    run = Run(tmp_path / "first")
    run.path.mkdir()
    if content:
        (run.path / content).write_text("{}")
    with pytest.raises(CxrError, match=re.escape(f"{run.path} exists")):
        run.create({"seed": 1})
    assert os.listdir(tmp_path) == ["first"] and os.listdir(run.path) == ([content] if content else [])


def test_two_that_create_one_run_get_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def late(source: str, target: str) -> None:  # another process takes the name after the check
        monkeypatch.setattr(os, "rename", real)
        Run(tmp_path / "first").create({"seed": 2})
        real(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(CxrError, match="exists"):
        Run(tmp_path / "first").create({"seed": 1})
    assert Run(tmp_path / "first").config()["seed"] == 2 and os.listdir(tmp_path) == ["first"]


def test_create_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(CxrError, match="cannot write"):
        Run(tmp_path / "runs" / "first").create({})
    assert (tmp_path / "runs").read_text() == "no folder"


def test_name_longer_than_a_file_name_can_be_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="at most 120"):
        check_name("a" * 300, "name")
    with pytest.raises(CxrError, match="cannot write"):
        Run(tmp_path / ("a" * 300)).create({})
    assert os.listdir(tmp_path) == []


def test_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="is not a run"):
        Run(tmp_path).config()


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words", "\x00"])
def test_broken_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CxrError, match=re.escape(str(tmp_path / "config.yaml"))):
        Run(tmp_path).config()


def test_metrics_of_an_unfinished_run_are_empty(tmp_path: Path) -> None:
    assert Run(tmp_path).metrics() == {}


def test_metrics_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"val": {"macro_auroc": 0.75}}')
    assert Run(tmp_path).metrics() == {"val": {"macro_auroc": 0.75}}


@pytest.mark.parametrize("text", ["", "{", "{'val': 1}", "null", "3", '"x"', '""', "[1]", "[]", '[["val", 1]]'])
def test_broken_metrics_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(CxrError, match=re.escape(str(tmp_path / "metrics.json"))):
        Run(tmp_path).metrics()


def test_metrics_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CxrError, match=re.escape("metrics.json")):
        Run(tmp_path).metrics()


def test_parts_are_where_the_contract_states(tmp_path: Path) -> None:
    run = Run(tmp_path)
    parts = [run.config_path, run.best, run.last, run.predictions("val"), run.predictions("test"), run.metrics_path]
    assert [path.relative_to(tmp_path).as_posix() for path in [*parts, run.figures]] == [
        "config.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "predictions/val.parquet",
        "predictions/test.parquet",
        "metrics.json",
        "figures",
    ]


def fill(folder: Path, *names: str) -> None:
    """Empty files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_test_splits_are_those_whose_predictions_are_there(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.test_splits == ()
    fill(tmp_path, *(f"predictions/{name}.parquet" for name in ("val", "b", "a")))
    assert run.test_splits == ("a", "b")
    odd = ("test", "test_calibrated", "a_calibrated", ".a-x7", "test@chexpert", "versions", "a b", "$(id)")
    fill(tmp_path, *(f"predictions/{name}.parquet" for name in odd), "predictions/c.txt")
    assert run.test_splits == ("test", "a", "b")


def test_results_of_tests_are_what_the_programs_write_of_them_and_predictions_come_last(tmp_path: Path) -> None:
    about = {
        "calibration.json", "evaluation/auroc.csv", "evaluation/auroc_a.tex", "evaluation/subgroups.md",
        "figures/roc_test.png", "figures/intervals_a.png", "predictions/test_calibrated.parquet",
        "predictions/a_calibrated.parquet",
    }  # fmt: skip
    others = (
        "config.yaml", "metrics.json", "figures/roc_val.png", "figures/mine.png", "predictions/val.parquet",
        "evaluation/notes.txt", "checkpoints/best.ckpt",
    )  # fmt: skip
    last = ["predictions/test.parquet", "predictions/a.parquet"]
    fill(tmp_path, *about, *others, *last)
    found = [path.relative_to(tmp_path).as_posix() for path in Run(tmp_path).results_of_tests()]
    assert set(found[:-2]) == about and found[-2:] == last


@pytest.mark.parametrize(
    ("last", "metrics", "config", "unfinished"),
    [
        (False, None, 3, False),
        (True, None, 3, True),
        (True, '{"max_epochs": 3}', 3, False),
        (True, '{"max_epochs": 2}', 3, True),
        (True, '{"val": {"macro_auroc": null}}', 3, False),
    ],
)
def test_a_run_with_a_last_checkpoint_and_without_results_of_all_epochs_is_unfinished(
    tmp_path: Path, last: bool, metrics: str | None, config: object, unfinished: bool
) -> None:
    fill(tmp_path, *["checkpoints/last.ckpt"] * last, "checkpoints/best.ckpt")
    (tmp_path / "config.yaml").write_text(f"trainer: {{max_epochs: {config}}}")
    if metrics is not None:
        (tmp_path / "metrics.json").write_text(metrics)
    assert Run(tmp_path).unfinished is unfinished


@pytest.mark.parametrize("name", ["external", "2023", "ab-c_d", "tests", "calibrated", "validation"])
def test_valid_names_of_further_test_splits_pass(name: str) -> None:
    check_test_names([name])

"""What `make paper` runs and `make setup` installs, with a stand-in for Python that says its arguments."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEMBERS = ("paper_vgg", "paper_mobilenet", "paper_resnet")


@pytest.mark.parametrize(("arguments", "runs"), [("", "runs"), ("runs_dir='/a b' seed=1", "/a b"), ("runs_dir=x", "x")])
def test_make_paper_combines_the_members_where_they_were_trained(tmp_path: Path, arguments: str, runs: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s;" "$@"\necho\n')
    python.chmod(0o755)
    (tmp_path / "done-dev").touch()
    made = subprocess.run(
        ["make", "-s", "paper", f"RUN={python}", f"DONE={tmp_path}/done", "DATA=/films", f"ARGS={arguments}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.strip(";").split(";") for line in made.stdout.splitlines()]
    assert [line[1] for line in lines[:3]] == [f"experiment={member}" for member in MEMBERS]
    assert all((f"runs_dir={runs}" in line) == bool(arguments) for line in lines[:3])
    combined = ",".join(f"{runs}/paper/{member}" for member in MEMBERS)
    assert "method.robust=false" in lines[3]  # the paper's weights are the best on validation
    assert lines[3][0] == "ensemble.py" and {f"runs_dir={runs}", f"runs=[{combined}]"} <= set(lines[3])


@pytest.mark.parametrize("word", ["sweep=mine", "name=mine"])
def test_make_paper_refuses_names_under_which_it_would_not_find_its_members(tmp_path: Path, word: str) -> None:
    (tmp_path / "done-dev").touch()
    made = subprocess.run(
        ["make", "-s", "paper", "RUN=false", f"DONE={tmp_path}/done", "DATA=/films", f"ARGS=seed=1 {word}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode != 0 and f"leave {word} out of ARGS" in made.stdout


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE, EXTRAS = set(PROJECT["dependencies"]), {k: set(v) for k, v in PROJECT["optional-dependencies"].items()}


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment whose Python writes down what pip is to install, and runs nothing else."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\ncase "$1 $2" in "-c "*) exec {sys.executable} "$@";;\n'
        '"-m pip") while [ "$1" != -r ]; do shift; done; cat "$2" >> "$0.installed";;\n*) echo "$@";; esac\n'
    )
    python.chmod(0o755)
    return tmp_path / "venv"


def make(venv: Path, *words: str) -> tuple[int, str, list[str]]:
    """Exit code and what is printed, and the lines that pip has been given."""
    installed = venv / "bin" / "python.installed"
    installed.unlink(missing_ok=True)
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "EXTRAS"))}
    made = subprocess.run(
        ["make", "-s", f"VENV={venv}", *words], cwd=ROOT, env=outside, capture_output=True, text=True, check=False
    )
    return made.returncode, made.stdout + made.stderr, installed.read_text().splitlines() if installed.exists() else []


def test_setup_installs_the_core_and_each_chosen_extra_once(venv: Path) -> None:
    assert set(make(venv, "setup")[2]) == CORE | EXTRAS["dev"]
    assert make(venv, "setup")[2] == []
    assert set(make(venv, "setup", "EXTRAS=wandb,tensorboard")[2]) == CORE | EXTRAS["wandb"] | EXTRAS["tensorboard"]
    assert make(venv, "setup", "EXTRAS=tensorboard")[2] == make(venv, "demo")[2] == []


@pytest.mark.parametrize("target", ["test", "test-slow", "test-faults"])
def test_the_tests_have_what_they_import_whatever_was_set_up(venv: Path, target: str) -> None:
    code, said, installed = make(venv, "-j4", target)
    assert code == 0 and "-m pytest" in said
    tested = ("dev", "wandb", "tensorboard", "joblib", "slurm", "tune")
    assert set(installed) == CORE.union(*(EXTRAS[extra] for extra in tested))
    assert {line.split()[1] for line in (ROOT / ".ci" / "run").read_text().splitlines() if line[:5] == "make "} == {
        "test", "check"
    }  # fmt: skip


def test_an_extra_that_does_not_exist_is_one_sentence(venv: Path) -> None:
    code, said, _ = make(venv, "setup", "EXTRAS=wandbb")
    assert code != 0 and said.startswith(
        "error: EXTRAS=wandbb is unknown; choose from "
        "dicom, excel, joblib, slurm, wandb, tensorboard, export, tune, postgres, serve, text, browser, dev\n"
    )
    assert not list(venv.glob(".complete-*-wandbb"))

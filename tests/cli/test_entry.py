"""One entry for all programs: what it lists and refuses, and how it is spelled."""

import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import cxr
from cxr.cli import entry
from cxr.processes.stopping import REQUEUE, Stopped, requests

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    "train",
    "ensemble",
    "evaluate",
    "compare",
    "transfer",
    "tune",
    "predict",
    "export",
    "serve",
    "inspect",
    "phantom",
    "cache",
)
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_entry_lists_each_program_in_a_line(call: Any, words: tuple[str, ...]) -> None:
    said = call(*words)
    listed = [line for line in said.out.splitlines() if line.startswith("  cxr ")]
    assert said.code == 0 and [line.split()[1] for line in listed] == list(PROGRAMS)
    assert all(len(line.split()) > 5 for line in listed)


def test_the_version_is_that_of_the_package(call: Any) -> None:
    assert call("--version").out == f"cxr {cxr.__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "trian is not a program; did you mean train? choose one of train, ensemble, evaluate"),
        (["evalute", "run=a"], "evalute is not a program; did you mean evaluate?"),
        (["dance"], "dance is not a program; choose one of"),
        (["backbone=vgg19"], "write cxr train backbone=vgg19"),
        (["-m"], "write cxr train -m"),
        (["Train"], "did you mean train?"),
        ([""], " is not a program; choose one of"),
        (["\x1b[2J"], "?[2J is not a program"),
    ],
)  # fmt: skip
def test_an_unknown_program_gives_one_sentence(call: Any, words: list[str], sentence: str) -> None:
    said = call(*words)
    assert said.code == 1 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and sentence in said.err


@pytest.mark.parametrize(
    ("named", "spelled"),
    [("/usr/bin/cxr", "cxr train"), ("/a/cxr/__main__.py", "python -m cxr train"), ("train.py", "python train.py")],
)
def test_help_spells_a_program_as_it_was_started(call: Any, named: str, spelled: str) -> None:
    by = import_module("cxr.cli.entry")
    said = call("--help", by=lambda: by.start("train"), named=named)
    assert f"  {spelled} name=a resume=true" in said.out and f"{spelled} help=all" in said.out


def test_the_module_and_the_console_script_are_the_same_entry(call: Any) -> None:
    module = call("trian", by=lambda: runpy.run_module("cxr", run_name="__main__"), named="/a/cxr/__main__.py")
    assert module.err == call("trian").err and SCRIPTS["cxr"] == "cxr.cli.entry:main"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_answers_a_mistake_and_help_through_the_entry(call: Any, program: str) -> None:
    assert call(program, "--help").out.startswith(import_module(f"cxr.cli.{program}").PROGRAM.about)
    said = call(program, "nosuch.thing=1")
    assert said.code == 1 and said.err.startswith("error: there is no option nosuch.thing")


def test_listing_needs_no_hydra_and_help_no_pytorch_and_little_time() -> None:
    program = """
import contextlib, io, sys, time
from cxr.cli.entry import main
def loaded(*words):
    sys.argv = ["cxr", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try: main()
        except SystemExit: pass
    return sorted({"hydra", "omegaconf", "torch", "lightning", "numpy", "pandas"} & set(sys.modules))
print(loaded(), loaded("--version"), loaded("trian"), loaded("train", "help=all"), time.process_time() < 1.3)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] [] [] ['hydra', 'omegaconf'] True"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cxr ", set(PROGRAMS)),
        ("cxr tr", set(PROGRAMS)),  # the shell filters by prefix
        ("cxr train backbone=resnet", {"backbone=resnet10", "backbone=resnet18", "backbone=resnet50"}),
        ("cxr  train trainer.max_e", {"trainer.max_epochs="}),
        ("cxr compare spl", {"split="}),
    ],
)
def test_the_shell_completes_programs_and_their_options(
    call: Any, monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    said = call("-sc", "query=bash")
    assert said.code == 0 and set(said.out.split()) == offered


def test_completion_is_installed_for_the_console_script(call: Any) -> None:
    assert call("--shell-completion", "install=bash").out.strip().endswith("hydra_bash_completion cxr")


@pytest.mark.parametrize(
    ("program", "kind", "sentence"),
    [
        ("predict", Stopped, "stopped by SIGTERM; the same command continues after the last finished part"),
        ("export", Stopped, "stopped by SIGTERM; run the command again"),
        ("train", Stopped, "stopped by SIGTERM; "),
        ("predict", KeyboardInterrupt, "interrupted; the same command continues after the last finished part"),
    ],
)
def test_what_a_signal_ended_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, program: str, kind: type[KeyboardInterrupt | Stopped], sentence: str
) -> None:
    monkeypatch.setattr(requests, "received", "SIGTERM")
    said, code = entry._ended(kind("stopped by SIGTERM"), program)
    assert said.startswith(sentence) and code == (REQUEUE if kind is Stopped else entry.INTERRUPTED)
    known = "stopped by SIGTERM after step 3: it resumes"
    assert entry._ended(Stopped(known), "train")[0] == known

"""What `make paper` runs, with a stand-in for Python that says its arguments."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEMBERS = ("paper_vgg", "paper_mobilenet", "paper_resnet")


@pytest.mark.parametrize(("arguments", "runs"), [("", "runs"), ("runs_dir='/a b' seed=1", "/a b"), ("runs_dir=x", "x")])
def test_make_paper_combines_the_members_where_they_were_trained(tmp_path: Path, arguments: str, runs: str) -> None:
    python, stamp = tmp_path / "python", tmp_path / "stamp"
    python.write_text('#!/bin/sh\nprintf "%s;" "$@"\necho\n')
    python.chmod(0o755)
    stamp.touch()
    made = subprocess.run(
        ["make", "-s", "paper", f"RUN={python}", f"STAMP={stamp}", "DATA=/films", f"ARGS={arguments}"],
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
    stamp = tmp_path / "stamp"
    stamp.touch()
    made = subprocess.run(
        ["make", "-s", "paper", "RUN=false", f"STAMP={stamp}", "DATA=/films", f"ARGS=seed=1 {word}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode != 0 and f"leave {word} out of ARGS" in made.stdout

"""Tuning with stand-ins for trainings: which words reach them, how trials are pruned, retried and reported."""

import shlex
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.cli.options import plain
from cxr.cli.tune import own_words, suggest
from cxr.configuration.schema import Train
from cxr.errors import CxrError
from tests.end_to_end.conftest import Program

optuna = pytest.importorskip("optuna")

TRAINING = """#!{python}
import sys, time
from pathlib import Path
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
run = Path(words["runs_dir"].strip("'")) / words["sweep"] / words["name"]
run.mkdir(parents=True, exist_ok="resume" in words)
(run / "words").write_text(" ".join(sys.argv[1:]))
lr = float(words["optimizer.lr"])
if lr > 0.5:
    sys.exit("error: the loss is not finite")
if "image_size" not in words and not Path("stopped").exists():
    Path("stopped").touch()
    sys.exit(75)
(run / "metrics.csv").write_text("epoch,val/macro_auroc\\n0,\\n1," + str(0.9 - lr) + "\\n2,0.6\\n")
"""


@pytest.fixture
def tune(program: Program, here: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    python = here / "python"
    python.write_text(TRAINING.format(python=sys.executable))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("CXR_STORAGE", raising=False)
    monkeypatch.setattr(sys, "executable", str(python))
    return program


def test_the_best_of_the_trials_is_reported_with_the_command_that_trains_it(tune: Program, here: Path) -> None:
    result = tune("tune", "study=s", "trials=4", "image_size=32", "space=default", "experiment=demo")
    assert result.code == 0, result.err
    runs = sorted((here / "runs" / "s").glob("trial-*"))
    assert len(runs) == 4
    words = [(run / "words").read_text().split() for run in runs]
    assert all({"score_test=false", "image_size=32", "experiment=demo"} <= set(line) for line in words)
    rates = [float(next(word for word in line if word.startswith("optimizer.lr=")).split("=")[1]) for line in words]
    assert f"val/macro_auroc {0.9 - min(rates):.4f}" in result.out and "4 trials" in result.out
    command = shlex.split(result.out.strip().splitlines()[-1])
    assert command[:2] == ["python", "train.py"] and "seed=0,1,2,3,4" in command and "score_test" not in str(command)
    best = read_command_line("train", command[2:], str(conf_dir())).config
    trial = runs[rates.index(min(rates))].joinpath("words").read_text().split()[3:]
    same = read_command_line("train", trial, str(conf_dir())).config
    assert best is not None and same is not None
    best.update({key: same[key] for key in ("name", "sweep", "score_test", "runs_dir")})
    assert best == same and best.optimizer.lr == min(rates)
    assert (here / "runs" / "s" / "history.png").stat().st_size > 5000
    again = tune("tune", "study=s", "trials=5", "image_size=32", "experiment=demo")
    assert again.code == 0 and len(list((here / "runs" / "s").glob("trial-*"))) == 5


def test_a_trial_that_fails_is_one_sentence_and_three_end_the_study(tune: Program, here: Path, tmp_path: Path) -> None:
    space = tmp_path / "conf" / "space"
    space.mkdir(parents=True)
    (space / "bad.yaml").write_text("optimizer.lr: {low: 0.6, high: 0.9}\n")
    result = tune("tune", f"hydra.searchpath=[file://{tmp_path}/conf]", "space=bad", "study=s")
    assert result.code == 1 and result.err.count("failed: the loss is not finite") == 3
    assert "3 trials in succession failed" in result.err
    with sqlite3.connect(here / "runs" / "s" / "study.db") as database:
        assert database.execute("select distinct state from trials").fetchall() == [("FAIL",)]


def test_a_trial_that_a_signal_stopped_is_resumed_under_its_first_number(tune: Program, here: Path) -> None:
    assert tune("tune", "study=s", "trials=1").code == 75
    words = here / "runs" / "s" / "trial-0" / "words"
    first = words.read_text()
    Path("stopped").unlink()  # it is stopped again
    assert tune("tune", "study=s", "trials=1").code == 75
    again = tune("tune", "study=s", "trials=1")
    assert again.code == 0 and "trial 2 (resumes trial 0): optimizer.lr=" in again.out
    assert words.read_text() == f"{first} resume=auto"
    assert [run.name for run in (here / "runs" / "s").glob("trial-*")] == ["trial-0"]


def test_finished_runs_give_the_first_trials(tune: Program, here: Path) -> None:
    for name, rate in {"a": 3e-5, "b": 0.4}.items():  # the second is above the space, and its loss is not in it
        run = here / "runs" / name
        run.mkdir(parents=True)
        config = read_command_line("train", [f"optimizer.lr={rate}", f"loss={'focal' if name == 'a' else 'mae'}",
                                             "optimizer.weight_decay=0.05"], str(conf_dir())).config  # fmt: skip
        assert config is not None
        content = {**plain(config, Train), "choices": {"loss": "focal" if name == "a" else "mae", "augment": "none"}}
        (run / "config.yaml").write_text(OmegaConf.to_yaml(content))
        (run / "metrics.json").write_text("{}")
    result = tune("tune", "study=s", "trials=3", "image_size=32", "warm_start=runs/*")
    assert result.code == 0, result.err
    words = [(here / "runs" / "s" / f"trial-{n}" / "words").read_text().split() for n in range(3)]
    assert {"optimizer.lr=3e-05", "optimizer.weight_decay=0.05", "augment=none", "loss=focal"} <= set(words[0])
    assert {"optimizer.weight_decay=0.05", "augment=none"} <= set(words[1])
    assert "optimizer.lr=0.4" not in words[1] and "loss=mae" not in words[1]
    assert "not in the search space: optimizer.lr=0.4, loss=mae" in result.out
    assert "matches no finished run" in tune("tune", "study=t", "warm_start=runs/none").err


def test_words_of_the_trainings_are_checked_before_the_first_trial(tune: Program) -> None:
    assert "image_sise" in tune("tune", "study=s", "image_sise=3").err
    assert "tune sets score_test" in tune("tune", "study=s", "score_test=true").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study=a/b"], "study=a/b is not a name"),
        (["study=trained"], "runs/trained is a run; choose another study=NAME"),
        (["study=s", "space=upside"], "space.seed={'low': 3, 'high': 1} cannot be sampled"),
        (["study=s", "space=none"], "space.seed={'choices': []} cannot be sampled"),
        (["study=s", "space=empty"], "the search space is empty"),
        (["study=s", "mode=min"], "study=s has mode=max, not min; choose another study=NAME"),
        (["study=s", "metric=val/loss"], "study=s has metric=val/macro_auroc, not val/loss"),
        (["study=s", "space=other"], "study=s has space="),
    ],
)
def test_a_study_that_cannot_be_continued_is_refused_before_a_trial(
    tune: Program, here: Path, words: list[str], said: str
) -> None:
    assert tune("tune", "study=s", "trials=1", "image_size=32").code == 0
    (here / "runs" / "trained").mkdir()
    (here / "runs" / "trained" / "config.yaml").touch()
    (here / "conf" / "space").mkdir(parents=True)
    spaces = {"empty": "", "upside": "{low: 3, high: 1}", "none": "{choices: []}", "other": "{low: 1, high: 3}"}
    for name, entry in spaces.items():
        (here / "conf" / "space" / f"{name}.yaml").write_text(f"seed: {entry}" if entry else "")
    result = tune("tune", f"--config-dir={here}/conf", *words, "trials=2", "image_size=32")
    assert result.code == 1 and said in result.err and result.err.count("\n") == 1
    assert not list((here / "runs").glob("**/trial-1"))


def test_a_folder_of_runs_may_have_any_name(tune: Program, here: Path) -> None:
    result = tune("tune", "study=s", "trials=1", "image_size=32", "runs_dir='dätä of x'")
    assert result.code == 0, result.err
    words = next(here.glob("*/s/trial-0/words")).read_text()
    assert "runs_dir='dätä of x'" in words
    command = shlex.split(result.out.strip().splitlines()[-1])[2:]
    config = read_command_line("train", [word for word in command if "seed=" not in word], str(conf_dir())).config
    assert config is not None and config.runs_dir == "dätä of x"


def test_options_of_tune_and_of_the_trainings_are_told_apart() -> None:
    own, passed = own_words(["study=a", "+trainer.benchmark=true", "space=b", "experiment=demo", "trials=3", "seed=1"])
    assert own == ["study=a", "space=b", "trials=3"]
    assert passed == ["+trainer.benchmark=true", "experiment=demo", "seed=1"]
    assert own_words(["hydra.searchpath=[file:///a]"]) == (["hydra.searchpath=[file:///a]"],) * 2


def test_a_search_space_becomes_overrides() -> None:
    space: dict[str, Any] = {"a.b": {"low": 2, "high": 8, "step": 2}, "c": {"choices": [None, "x"]}}
    trial = optuna.trial.FixedTrial({"a.b": 4, "c": None})
    assert suggest(trial, space) == ["a.b=4", "c=null"]
    with pytest.raises(CxrError, match=r"space\.a=3 has neither choices nor low and high"):
        suggest(trial, {"a": 3})

"""What does not keep a contract is refused before a run appears, and lists that are not a run's own are not judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cxr.loss
from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.cli.evaluate import evaluate
from cxr.cli.options import plain
from cxr.configuration.programs import Evaluate
from cxr.errors import CxrError
from tests.parts import add

Program = Callable[..., Any]
ONE = ("trainer.max_epochs=1",)
LOSSES = """
import torch
from torch import nn


class Former(nn.Module):
    def forward(self, logits, target):
        return logits.sum()


class Mean(nn.Module):
    def forward(self, output, batch, epoch):
        return output.logits.mean()


def no_module():
    return 3
"""


def judged(*words: str) -> float:
    config = read_command_line("evaluate", [*words, "resamples=10"], str(conf_dir())).config
    assert config is not None
    return evaluate(plain(config, Evaluate))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Former", "Former(output, batch, epoch) fails"),
        ("Mean", "Mean returns Tensor; a loss must return LossTerms(total, number)"),
        ("no_module", "is not a torch.nn.Module"),
    ],
)
def test_a_loss_that_keeps_no_contract_is_refused_before_the_run_appears(
    train: Program, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    add(cxr.loss, LOSSES, tmp_path, monkeypatch)
    refused = train(*ONE, "name=a", f"loss._target_=cxr.loss.mine.{name}", "~loss.positive_weights", "~loss.smoothing")
    assert refused.code == 1 and said in refused.err, refused.err
    assert not (here / "runs" / "a").exists()


def test_lists_that_are_not_the_runs_own_are_refused(train: Program, here: Path, phantoms: Path) -> None:
    assert train(*ONE, "name=a", "score_test=false").code == 0
    images = (phantoms / "test_list.txt").read_text().split()
    (here / "fewer.txt").write_text("\n".join(images[:-3]))
    before = (here / "runs" / "a" / "metrics.json").read_bytes()
    with pytest.raises(CxrError, match=r"result in another split than the one it was trained with"):
        judged("run=runs/a", f"data.test_list={here / 'fewer.txt'}")
    assert (here / "runs" / "a" / "metrics.json").read_bytes() == before
    judged("run=runs/a")
    assert json.loads((here / "runs" / "a" / "metrics.json").read_text())["test"]["n"] == len(images)
    judged("run=runs/a", f"data.test_lists.fewer={here / 'fewer.txt'}")  # beside its own it is another test split
    metrics = json.loads((here / "runs" / "a" / "metrics.json").read_text())
    assert (metrics["test"]["n"], metrics["fewer"]["n"]) == (len(images), len(images) - 3)


def test_a_run_with_init_resumes_where_its_ancestor_is_not(train: Program, here: Path) -> None:
    assert train(*ONE, "name=a").code == 0
    assert train(*ONE, "name=b", f"init={here / 'runs' / 'a'}").code == 0
    (here / "runs" / "a").rename(here / "runs" / "renamed")
    done = train("name=b", "resume=true", "trainer.max_epochs=2", plain=True)
    assert done.code == 0, done.err
    last = torch.load(here / "runs" / "b" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init=runs/b", "backbone.weights=w.pth"], "init and backbone.weights both name initial weights"),
        (["++plugins=[nope_package]"], "plugins contains nope_package, but Python finds no package"),
        (["plugins=[a"], "plugins=[a cannot be parsed"),
        (["callbacks=[early_stopping,[ema]]"], "error: "),
        (["debug=[fast,overfit]"], "names several; choose one of fast, overfit, profile"),
        (["scheduler.warmup=3"], "scheduler.warmup=3 must be 0 or more and below 1"),
        (["loss.positive_weights=5"], "loss.positive_weights=5 must be true or false"),
        (["data.test_lists.unknown_ancestry=x.txt"], "error: "),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(train: Program, here: Path, words: list[str], said: str) -> None:
    refused = train(*ONE, "name=a", *words)
    assert refused.code == 1 and said in refused.err and "Traceback" not in refused.err, refused.err
    assert not (here / "runs" / "a").exists()

"""Runs with callbacks: to the byte where they die and resume, also those of earlier versions and of a user's own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cxr.processes.stopping import requests
from tests.end_to_end.test_resume import RECIPE, Killed, command, die, last_of, last_step, logged, same_end
from tests.faults.test_signals import send_at

EMA = "callbacks=[early_stopping,ema]"


def straight(train: Callable[..., Any], shelf: Path, name: str, *more: str) -> Path:
    """A run that nobody killed, made once."""
    if not (shelf / name).exists():
        torch.set_num_threads(1)
        assert train(*RECIPE, *more, f"runs_dir={shelf}", f"name={name}").code == 0
    return shelf / name


@pytest.mark.slow
def test_an_average_that_dies_within_an_epoch_and_in_validation_ends_to_the_byte(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None], steps: list[int]
) -> None:
    reference, run = straight(train, shelf, "ema", EMA), here / "runs" / "a"
    steps.clear()
    kill("training_step", 9)
    die(train, *RECIPE, EMA, "name=a")
    assert last_of(run)["global_step"] and last_of(run)["callbacks"]["WeightAverage"]["average"]
    for place, calls in (("validation_step", 1), ("training_step", 7)):
        kill(place, calls)
        with pytest.raises(Killed):
            train("name=a", "resume=true", plain=True)
    assert train("name=a", "resume=true", plain=True).code == 0
    assert len(steps) > len(set(steps))
    same_end(run, reference)


def test_an_average_that_is_stopped_by_a_signal_resumes_to_the_byte(
    train: Callable[..., Any], here: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = straight(train, shelf, "ema", EMA)
    with monkeypatch.context() as patch:
        send_at(patch, "training_step", 9, signal.SIGTERM)
        stopped = train(*RECIPE, EMA, "name=a", "checkpoint.every_steps=null", "checkpoint.every_seconds=3600")
    assert stopped.code == 75, stopped.err
    requests.received = None
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


def test_a_longer_training_resumes_with_the_raw_weights(train: Callable[..., Any], here: Path, shelf: Path) -> None:
    reference = straight(train, shelf, "ema", EMA)
    assert train(*RECIPE, EMA, "name=a", "trainer.max_epochs=2").code == 0
    assert train("name=a", "resume=true", "trainer.max_epochs=3", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


def test_results_are_of_the_average_that_was_validated(train: Callable[..., Any], shelf: Path) -> None:
    reference = straight(train, shelf, "ema", EMA)
    metrics = json.loads((reference / "metrics.json").read_text())
    row = logged(reference / "metrics.csv")[metrics["best_epoch"]]
    assert metrics["val"]["macro_auroc"] == pytest.approx(float(row["val/macro_auroc"]), abs=1e-6)


@pytest.mark.parametrize("patience", ["2", pytest.param("null", marks=pytest.mark.slow)])
def test_a_run_of_an_earlier_version_resumes_with_its_early_stopping(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None], patience: str
) -> None:
    """Its configuration has the values of early stopping and no callbacks. The rate never rises: 2 ends at epoch 3."""
    more = ["early_stopping.monitor=lr", "early_stopping.mode=max", f"early_stopping.patience={patience}"]
    more += ["trainer.max_epochs=4"]
    reference, run = straight(train, shelf, f"patience-{patience}", *more), here / "runs" / "a"
    kill("on_validation_epoch_end", 3)
    die(train, *RECIPE, *more, "name=a")
    config = OmegaConf.load(run / "config.yaml")
    del config["callbacks"], config["choices"]["callbacks"]
    OmegaConf.save(config, run / "config.yaml")
    state = last_of(run)["callbacks"]["EarlyStopping{'monitor': 'lr', 'mode': 'max'}"]
    assert state["wait_count"] == (1 if patience == "2" else 0)
    assert train("name=a", "resume=true", "callbacks=[early_stopping]", plain=True).code == 0
    same_end(run, reference)
    assert len(logged(run / "metrics.csv")) == (3 if patience == "2" else 4)


def test_a_resumed_run_keeps_its_callbacks(train: Callable[..., Any], here: Path) -> None:
    assert train(EMA, "trainer.max_epochs=1", "name=a").code == 0
    for words in ("callbacks=[early_stopping]", "callbacks=[]", "callbacks.ema.decay=0.5"):
        named = [EMA] if words.startswith("callbacks.ema") else []
        said = train("name=a", "resume=true", "trainer.max_epochs=2", *named, words, plain=True)
        assert said.code == 1 and "on resuming" in said.err, words
    assert train("name=a", "resume=true", EMA, plain=True).code == 0


MINE = '''
from lightning.pytorch.callbacks import Callback


class Counts(Callback):
    """Counts steps and, in `odd`, keeps what no checkpoint can hold."""

    def __init__(self, odd=False):
        self.seen, self.odd = 0, odd

    def on_train_batch_end(self, trainer, *given):
        self.seen += 1

    def state_dict(self):
        return {"seen": self.seen} | ({"odd": {1, 2}} if self.odd else {})

    def load_state_dict(self, state):
        self.seen = state["seen"]
'''


def write_package(folder: Path) -> None:
    (folder / "my_counting" / "conf" / "callbacks").mkdir(parents=True)
    (folder / "my_counting" / "__init__.py").write_text(MINE)
    (folder / "my_counting" / "conf" / "callbacks" / "counts.yaml").write_text(
        "# @package callbacks.counts\n# Counts steps.\n_target_: my_counting.Counts\nodd: false\n"
    )


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The words of a command line that choose a callback of a package of the user's own."""
    write_package(tmp_path / "own")
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    yield ["plugins=[my_counting]", "callbacks=[early_stopping,counts]"]
    sys.modules.pop("my_counting", None)


def test_a_custom_callback_trains_and_resumes_where_its_user_names_it(
    train: Callable[..., Any], here: Path, kill: Callable[[str, int], None], mine: list[str]
) -> None:
    kill("training_step", 9)
    die(train, *RECIPE, *mine, "name=a")
    seen = last_of(here / "runs" / "a")["callbacks"]["Counts"]["seen"]
    assert seen == 8
    refused = train("name=a", "resume=true", plain=True)
    assert refused.code == 1 and "_target_=my_counting.Counts is not allowed" in refused.err
    assert "pass plugins=[my_counting]" in refused.err
    assert train("name=a", "resume=true", *mine, plain=True).code == 0
    metrics = json.loads((here / "runs" / "a" / "metrics.json").read_text())
    batches = -(-metrics["train"]["n"] // 4) * metrics["epochs"]
    assert last_of(here / "runs" / "a")["callbacks"]["Counts"]["seen"] == batches


def test_a_state_that_could_not_be_read_again_is_refused_before_the_first_step(
    train: Callable[..., Any], here: Path, steps: list[int], mine: list[str]
) -> None:
    said = train(*RECIPE, *mine, "callbacks.counts.odd=true", "name=a")
    assert said.code == 1 and "the state of the callback Counts cannot be saved" in said.err
    assert not steps and not list((here / "runs" / "a").glob("checkpoints/*.ckpt"))


@pytest.mark.slow
def test_an_average_and_a_custom_callback_on_two_processes_resume_to_the_byte(
    here: Path, phantoms: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    recipe = [
        *RECIPE, "backbone=resnet10", "trainer=ddp", "trainer.accelerator=cpu", f"data.root={phantoms}",
        "data.images=90", "data.phantom_size=64", "callbacks=[early_stopping,ema,counts]", "trainer.max_epochs=12",
        "plugins=[my_counting]",
    ]  # fmt: skip
    write_package(tmp_path / "own")
    environment = environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{tmp_path / 'own'}"}
    subprocess.run(command(*recipe, "name=straight"), env=environment, check=True, capture_output=True)
    stopped = [*recipe, "checkpoint.every_steps=null", "name=a"]
    process = subprocess.Popen(command(*stopped), env=environment, stderr=subprocess.PIPE, text=True)
    log = here / "runs" / "a" / "steps.csv"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and last_step(log) < 17:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 75, said
    words = command("name=a", "resume=true", "plugins=[my_counting]")
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    same_end(here / "runs" / "a", here / "runs" / "straight")
    assert last_of(here / "runs" / "a")["callbacks"]["WeightAverage"]["average"]

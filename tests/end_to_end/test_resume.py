"""A run that was killed, at any moment, ends with the bytes of the run that was not, and repeats little."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf

import cxr.loss
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training.checkpoint import state_sha256
from cxr.training.saving import newest_verified
from tests.parts import add

ROOT = Path(__file__).parents[2]
WALL_CLOCK = {"images_per_second"}
FILES = ("metrics.json", "predictions/test.parquet", "predictions/val.parquet", "steps.csv")
EVERY = 2  # steps between checkpoints
RECIPE = (
    "image_size=32", "batch_size=4", "synthetic_batch_size=8", "attention=gap_mask", "augment=strong",
    "sampler=class_aware", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=5e-3", "head.dropout=0.3",
    "trainer.max_epochs=3", "trainer.log_every_n_steps=1", f"checkpoint.every_steps={EVERY}",
    "checkpoint.every_seconds=null",
)  # fmt: skip


class Killed(BaseException):
    """What nobody catches."""


def logged(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in csv.DictReader(file)]


def last_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def equal(first: Any, second: Any) -> bool:
    """Bit for bit, in any nesting."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second) or (first != first and second != second)


def same_end(run: Path, straight: Path) -> None:
    for part in FILES:
        assert (run / part).read_bytes() == (straight / part).read_bytes(), part
    assert logged(run / "metrics.csv") == logged(straight / "metrics.csv")
    ours, theirs = last_of(run), last_of(straight)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        if part == "callbacks":  # the random states at the end are of no use to anybody
            for checkpoint in (ours, theirs):
                checkpoint[part] = {k: v for k, v in checkpoint[part].items() if not k.startswith("MidEpoch")}
        assert equal(ours[part], theirs[part]), part
    best = [torch.load(r / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for r in (run, straight)]
    assert state_sha256(best[0]) == state_sha256(best[1])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every optimizer step that is taken, by the number it makes."""
    taken: list[int] = []
    real = ClassificationTask.on_before_optimizer_step

    def count(task: ClassificationTask, optimizer: Any) -> None:
        taken.append(task.trainer.global_step + 1)
        real(task, optimizer)

    monkeypatch.setattr(ClassificationTask, "on_before_optimizer_step", count)
    return taken


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """A function that arms one death: at the n-th call from now of a method of the task or the trainer."""
    armed: dict[str, int] = {}

    def arm(place: str, calls: int) -> None:
        armed[place] = calls

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def mortal(*arguments: Any, **named: Any) -> Any:
            if name in armed:
                armed[name] -= 1
                if armed[name] == 0:
                    del armed[name]
                    raise Killed
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, mortal)

    for name in ("training_step", "validation_step", "on_validation_epoch_end"):
        wrap(ClassificationTask, name)
    wrap(pl.Trainer, "save_checkpoint")
    wrap(torch, "save")
    yield arm


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("straight")


def straight(train: Callable[..., Any], shelf: Path, *more: str) -> Path:
    """The run that nobody killed, made once for each configuration."""
    name = "straight-" + "-".join(more).replace("=", "_").replace(".", "_")
    if not (shelf / name).exists():
        torch.set_num_threads(1)
        assert train(*RECIPE, *more, f"runs_dir={shelf}", f"name={name}").code == 0
    return shelf / name


def die(train: Callable[..., Any], *arguments: str) -> None:
    torch.set_num_threads(1)
    with pytest.raises(Killed):
        train(*arguments)


@pytest.mark.parametrize("workers", [0, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_deaths_in_the_middle_of_epochs_change_no_byte(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None], steps: list[int], workers: int
) -> None:
    reference = straight(train, shelf)
    total = int(logged(reference / "steps.csv")[-1]["step"])
    run = here / "runs" / "a"
    steps.clear()
    kill("training_step", 9)
    die(train, *RECIPE, "name=a", f"data.workers={workers}")
    where = [last_of(run)["global_step"]]
    for calls in (7, 9):
        kill("training_step", calls)
        with pytest.raises(Killed):
            train("name=a", "resume=true", f"data.workers={workers}", plain=True)
        where.append(last_of(run)["global_step"])
    resumed = train("name=a", "resume=true", f"data.workers={workers}", plain=True)
    assert resumed.code == 0, resumed.err
    assert f"step {where[-1]}" in resumed.out and ", batch " in resumed.out
    assert where == sorted(set(where)), "each life got further"
    assert sorted(set(steps)) == list(range(1, total + 1))
    assert len(steps) - total <= 3 * EVERY, "more than an interval was done again"
    assert len(steps) > total or where[-1] == total
    same_end(run, reference)


@pytest.mark.parametrize(
    ("place", "calls"),
    [
        ("save_checkpoint", 1),
        ("save", 2),
        *(
            pytest.param(*place, marks=pytest.mark.slow)
            for place in (("validation_step", 3), ("on_validation_epoch_end", 2), ("save_checkpoint", 3), ("save", 6))
        ),
    ],
)
def test_deaths_in_validation_and_while_a_checkpoint_is_written_change_no_byte(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None], steps: list[int],
    place: str, calls: int,
) -> None:  # fmt: skip
    reference = straight(train, shelf)
    total = int(logged(reference / "steps.csv")[-1]["step"])
    steps.clear()
    kill(place, calls)
    die(train, *RECIPE, "name=a")
    assert not list((here / "runs" / "a" / "checkpoints").glob(".*")), "half a checkpoint is left"
    resumed = train("name=a", "resume=true", plain=True)
    assert resumed.code == 0, resumed.err
    assert len(steps) - total <= EVERY + 1
    same_end(here / "runs" / "a", reference)


def test_a_checkpoint_never_falls_into_a_window(train: Callable[..., Any], shelf: Path) -> None:
    reference = straight(train, shelf)
    assert "MidEpoch" in "".join(last_of(reference)["callbacks"])
    rows = logged(reference / "steps.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))


def test_checkpoints_by_the_clock(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None], steps: list[int]
) -> None:
    reference = straight(train, shelf)
    steps.clear()
    kill("training_step", 15)
    die(train, *RECIPE, "name=a", "checkpoint.every_steps=null", "checkpoint.every_seconds=1e-6")
    run = here / "runs" / "a"
    assert last_of(run)["global_step"] == max(steps), "each step had its checkpoint"
    assert train("name=a", "resume=true", "checkpoint.every_seconds=null", plain=True).code == 0
    assert len(steps) == len(set(steps)), "nothing was done twice"
    same_end(run, reference)


def test_rows_after_the_checkpoint_are_cut_off_and_half_a_row_too(
    train: Callable[..., Any], here: Path, shelf: Path, kill: Callable[[str, int], None]
) -> None:
    reference = straight(train, shelf)
    kill("training_step", 9)
    die(train, *RECIPE, "name=a")
    log = here / "runs" / "a" / "steps.csv"
    assert int(logged(log)[-1]["step"]) >= last_of(here / "runs" / "a")["global_step"]
    with log.open("a") as file:
        file.write("999,7,0.1,0.1\n12,")
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


def test_a_run_resumes_with_other_processes_within_an_epoch_or_reports_why_not(
    train: Callable[..., Any], here: Path, kill: Callable[[str, int], None]
) -> None:
    small = ("image_size=32", "batch_size=8", "trainer.max_epochs=1", "augment=none", "checkpoint.every_steps=3")
    kill("training_step", 5)
    die(train, *small, "name=a")
    refused = train("name=a", "resume=true", "trainer=ddp", "trainer.accelerator=cpu", plain=True)
    assert refused.code == 1 and "after 24 images of an epoch on 1 device(s)" in refused.err, refused.err
    assert "pass trainer.devices=1" in refused.err
    assert train("name=a", "resume=true", plain=True).code == 0


LEARNT = '''
import torch
from torch import nn

from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.terms import LossTerms


class Learnt(nn.Module):
    """Cross-entropy with a learnt weight a finding, held near one, that falls with the epochs."""

    def __init__(self, findings, positive, negative, epochs):
        super().__init__()
        assert len(findings) == len(positive) == 14 and epochs == 3
        self.plain, self.epochs = BinaryCrossEntropy(positive, negative), epochs
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, output, batch, epoch):
        if self.training:
            self.seen += 1
        total, number = self.plain(output, batch, epoch)
        return LossTerms(total * (-self.scale).exp() * (1 - epoch / self.epochs) + number * self.scale, number)
'''


@pytest.mark.slow
def test_a_loss_with_parameters_a_buffer_and_a_schedule_resumes_to_the_byte(
    train: Callable[..., Any],
    here: Path,
    kill: Callable[[str, int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(cxr.loss, LEARNT, tmp_path, monkeypatch)
    torch.set_num_threads(1)
    recipe = [*RECIPE, "loss._target_=cxr.loss.mine.Learnt", "~loss.positive_weights", "~loss.smoothing"]
    assert train(*recipe, "name=straight").code == 0
    kill("training_step", 18)
    die(train, *recipe, "name=a")
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", here / "runs" / "straight")
    state = last_of(here / "runs" / "a")["state_dict"]
    assert float(state["loss.scale"]) < 0 and float(state["loss.seen"]) > 30


MIXED = (
    "image_size=32", "batch_size=4", "synthetic_batch_size=8", "task=single_label", "data.single_finding=true",
    "data.findings=[Infiltration,Effusion]", "mix=balanced_mixup", "mix.alpha=1.0", "loss=ldam", "head=normalised",
    "loss.weights=effective_number", "loss.defer_epochs=1", "scheduler=step", "scheduler.after_epochs=1",
    "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "checkpoint.every_steps=1", "checkpoint.every_seconds=null",
    "early_stopping.monitor=null",
)  # fmt: skip


def test_mixing_and_deferred_weights_resume_to_the_byte_before_and_after_the_switch(
    train: Callable[..., Any], here: Path, kill: Callable[[str, int], None]
) -> None:
    assert train(*MIXED, "name=straight").code == 0
    rows = logged(here / "runs" / "straight" / "metrics.csv")
    assert [row["train/balanced_accuracy"] for row in rows] == ["nan"] * 3 and all(row["train/loss"] for row in rows)
    batches = 2 * int(rows[0]["step"])  # of an epoch, or one fewer
    kill("training_step", batches - 2)
    die(train, *MIXED, "name=a")
    kill("training_step", 6)
    with pytest.raises(Killed):
        train("name=a", "resume=true", plain=True)
    assert last_of(here / "runs" / "a")["global_step"] > int(rows[0]["step"])
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", here / "runs" / "straight")


def test_a_run_that_version_0_1_left_within_an_epoch_is_refused(
    train: Callable[..., Any], here: Path, kill: Callable[[str, int], None]
) -> None:
    """Its checkpoint has no sums of the loss, and its configuration no task."""
    run = here / "runs" / "a"
    kill("training_step", 9)
    die(train, *RECIPE, "name=a")
    for name in ("last.ckpt", "previous.ckpt"):
        path = run / "checkpoints" / name
        content = torch.load(path, weights_only=True)
        assert content["callbacks"]["MidEpoch"].pop("sums").shape == (1, 2) and content["cxr"].pop("version")
        torch.save(content, path)
        path.with_name(f"{name}.sha256").unlink()
    config = OmegaConf.load(run / "config.yaml")
    del config["task"], config["choices"]["task"], config["data"]["single_finding"]
    OmegaConf.save(config, run / "config.yaml")
    refused = train("name=a", "resume=true", "task=multi_label", plain=True)
    assert refused.code == 1 and "last.ckpt was written by version 0.1 in the middle of epoch" in refused.err


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def last_step(log: Path) -> int:
    """The last whole row's step."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    rows = [line for line in lines[1:] if line.endswith("\n")]
    return int(rows[-1].split(",")[0]) if rows else 0


def killed_and_resumed(
    here: Path, environment: dict[str, str], recipe: list[str], lives: int, seed: int, least: int = 1
) -> list[int]:
    """A run that dies `lives` times at random moments and is then left to end; the step at each resumption.

    A life is killed, with its children, a random time after a random number of steps, `least` or more.
    """
    rng = random.Random(seed)
    run, where = here / "runs" / "killed", [0]
    arguments = command(*recipe, "name=killed")
    for _ in range(lives):
        goal = where[-1] + rng.randint(least, least + 2 * EVERY - 1)
        process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if last_step(run / "steps.csv") >= goal:
                time.sleep(rng.uniform(0, 0.3))
                break
            time.sleep(0.005)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        newest = newest_verified(Run(run), show=False)
        where.append(torch.load(newest[0], weights_only=True)["global_step"] if newest else 0)
        assert last_step(run / "steps.csv") - where[-1] <= EVERY + 1, "more than an interval has to be done again"
        arguments = command("name=killed", "resume=true")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ten_real_kills_at_random_moments_change_no_byte(
    here: Path, phantoms: Path, environment: dict[str, str], workers: int
) -> None:
    recipe = [
        *RECIPE, "backbone=resnet10", "trainer=cpu", f"data.root={phantoms}", "data.images=90", "data.phantom_size=64",
        f"data.workers={workers}", "trainer.max_epochs=20",
    ]  # fmt: skip
    subprocess.run(command(*recipe, "name=straight"), env=environment, check=True, capture_output=True)
    where = killed_and_resumed(here, environment, recipe, lives=10, seed=workers)
    assert where == sorted(where) and len(set(where)) > 3
    same_end(here / "runs" / "killed", here / "runs" / "straight")


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_as_two_that_were_not(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    recipe = [
        *RECIPE, "backbone=resnet10", "trainer=ddp", "trainer.accelerator=cpu", f"data.root={phantoms}",
        "data.images=90", "data.phantom_size=64", "synthetic_batch_size=16", "trainer.max_epochs=12",
    ]  # fmt: skip
    subprocess.run(command(*recipe, "name=straight"), env=environment, check=True, capture_output=True)
    where = killed_and_resumed(here, environment, recipe, lives=4, seed=0)
    assert max(where) > 0
    same_end(here / "runs" / "killed", here / "runs" / "straight")

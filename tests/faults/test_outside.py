"""What breaks a run from outside: ctrl-C, lost processes, memory, changing files: one sentence, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from cxr.cli.entry import INTERRUPTED
from cxr.data.cache import build
from cxr.ensemble import write as ensemble_writing
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training import finish
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.test_resume import RECIPE, ROOT, same_end, straight

PLACES = {
    "training": (ClassificationTask, "training_step", 9),
    "validation": (ClassificationTask, "validation_step", 4),
    "checkpoint": (pl.Trainer, "save_checkpoint", 3),
    "prediction": (finish, "predict", 1),
    "results": (finish, "write_tables", 1),
}


def at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int, act: Callable[[], None]) -> None:
    """Acts in the n-th call of a function."""
    real, left = getattr(owner, name), [calls]

    def acting(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            act()
        return real(*given, **named)

    monkeypatch.setattr(owner, name, acting)


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def one_sentence(result: Any, *parts: str, code: int = 1) -> None:
    assert result.code == code, result.out + result.err
    assert result.err.count("error: ") == 1 and "Traceback" not in result.err, result.err
    for part in parts:
        assert part in result.err, result.err


def interrupted(result: Any, *parts: str) -> None:
    """As after ctrl-C; a program would end here, and another ctrl-C would end it at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    one_sentence(result, "interrupted", *parts, code=INTERRUPTED)


@pytest.mark.parametrize(
    "place",
    [
        "training",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("prediction", "validation", "checkpoint", "results")),
    ],
)
def test_ctrl_c_in_a_training_leaves_a_run_that_resumes(
    train: Callable[..., Any], here: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    reference = straight(train, shelf)
    with monkeypatch.context() as patch:
        at(patch, *PLACES[place], interrupt)
        interrupted(train(*RECIPE, "name=a"), "resume=true")
    assert not [path for path in (here / "runs" / "a").rglob(".*") if path.is_file()]
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


@pytest.mark.slow
def test_ctrl_c_in_a_cache_build_and_in_an_ensemble(
    train: Callable[..., Any], ensemble: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        assert train("trainer.max_epochs=1", f"name=m{seed}", f"seed={seed}").code == 0
    with monkeypatch.context() as patch:
        at(patch, build.Manifest, "write", 1, interrupt)
        said = train("trainer.max_epochs=1", "name=c", "cache.size=40", f"cache.dir={here}/cache")
    interrupted(said)
    assert not (here / "runs" / "c").exists() and not list((here / "cache").glob("40px-*"))
    assert train("trainer.max_epochs=1", "name=c", "cache.size=40", f"cache.dir={here}/cache").code == 0
    with monkeypatch.context() as patch:
        at(patch, ensemble_writing, "evaluate", 1, interrupt)
        said = ensemble("method=average", "runs=runs/m*", "name=e")
    interrupted(said)
    assert not (here / "runs" / "e" / "metrics.json").exists()


@pytest.mark.parametrize(("workers", "change"), [(0, "written"), (2, "cut")])
def test_a_cache_that_changes_under_a_run_is_named(
    train: Callable[..., Any], here: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch, workers: int, change: str
) -> None:
    def spoil() -> None:
        (array,) = (here / "cache").rglob("images.npy")
        if change == "cut":
            os.truncate(array, 4096)
        else:
            with array.open("r+b") as file:
                file.seek(-5, os.SEEK_END)
                file.write(b"12345")

    at(monkeypatch, ClassificationTask, "training_step", 3, spoil)
    result = train(*RECIPE, "trainer.max_epochs=20", f"cache.dir={here}/cache", f"data.workers={workers}", "name=a")
    one_sentence(result, "images.npy has changed while it was read", "verify=true")


def test_a_loader_process_that_is_killed_is_reported(
    train: Callable[..., Any], here: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, mine = straight(train, shelf), os.getpid()

    def kill() -> None:
        children = Path(f"/proc/{mine}/task/{mine}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)

    with monkeypatch.context() as patch:
        at(patch, ClassificationTask, "training_step", 14, kill)
        result = train(*RECIPE, "name=a", "data.workers=2")
    one_sentence(result, "a loader process was killed (out of memory?)", "fewer data.workers", "resume=true")
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


@pytest.mark.parametrize("said", [
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit.",
    "unable to open shared memory object </torch_7_1> in read-write mode: No space left on device (28)",
])  # fmt: skip
def test_too_little_shared_memory_is_reported(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def act() -> None:
        raise RuntimeError(said)

    at(monkeypatch, ClassificationTask, "training_step", 3, act)
    one_sentence(train(*RECIPE, "name=a"), "too little shared memory", "--shm-size", "data.workers=0")


def test_workers_with_full_shared_memory_do_not_hang_training(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the worker itself, as forked processes have the patch too."""

    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    one_sentence(train(*RECIPE, "name=a", "data.workers=2"), "too little shared memory", "--shm-size", "data.workers=0")


@pytest.mark.slow
def test_a_real_shared_memory_that_is_too_small_is_reported(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("another /dev/shm cannot be mounted here")
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, "data.phantom_size=64", f"data.root={phantoms}",
               "image_size=64", "data.workers=2", "name=a"]  # fmt: skip
    done = subprocess.run([*small, *command], env=environment, cwd=here, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1 and "too little shared memory" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_read_only_run_directory_is_reported(
    train: Callable[..., Any], here: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, real = straight(train, shelf), tempfile.mkstemp

    def refuse(*given: Any, **named: Any) -> Any:
        if str(named.get("dir", "")).startswith("runs/a"):
            raise OSError(30, "Read-only file system", named["dir"])
        return real(*given, **named)

    with monkeypatch.context() as patch:
        at(patch, ClassificationTask, "training_step", 9, lambda: patch.setattr(tempfile, "mkstemp", refuse))
        one_sentence(train(*RECIPE, "name=a"), "cannot write runs/a/", "read-only file system")
    assert train("name=a", "resume=true", plain=True).code == 0
    same_end(here / "runs" / "a", reference)


@pytest.mark.parametrize(("place", "replaced"), [("training", False), ("results", True)])
def test_a_run_whose_folder_is_gone_ends_and_does_not_come_back(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch, place: str, replaced: bool
) -> None:
    run, other = here / "runs" / "a", Run(here / "other")
    other.create({"run_id": "00000000"})

    def act() -> None:
        shutil.rmtree(run)
        if replaced:  # by another run of that name
            other.path.rename(run)

    at(monkeypatch, *PLACES[place][:2], 1, act)
    one_sentence(train("trainer.max_epochs=1", "name=a"), "runs/a was deleted, renamed or replaced during training")
    assert os.listdir(run) == ["config.yaml"] if replaced else not run.exists()


def test_two_trainings_of_one_name(train: Callable[..., Any], here: Path) -> None:
    assert train("trainer.max_epochs=1", "name=a").code == 0
    with Run(here / "runs" / "a").held():
        one_sentence(
            train("name=a", "resume=true", "trainer.max_epochs=2", plain=True),
            "another process is training or evaluating runs/a",
        )
    one_sentence(train("trainer.max_epochs=1", "name=a"), "runs/a exists")
    half = here / "runs" / "a" / "checkpoints" / ".last-abc_efgh.ckpt"
    half.write_bytes(b"PK")
    assert train("name=a", "resume=true", "trainer.max_epochs=2", plain=True).code == 0
    assert not half.exists(), "what a killed process had begun to write"


def test_data_that_changed_before_a_run_resumes_are_refused(
    train: Callable[..., Any], here: Path, phantoms: Path
) -> None:
    copy = here / "copy"
    shutil.copytree(phantoms, copy, ignore=shutil.ignore_patterns("cxr-cache"))
    options = ("data=nih", f"data.root={copy}", "data.val_share=0.2", "image_size=32", "batch_size=16", "trainer=cpu")
    assert train(*options, "backbone=resnet10", "trainer.max_epochs=1", "name=a", plain=True).code == 0
    table = copy / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("Mass", "Nodule"))
    one_sentence(train("name=a", "resume=true", "trainer.max_epochs=2", plain=True), "data of runs/a have changed")


def wait_for(what: Callable[[], Any], process: "subprocess.Popen[str]", seconds: float = 120) -> Any:
    """Until it is there; fails when the process ends first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("it never came")


def started(here: Path, phantoms: Path, environment: dict[str, str], *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, "data.phantom_size=64", f"data.root={phantoms}",
               "checkpoint.every_steps=1", "trainer.log_every_n_steps=1", *more]  # fmt: skip
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=here,
        start_new_session=True,
    )  # fmt: skip


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_ends_the_others_within_ten_seconds(
    here: Path, phantoms: Path, environment: dict[str, str], rank: int
) -> None:
    process = started(here, phantoms, environment, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
                      "trainer.max_epochs=200", "name=a")  # fmt: skip
    wait_for(lambda: (here / "runs" / "a" / "checkpoints" / "last.ckpt").exists(), process)
    ranks = children(process.pid)
    assert len(ranks) == 2
    began = time.monotonic()
    os.kill(ranks[rank], signal.SIGKILL)
    said = process.communicate(timeout=60)[0]
    assert time.monotonic() - began < 10 and process.returncode == 1 and "Traceback" not in said
    assert f"error: process {rank} of 2 of runs/a was ended by SIGKILL (out of memory?)" in said
    assert "with resume=true the run resumes from its last checkpoint" in said and not any(map(alive, ranks))


@pytest.mark.slow
def test_ranks_and_loaders_die_with_their_parent_and_the_run_resumes_at_once(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    options = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.workers=1", "name=a")
    process = started(here, phantoms, environment, *options, "trainer.max_epochs=200")
    wait_for(lambda: (here / "runs" / "a" / "checkpoints" / "last.ckpt").exists(), process)
    family = [
        *children(process.pid),
        *(grandchild for child in children(process.pid) for grandchild in children(child)),
    ]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(family) >= 4 and not any(map(alive, family))
    with Run(here / "runs" / "a").held():
        pass


@pytest.mark.slow
def test_a_sweep_survives_a_killed_job_and_resumes_after_it_was_stopped(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    options = ("-m", "seed=1,2,3", "sweep=s", "trainer.max_epochs=30")
    process = started(here, phantoms, environment, *options)
    log = here / "runs" / "s" / "seed-{}" / "steps.csv"
    wait_for(lambda: Path(str(log).format(1)).exists(), process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    wait_for(lambda: (here / "runs" / "s" / "seed-2" / "checkpoints" / "last.ckpt").exists(), process)
    os.killpg(process.pid, signal.SIGTERM)  # as clusters do: the sweep and its job at once
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 75, said
    assert "job 0: its process was ended by SIGKILL (out of memory?)" in said and "Traceback" not in said
    summary = (here / "runs" / "s" / "summary.csv").read_text()
    assert "was ended by SIGKILL" in summary and "stopped by SIGTERM" in summary
    again = started(here, phantoms, environment, *options, "resume=true")
    said = again.communicate(timeout=240)[0]
    assert again.returncode == 0, said
    assert said.count("resumes from epoch") == 2
    assert len(list((here / "runs" / "s").glob("*/metrics.json"))) == 3
    assert len(list(here.rglob("images.npy"))) <= 1, "they share one cache"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGTERM, 2)]
)
def test_whoever_asks_and_however_often_a_run_ends_with_one_sentence(
    here: Path, phantoms: Path, environment: dict[str, str], number: signal.Signals, times: int
) -> None:
    process = started(here, phantoms, environment, "trainer.max_epochs=400", "name=a", "data.workers=1")
    wait_for(lambda: (here / "runs" / "a" / "checkpoints" / "last.ckpt").exists(), process)
    for _ in range(times):
        os.killpg(process.pid, number)
        time.sleep(0.05)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == (130 if number == signal.SIGINT else 75), said
    assert said.count("error: ") == 1 and "Traceback" not in said, said
    half = [path for path in (here / "runs" / "a").rglob(".*") if path.is_file()]
    assert not half or (number == signal.SIGTERM and times == 2), "what stays after a sudden end goes on resuming"

"""A training from its start to its end and over resumptions: what is read once, what is refused, what errors become."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.run.directory import Run
from cxr.training.run import resume, train
from tests.training.conftest import Configure, Trained, composed

TABLE = "Data_Entry_2017.csv"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.training.finish.draw_run", lambda *arguments: None)


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Run:
    """The finished run in a place where it may be changed, with the paths that are remembered for it."""
    shutil.copytree(trained.run.path.parent, tmp_path / "runs")
    return Run(tmp_path / "runs" / "a")


def longer(trained: Trained, epochs: int = 2) -> dict[str, Any]:
    return trained.config | {"trainer": trained.config["trainer"] | {"max_epochs": epochs}}


def test_a_training_reads_its_table_and_its_checkpoint_once_and_builds_its_network_once(trained: Trained) -> None:
    opened = trained.opened
    assert trained.networks == ["test_resnet"]
    assert [opened.times(name) for name in (TABLE, "best.ckpt", "last.ckpt", "previous.ckpt")] == [1, 1, 0, 0]


def test_a_training_returns_what_its_task_selects_by(trained: Trained) -> None:
    metrics = json.loads(trained.run.metrics_path.read_text())
    assert trained.value == metrics["val"]["macro_auroc"]
    assert pd.read_csv(trained.run.log)["val/macro_auroc"].max() == pytest.approx(trained.value, abs=1e-6)


def test_a_resumed_run_reads_table_and_checkpoint_once_and_builds_its_network_once(
    trained: Trained, copied: Run, networks: list[str], listening: Callable[[], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (copied.last.parent / ".last-0123abcd.ckpt").write_bytes(b"half")  # of a process that was killed
    with listening() as opened:
        resume(longer(trained), copied)
    assert [opened.times(name) for name in (TABLE, "/last.ckpt", "/best.ckpt")] == [1, 1, 1]
    assert networks == ["test_resnet"] and opened.times(".png") == 0
    steps = int(torch.load(trained.run.last, weights_only=True)["global_step"])
    assert f"{copied.path} resumes from epoch 2, step {steps}\n" in capsys.readouterr().out
    metrics = json.loads(copied.metrics_path.read_text())
    assert (metrics["epochs"], metrics["max_epochs"], metrics["steps"]) == (2, 2, 2 * steps)
    assert not list(copied.last.parent.glob(".*")), "half a checkpoint is gone"
    assert copied.config()["trainer"]["max_epochs"] == 2


def test_a_finished_run_answers_at_once(
    trained: Trained, copied: Run, listening: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.path.rglob("*")}
    with listening() as opened:
        assert resume(trained.config, copied) == trained.value
    assert opened.times(TABLE) == opened.times(".ckpt") == 0
    assert f"{copied.path} is finished" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in copied.path.rglob("*")}


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(
    trained: Trained, copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied.last.parent)
    copied.metrics_path.unlink()
    assert resume(trained.config, copied) == pytest.approx(trained.value, abs=1e-6)
    assert "resumes from epoch 1, step 0: it was stopped before its first checkpoint" in capsys.readouterr().out
    frames = [pd.read_parquet(run.predictions("val")) for run in (trained.run, copied)]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize("changes", ["labels", "split"])
def test_data_that_have_changed_are_refused(trained: Trained, copied: Run, tmp_path: Path, changes: str) -> None:
    root, data = tmp_path / "changed", trained.config["data"]
    shutil.copytree(data["root"], root, ignore=shutil.ignore_patterns("cxr-cache"))
    tested = (root / "test_list.txt").read_text().split()[0]
    if changes == "labels":  # of a test image, by which no split is drawn
        lines = (root / TABLE).read_text().splitlines()
        cells = [line.split(",") for line in lines]
        row = next(row for row in cells if row[0] == tested)
        row[1] = "Hernia" if row[1] == "No Finding" else "No Finding"
        (root / TABLE).write_text("\n".join(map(",".join, cells)) + "\n")
    else:
        data = data | {"split_seed": 5}
    data = data | {"root": str(root), "source": data["source"] | {"root": str(root)}}
    before = copied.config_path.read_bytes()
    with pytest.raises(CxrError, match=f"^the data of {copied.path} have changed since it was started; restore them"):
        resume(longer(trained) | {"data": data}, copied)
    assert copied.config_path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "said"), [("metrics.csv", "line 1 has the unknown column"), ("steps.csv", "line 1 is not step,")]
)
def test_a_log_that_is_none_is_refused_before_data_are_read(
    trained: Trained, copied: Run, name: str, said: str, listening: Callable[[], Any]
) -> None:
    (copied.path / name).write_text("my,thesis\n")
    with listening() as opened, pytest.raises(CxrError, match=said):
        resume(longer(trained), copied)
    assert opened.times(TABLE) == 0 and (copied.path / name).read_text() == "my,thesis\n"


def test_two_processes_do_not_train_one_run(trained: Trained, copied: Run) -> None:
    with locked(copied.path / ".lock", "it is mine"), pytest.raises(CxrError, match="another process is training"):
        resume(longer(trained), copied)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (RuntimeError("CUDA out of memory"), CxrError, "^the device is out of memory; pass a smaller batch_size"),
        (OSError(28, "No space left on device", "x"), CxrError, "^cannot write x: the disk is full"),
        (RuntimeError("another"), RuntimeError, "^another$"),
        (SystemExit(130), KeyboardInterrupt, ""),
    ],
)
def test_what_breaks_a_training_is_explained_and_the_run_stays(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException,
    raised: type[BaseException], said: str,
) -> None:  # fmt: skip
    def fit(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    run, config = Run(tmp_path / "runs" / "a"), configure()
    with pytest.raises(raised, match=said):
        train(config, run)
    assert run.config()["run_id"] == config["run_id"] and run.metrics() == {}


def test_a_run_that_was_deleted_during_training_is_reported_and_stays_deleted(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = Run(tmp_path / "runs" / "a"), pl.Trainer.fit

    def fit(trainer: pl.Trainer, *arguments: Any, **options: Any) -> None:
        shutil.rmtree(run.path)
        real(trainer, *arguments, **options)

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    with pytest.raises(CxrError, match="was deleted, renamed or replaced during training"):
        train(configure(), run)
    assert not list(run.path.rglob("*.ckpt"))


def test_several_devices_without_their_processes_are_refused(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="process 0 of 2 is connected as process 0 of 1"):
        train(configure("trainer=ddp", "trainer.accelerator=cpu"), Run(tmp_path / "runs" / "a"))


def test_a_name_that_is_taken_is_refused(trained: Trained, copied: Run) -> None:
    before = copied.config_path.read_bytes()
    with pytest.raises(CxrError, match="exists; choose another name=, or pass resume=true"):
        train(composed("trainer=cpu") | trained.config, copied)
    assert copied.config_path.read_bytes() == before

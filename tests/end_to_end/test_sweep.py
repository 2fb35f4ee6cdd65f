"""Sweeps, several processes for one run, and loggers."""

import csv
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ONE = ("trainer.max_epochs=1",)


@pytest.mark.slow
def test_a_failing_job_is_recorded_and_the_others_run(train: Callable[..., Any], here: Path) -> None:
    result = train("-m", *ONE, "image_size=32,7", "loss=bce,mae", "sweep=s")
    assert result.code == 1 and "error: 2 of 4 jobs failed" in result.err
    with (here / "runs" / "s" / "summary.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {f"image_size-{size}-{loss}" for size in (32, 7) for loss in ("bce", "mae")}
    for name, row in rows.items():
        if "size-7" in name:
            assert row["status"] == "failed" and "image_size=7 does not fit" in row["reason"]
            assert not (here / "runs" / "s" / name).exists()
        else:
            metrics = json.loads((here / "runs" / "s" / name / "metrics.json").read_text())
            assert row["status"] == "finished"
            assert float(row["test_macro_auroc"]) == metrics["test"]["macro_auroc"]
    assert "image_size-32-bce" in result.out and "summary: runs/s/summary.csv" in result.out
    refused = train("-m", *ONE, "loss=bce,mae", "sweep=s")
    assert refused.code == 1 and "runs/s exists" in refused.err
    again = train("-m", *ONE, "image_size=32", "loss=bce,mae", "sweep=s", "resume=true")
    assert again.code == 0 and "image_size-32" not in again.err


def test_a_wrong_option_in_a_sweep_starts_nothing(train: Callable[..., Any], here: Path) -> None:
    result = train("-m", "loss=bce,nosuch")
    assert result.code == 1 and "loss=nosuch is not an option; choose one of asl, bce, class_balanced" in result.err
    assert not (here / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("losses", "jobs"), [("bce", ["run"]), ("bce,mae", ["bce", "mae"])])
def test_jobs_of_two_processes_make_runs_equal_to_those_of_one(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch, losses: str, jobs: list[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # VGG11 has no batch norm, whose statistics are each process's own; plain SGD keeps rounding small
    network = ("backbone=timm", "backbone.name=vgg11", "optimizer=sgd", "optimizer.momentum=0", "scheduler=none")
    options = (*ONE, *network, f"loss={losses}", "synthetic_batch_size=32")
    alone = train("-m", *options, "batch_size=32", "sweep=one")
    assert alone.code == 0, alone.err
    both = train(
        "-m", *options, "batch_size=8", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "sweep=two"
    )
    assert both.code == 0, both.err
    runs = sorted(path.parent.relative_to(here / "runs") for path in (here / "runs").rglob("config.yaml"))
    assert runs == [Path(f"{sweep}/{job}") for sweep in ("one", "two") for job in jobs]
    for job in jobs:
        states, frames, logs = [], [], []
        for sweep in ("one", "two"):
            run = here / "runs" / sweep / job
            checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
            states.append(checkpoint["state_dict"])
            frames.append(pd.read_parquet(run / "predictions" / "test.parquet"))
            logs.append(pd.read_csv(run / "metrics.csv"))
            assert checkpoint["global_step"] == logs[-1]["step"].iloc[-1]
        for key, value in states[0].items():
            torch.testing.assert_close(value, states[1][key], rtol=1e-4, atol=1e-5)
        assert frames[0]["image"].tolist() == frames[1]["image"].tolist()
        assert not frames[1]["image"].duplicated().any()
        scores = [frame.filter(like="score:").to_numpy() for frame in frames]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
        for column in ("train/loss", "val/loss", "val/macro_auroc", "step"):
            np.testing.assert_allclose(logs[0][column], logs[1][column], rtol=1e-4)


def wandb_records(path: Path) -> list[Any]:
    """The records of a `.wandb` file: a 7-byte header, then 32 KiB blocks of LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, records, parts = path.read_bytes(), [], b""
    position = 7
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


@pytest.mark.pictures
def test_weights_and_biases_gets_metrics_configuration_table_and_curves(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(*ONE, "name=a", "sweep=s", "logger=[wandb,tensorboard]", "logger.wandb.offline=true")
    assert result.code == 0, result.err
    assert "WARNING" not in result.err + result.out
    run = here / "runs" / "s" / "a"
    (file,) = run.rglob("*.wandb")
    records = wandb_records(file)
    history: dict[str, Any] = {}
    for record in records:
        for item in record.history.item:
            history[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    metrics = json.loads((run / "metrics.json").read_text())
    log = pd.read_csv(run / "metrics.csv")
    assert history["val/loss"] == pytest.approx(log["val/loss"].iloc[-1])
    assert history["best/test/macro_auroc"] == pytest.approx(metrics["test"]["macro_auroc"])
    config = {u.key or ".".join(u.nested_key): u.value_json for r in records for u in r.run.config.update}
    config |= {u.key or ".".join(u.nested_key): u.value_json for r in records for u in r.config.update}
    assert json.loads(config["image_size"]) == 32
    tables = [json.loads(path.read_text()) for path in run.rglob("*.table.json")]
    areas = next(t for t in tables if t["columns"] == ["finding", "val", "test"])
    assert {row[0]: row[2] for row in areas["data"]} == metrics["test"]["auroc"]
    curves = next(t for t in tables if "true positive rate" in t["columns"])
    assert {row[0] for row in curves["data"]} <= set(metrics["test"]["auroc"])
    about = next(record.run for record in records if record.run.run_id)
    run_id = OmegaConf.load(run / "config.yaml").run_id
    assert (about.run_id, about.run_group, about.job_type) == (f"a-{run_id}", "s", "train")
    assert {"phantom", "resnet10", "location", "bce"} <= set(about.tags)
    logged = {key.removeprefix("figures/").split(".")[0] for key in history if key.startswith("figures/")}
    assert logged == {path.stem for path in (run / "figures").glob("*.png")}
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Scalars("val/loss")[-1].value == pytest.approx(log["val/loss"].iloc[-1])
    assert sorted(path.name for path in here.iterdir()) == ["runs"]


@pytest.mark.parametrize("way", [["name=b", "resume=true"], []])
def test_the_old_key_of_a_logger_is_answered_with_the_new_one(train: Callable[..., Any], way: list[str]) -> None:
    said = train("logger=wandb", "logger.offline=true", *way).err
    assert "there is no option logger.offline; " in said and "write logger.wandb.offline=" in said
    assert "with logger=wandb" in train("+logger.offline=true", *way).err
    assert "add logger=wandb" in train("logger.wandb.offline=true", *way).err


@pytest.mark.slow
def test_a_run_of_one_logger_without_a_name_resumes(train: Callable[..., Any], here: Path) -> None:
    assert train(*ONE, "name=a", "logger=tensorboard").code == 0
    file = here / "runs" / "a" / "config.yaml"
    saved = OmegaConf.load(file)
    saved.logger = saved.logger.tensorboard  # as earlier versions wrote it
    OmegaConf.save(saved, file)
    again = train("name=a", "resume=true", "logger=tensorboard", "trainer.max_epochs=2", plain=True)
    assert again.code == 0, again.err
    events = EventAccumulator(str(here / "runs" / "a" / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("val/loss")) == 2 and OmegaConf.load(file).logger.tensorboard.version == "tensorboard"

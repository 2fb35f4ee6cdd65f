"""Runs of other tasks than the usual one: findings that exclude each other, and what a task selects by."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import cxr.task
from cxr.findings import NIH14
from cxr.run.directory import Run
from cxr.task.base import Monitor
from cxr.training.build import build_task
from cxr.training.checkpoint import load_network
from cxr.training.finish import selected
from tests.parts import add

SINGLE = (
    "task=single_label", "loss=cross_entropy", "data.single_finding=true", "data.findings=[Infiltration,Effusion]",
    "trainer.max_epochs=2", "optimizer.lr=3e-3",
)  # fmt: skip


def read(run: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets, (N, L), as pandas reads them."""
    frame = pd.read_parquet(run / "predictions" / f"{split}.parquet")
    return frame.filter(like="score:").to_numpy(), frame.filter(like="target:").to_numpy()


def test_findings_that_exclude_each_other_are_trained_scored_and_combined(
    train: Callable[..., Any], ensemble: Callable[..., Any], here: Path
) -> None:
    for seed in (0, 1):
        done = train(*SINGLE, f"name=s{seed}", f"seed={seed}")
        assert done.code == 0, done.err
        assert "images are left out: they do not have exactly one finding" in done.out
    run = here / "runs" / "s0"
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        score, target = read(run, split)
        assert (score >= 0).all() and (score <= 1).all() and (target.sum(axis=1) == 1).all()
        np.testing.assert_allclose(score.sum(axis=1), 1, atol=1e-6)
        truth, called = target.argmax(axis=1), score.argmax(axis=1)
        said = metrics[split]
        assert said["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, called))
        assert said["top1_accuracy"] == pytest.approx((truth == called).mean())
        areas = [roc_auc_score(target[:, k], score[:, k]) for k in range(2)]
        assert said["macro_auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
        assert len(said["auroc"]) == 2 and said["operating_points"] and said["n"] == len(target)
    assert metrics["test"]["tail_accuracy"] == metrics["test"]["balanced_accuracy"]  # both have few training images
    table = pd.read_csv(run / "evaluation" / "accuracy.csv").set_index("finding")["recall"]
    assert table["Effusion"] == pytest.approx(metrics["test"]["recall"]["Effusion"], abs=1e-3)
    assert table["balanced accuracy of tail findings"] == pytest.approx(metrics["test"]["tail_accuracy"], abs=1e-3)
    with (run / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    reached = [float(row["val/balanced_accuracy"]) for row in epochs]
    assert metrics["best_epoch"] == int(np.argmax(reached)) and "train/top1_accuracy" in epochs[0]
    assert selected(Run(run), build_task(Run(run).config()).monitor) == metrics["val"]["balanced_accuracy"]
    joined = ensemble("method=average", "runs=[runs/s0,runs/s1]", "name=e")
    assert joined.code == 0, joined.err
    score, _ = read(here / "runs" / "e", "test")
    np.testing.assert_allclose(score, (read(run, "test")[0] + read(here / "runs" / "s1", "test")[0]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "of 90 images "),
        (["data.single_finding=true", "data.findings=[Mass]"], "needs at least two findings"),
        (
            ["data.single_finding=true", "loss=bce"],
            "BinaryCrossEntropy trains for sigmoid, but SingleLabel scores with soft",
        ),
        (["task=multi_label"], "CrossEntropy trains for softmax, but MultiLabel scores with sigmoid"),
    ],
)
def test_labels_and_losses_that_do_not_belong_to_the_task_are_refused_before_the_run_appears(
    train: Callable[..., Any], here: Path, phantoms: Path, changes: list[str], said: str
) -> None:
    done = train("task=single_label", "loss=cross_entropy", *changes)
    assert done.code == 1 and said in done.err and done.err.count("\n") == 1 and not (here / "runs").exists()
    if not changes:
        with (phantoms / "Data_Entry_2017.csv").open(newline="") as file:
            labels = [row[1] for row in list(csv.reader(file))[1:]]
        none, several = labels.count("No Finding"), sum("|" in one for one in labels)
        assert f"{none} have none, {several} have several and 0 an unknown one, such as " in done.err
        assert done.err.endswith("pass data.single_finding=true, which leaves them out\n")


TOLD = """
from cxr.task.base import Monitor
from cxr.task.multi_label import MultiLabel


class Told(MultiLabel):
    monitor = Monitor("val/told", "min")
    logged = (*MultiLabel.logged, "told")

    def metrics(self, target, score):
        return super().metrics(target, score) | {"told": [3.0, 2.0, 5.0, 4.0, 1.0][self.current_epoch]}
"""


@pytest.mark.slow
def test_checkpoints_and_early_stopping_follow_the_monitor_of_the_task(
    train: Callable[..., Any], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cxr.task, TOLD, tmp_path, monkeypatch)
    done = train("task._target_=cxr.task.mine.Told", "trainer.max_epochs=5", "early_stopping.monitor=null",
                 "early_stopping.patience=1", "name=a")  # fmt: skip
    assert done.code == 0, done.err
    run = here / "runs" / "a"
    assert pd.read_csv(run / "metrics.csv")["val/told"].tolist() == [3, 2, 5], "the third is no better: it ends"
    assert json.loads((run / "metrics.json").read_text())["best_epoch"] == 1
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(
    ("metrics", "value"),
    [
        ({"val": {"macro_auroc": 0.75}, "best_epoch": 1}, 0.75),
        ({"val": {"macro_auroc": {"value": 0.75, "ci": [0.5, 1.0]}}, "best_epoch": 1}, 0.75),
        ({"val": {"macro_auroc": None}, "best_epoch": 1}, 0.6),
        ({"val": {}, "best_epoch": 0}, float("nan")),
        ({}, float("nan")),
    ],
)
def test_a_sweep_maximises_the_number_of_metrics_json_or_else_of_the_best_epochs_row(
    tmp_path: Path, metrics: dict[str, Any], value: float
) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "metrics.csv").write_text("epoch,val/macro_auroc,val/loss\n0,nan,0.3\n1,0.6,0.2\n")
    assert selected(Run(tmp_path), Monitor("val/macro_auroc", "max")) == pytest.approx(value, nan_ok=True)
    if metrics:
        expected = [0.3, 0.2][metrics["best_epoch"]]
        assert selected(Run(tmp_path), Monitor("val/loss", "min")) == expected


def test_label_text_is_read_once_and_then_stored_with_the_run(train: Callable[..., Any], here: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(here / "v.npz", **{name: rng.normal(size=6) for name in NIH14})
    options = ("text=file", "text.file=v.npz", "head=label_vectors", "loss=dwml", "name=text")
    assert train(*options, "trainer.max_epochs=1").code == 0
    (here / "v.npz").unlink()
    resumed = train("name=text", "resume=true", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    network = load_network(here / "runs/text/checkpoints/best.ckpt").network
    assert network.head.vectors.shape == (14, 6)  # type: ignore[union-attr]
    refused = train("loss=dwml", "name=without")
    assert refused.code == 1 and "needs label text; add text=file or text=sentence" in refused.err

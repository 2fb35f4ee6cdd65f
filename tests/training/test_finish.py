"""What a finished training leaves: metrics that its predictions give, and the value that selected its checkpoint."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.task.base import Monitor
from cxr.training.finish import selected
from tests.training.conftest import Trained


def test_metrics_are_those_of_the_predictions(trained: Trained) -> None:
    metrics = json.loads(trained.run.metrics_path.read_text())
    root = trained.config["data"]["root"]
    labels = pd.read_csv(f"{root}/Data_Entry_2017.csv", index_col=False, usecols=[0, 1], header=0)
    truth = dict(zip(labels.iloc[:, 0], labels.iloc[:, 1], strict=True))
    judged = set()
    for split in ("val", "test"):
        frame = pd.read_parquet(trained.run.predictions(split))
        judged |= set(frame["image"])
        areas = []
        for name in metrics[split]["auroc"]:
            target = np.array([name in truth[image].split("|") for image in frame["image"]])
            assert metrics[split]["positives"][name] == target.sum()
            if 0 < target.sum() < len(target):
                areas.append(roc_auc_score(target, frame[f"score:{name}"]))
        assert metrics[split]["macro_auroc"] == pytest.approx(np.mean(areas)) and metrics[split]["n"] == len(frame)
    rest = [text.split("|") for image, text in truth.items() if image not in judged]
    assert metrics["train"]["n"] == len(rest)
    for name, count in metrics["train"]["positives"].items():
        assert count == sum(name in names for names in rest)
    assert (metrics["epochs"], metrics["best_epoch"], metrics["max_epochs"]) == (1, 0, 1)
    assert metrics["steps"] == math.ceil(len(rest) / 8)


def test_the_value_of_a_run_is_that_by_which_its_checkpoint_was_selected(trained: Trained) -> None:
    metrics = json.loads(trained.run.metrics_path.read_text())
    assert selected(trained.run, Monitor("val/macro_auroc", "max")) == metrics["val"]["macro_auroc"]
    log = pd.read_csv(trained.run.log)
    assert selected(trained.run, Monitor("val/loss", "min")) == pytest.approx(log["val/loss"].iloc[0])
    assert math.isnan(selected(trained.run, Monitor("val/absent", "max")))

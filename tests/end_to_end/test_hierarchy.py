"""No finding scores above its parent: after calibration by finding, and after ensembles that treat findings apart."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr.cli.evaluate import evaluate
from cxr.ensemble.combine import RankAverage, Stacking, Weighted
from cxr.ensemble.members import gather
from cxr.ensemble.stage import run_ensemble
from cxr.ensemble.write import Ensemble, combine
from cxr.evaluation.evaluate import calibrate, fit_scaling
from cxr.run.directory import Run
from cxr.run.predictions import Predictions, read_predictions
from tests.evaluation.test_run import options

FINDINGS = ("Mass", "Opacity", "Hernia", "Nodule")  # Nodule below Mass below Opacity
TREE = {"Opacity": {"Mass": {"Nodule": None}}}


def folder(path: Path, seed: int, tree: Mapping[str, Any] | None = TREE) -> str:
    """Predictions that follow the tree, each finding with an offset of its own."""
    for split in ("val", "test"):
        truth, rng = np.random.default_rng(len(split)), np.random.default_rng([seed, len(split)])
        target = (truth.random((200, 4)) < [0.4, 0.6, 0.3, 0.3]).astype(np.float32)
        score = 1 / (1 + np.exp(-(rng.normal(size=target.shape) + target + rng.normal(size=4))))
        score[:, 0] = np.minimum(score[:, 0], score[:, 1])
        score[:, 3] = np.minimum(score[:, 3], score[:, 0])
        image = np.array([f"{split}{k}.png" for k in range(200)], object)
        made = Predictions(image, image, FINDINGS, score.astype(np.float32), target, "", split)
        made.write(path / "predictions" / f"{split}.parquet")
    if tree is not None:
        (path / "config.yaml").write_text(json.dumps({"task": {"hierarchy": tree}}))
    return str(path)


def crossed(score: np.ndarray) -> int:
    """Scores above that of the parent."""
    return int((score[:, 0] > score[:, 1]).sum() + (score[:, 3] > score[:, 0]).sum())


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_calibrated_scores_follow_the_tree(tmp_path: Path, method: str) -> None:
    run = Run(Path(folder(tmp_path, 1)))
    val, test = (read_predictions(run.predictions(split)) for split in ("val", "test"))
    scaling = fit_scaling(val, method)
    assert crossed(test.score) == 0
    assert crossed(calibrate(test, scaling, method)[0].score) > 0, "scaling by finding alone breaks the order"
    scaled, errors = calibrate(test, scaling, method, TREE)
    assert crossed(scaled.score) == 0
    brier = ((scaled.score - scaled.target) ** 2).mean(axis=0)
    assert errors["after"]["brier"] == pytest.approx(dict(zip(FINDINGS, brier, strict=True)))


METHODS = {"stacking": Stacking(), "weighted": Weighted(weights="per_finding", robust=False), "rank": RankAverage()}


@pytest.mark.parametrize("name", METHODS)
def test_combined_scores_follow_the_tree_that_all_members_have(tmp_path: Path, name: str) -> None:
    runs = [folder(tmp_path / "runs" / letter, seed) for seed, letter in enumerate("abc")]
    other = folder(tmp_path / "runs" / "other", 2, None)
    counts = []
    for keys in (runs, [*runs[:2], other]):
        members = gather(keys, "cpu")
        ensemble = Ensemble("e", {}, METHODS[name], METHODS[name].fit(members.validation), members)
        counts.append(0)
        for split in (members.validation, members.test):
            areas, combined = combine(ensemble, split)
            counts[-1] += crossed(combined.score)
            expected = roc_auc_score(combined.target, combined.score, average=None)
            assert list(areas.values())[-1] == pytest.approx(expected)
    assert counts[0] == 0 < counts[1], "alone, the method breaks the order"


def test_a_calibrated_ensemble_follows_the_tree_of_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cxr.ensemble.write", "cxr.evaluation.run"):
        monkeypatch.setattr(f"{module}.draw", lambda *arguments: None)  # pictures take most of the time
    runs, run = [folder(tmp_path / "runs" / name, seed) for seed, name in enumerate("ab")], Run(tmp_path / "runs" / "e")
    method = {"_target_": "cxr.ensemble.combine.Average"}
    run_ensemble(options("ensemble", runs=runs, method=method, bootstrap=0, leave_one_out=False), run)
    evaluate(options("evaluate", run=str(run.path), resamples=2, calibration="platt"))
    scaling = fit_scaling(read_predictions(run.predictions("val")), "platt")
    test = read_predictions(run.predictions("test"))
    assert crossed(scaling.apply(test.score)) > 0 and run.metrics()["hierarchy"] == TREE
    assert crossed(read_predictions(run.predictions("test_calibrated")).score) == 0

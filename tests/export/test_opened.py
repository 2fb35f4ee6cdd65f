"""A run or an ensemble scores images as it did when it was made."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.cli.entry import run as start
from cxr.data.sources.inputs import list_images
from cxr.errors import CxrError
from cxr.export.opened import open_run
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.use.files import Inputs, score_files
from tests.export.conftest import METHODS, Runs

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["a", "b", *METHODS])
def test_test_images_get_the_scores_of_the_run(runs: Runs, name: str, tmp_path: Path) -> None:
    stored = read_predictions(runs[name].predictions("test"))
    table = runs.data / "Data_Entry_2017.csv"
    rows = pd.read_csv(table).set_index("Image Index").loc[list(stored.image)].reset_index()
    rows.to_csv(tmp_path / "films.csv", index=False)
    out = tmp_path / "out.parquet"
    opened = open_run(str(runs[name].path))
    inputs = Inputs(*list_images(str(tmp_path / "films.csv"), str(runs.data)))
    assert score_files(opened.model(CPU), inputs, out, batch_size=5) == 0
    found = pd.read_parquet(out)
    assert found["image"].tolist() == list(stored.image) and set(found["model"]) == {opened.system.model}
    points = json.loads(runs[name].metrics_path.read_text())["test"]["operating_points"]
    for column, finding in enumerate(stored.findings):
        score = stored.score[:, column]
        np.testing.assert_allclose(found[f"score:{finding}"], score, atol=1e-6, rtol=0)
        for point, at in points.items():
            cut = at["threshold"][finding]
            clear = np.abs(score - cut) > 1e-6
            assert (found[f"call:{point}:{finding}"] == (score >= cut))[clear].all()
    assert len(points) == 5


def test_a_run_is_identified_by_its_weights_and_an_ensemble_by_weights_and_rule(runs: Runs) -> None:
    known = [json.loads(runs[name].metrics_path.read_text())["checkpoint_sha256"] for name in ("a", "b")]
    assert [open_run(str(runs[name].path)).system.model for name in ("a", "b")] == known
    different = ("weighted", "geometric", "max_vote", "hard_vote")
    assert len({open_run(str(runs[name].path)).system.model for name in different}) == len(different)


def test_calibrated_scores_are_those_of_the_run_or_fitted_on_validation(runs: Runs, tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    shutil.copytree(runs["a"].path, run.path)
    fitted = open_run(str(run.path)).system.scaling
    assert fitted is not None and fitted.method == "platt"
    own = fitted.as_plain() | {"method": "temperature", "slope": [2.0] * 3, "intercept": [0.0] * 3, "identity": []}
    (run.path / "calibration.json").write_text(json.dumps(own))
    calibrated = open_run(str(run.path)).system.calibrate(np.full((1, 3), 0.8, np.float32))
    assert calibrated is not None and calibrated[0].tolist() == pytest.approx([16 / 17] * 3)  # odds of 4, squared
    (run.path / "calibration.json").write_text("{")
    with pytest.raises(CxrError, match=r"calibration.json is not JSON"):
        open_run(str(run.path))
    (run.path / "calibration.json").unlink()
    run.predictions("val").unlink()
    assert open_run(str(run.path)).system.scaling is None


@pytest.mark.parametrize("name", ["weighted", "stacking"])
def test_an_ensemble_can_be_opened_after_it_was_evaluated(
    runs: Runs, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / name)
    shutil.copytree(runs[name].path, run.path)
    before = open_run(str(run.path)).system
    monkeypatch.setattr("cxr.evaluation.run.draw", lambda *arguments, **options: None)
    monkeypatch.setattr("sys.argv", ["cxr"])
    assert start("evaluate", [f"run={run.path}", "resamples=2", "localisation=false"]) == 0
    assert "intervals" in run.metrics()["test"]
    after = open_run(str(run.path)).system
    assert (after.model, after.rule, after.members) == (before.model, before.rule, before.members)


def test_an_ensemble_is_refused_without_the_members_that_made_it(runs: Runs, tmp_path: Path) -> None:
    run = Run(tmp_path / "weighted")
    shutil.copytree(runs["weighted"].path, run.path)
    metrics = json.loads(run.metrics_path.read_text())
    a, b = metrics["checkpoint_sha256"]
    changed = metrics | {"checkpoint_sha256": {a: metrics["checkpoint_sha256"][b], b: metrics["checkpoint_sha256"][b]}}
    run.metrics_path.write_text(json.dumps(changed))
    with pytest.raises(CxrError, match=r"/a has other weights than .*weighted was made from"):
        open_run(str(run.path))
    run.metrics_path.write_text(json.dumps(metrics).replace("/runs/b", "/runs/gone"))
    with pytest.raises(CxrError, match=r"gone/checkpoints/best.ckpt is missing, and .*weighted was made from it"):
        open_run(str(run.path))
    run.metrics_path.write_text(json.dumps(metrics | {"checkpoint_sha256": {"runs/gone": "0"}}))
    with pytest.raises(CxrError, match=r"restore that run, or start in the folder that has it"):
        open_run(str(run.path))
    run.metrics_path.write_text(json.dumps(metrics | {"weights": {}}))
    with pytest.raises(CxrError, match=r"metrics.json lacks weights of 'Effusion'"):
        open_run(str(run.path))


def test_ranks_are_refused_since_they_need_a_whole_split(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs["max_vote"].path, tmp_path / "ranks")
    config = tmp_path / "ranks" / "config.yaml"
    config.write_text(config.read_text().replace("combine.MaxVote", "combine.RankAverage"))
    with pytest.raises(CxrError, match="RankAverage, which ranks an image among all images of a split"):
        open_run(str(tmp_path / "ranks"))
    config.write_text(config.read_text().replace("cxr.ensemble.combine.RankAverage", "os.system"))
    with pytest.raises(CxrError, match=r"os.system, which is not known here"):
        open_run(str(tmp_path / "ranks"))


def test_what_is_no_finished_run_is_refused(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="is not a directory"):
        open_run(str(tmp_path / "absent"))
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(CxrError, match=r"has no checkpoints/best.ckpt and is not an ensemble"):
        open_run(str(tmp_path))

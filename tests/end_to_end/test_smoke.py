"""Smoke runs: they try that all works, and no result, ensemble or comparison comes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.cli.evaluate import evaluate
from cxr.ensemble.members import expand
from cxr.errors import CxrError
from cxr.evaluation.compare import compare_runs
from cxr.run.directory import Run
from cxr.run.smoke import is_smoke, scores_test

ONE = ("trainer.max_epochs=1", "backbone=resnet10")


@pytest.mark.parametrize("option", ["fast_dev_run=true", pytest.param("overfit_batches=2", marks=pytest.mark.slow)])
def test_a_smoke_run_is_marked_and_never_sees_test(train: Callable[..., Any], here: Path, option: str) -> None:
    result = train(*ONE, "name=a", f"+trainer.{option}", "logger=tensorboard")
    assert result.code == 0, result.err
    assert "smoke run" in result.out
    run = here / "runs" / "a"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["smoke"] is True and "test" not in metrics and metrics["val"]["n"] > 0
    assert metrics["val"]["operating_points"]["youden"] and "score_test=false" not in result.out
    assert OmegaConf.load(run / "config.yaml").smoke is True
    assert [path.name for path in (run / "predictions").iterdir()] == ["val.parquet"]
    assert not (here / "runs" / ".test_ledger.csv").exists() and not list(run.glob("*/*_test*"))
    again = train("name=a", "resume=true", plain=True)
    assert again.code == 0 and "runs/a is finished" in again.out


def finished(path: Path, **trainer: Any) -> Path:
    """The files by which a finished run is found; its numbers would be read later."""
    for name in ("checkpoints/best.ckpt", "metrics.json", "predictions/test.parquet", "predictions/val.parquet"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")
    OmegaConf.save({"seed": 0, "trainer": {"max_epochs": 1, **trainer}}, path / "config.yaml")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        finished(tmp_path / name, fast_dev_run=False)
    finished(tmp_path / "tried", fast_dev_run=3)
    finished(tmp_path / "tried-too", overfit_batches=0.5)
    return tmp_path


def test_a_glob_of_an_ensemble_passes_over_smoke_runs_and_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expand(f"{runs}/*") == [str(runs / "a"), str(runs / "b")]
    assert f"2 smoke runs left out: {runs}/tried, {runs}/tried-too" in capsys.readouterr().out
    with pytest.raises(CxrError, match="tried is a smoke run"):
        expand([str(runs / "a"), str(runs / "tried")])


def test_a_comparison_passes_over_smoke_runs_and_says_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"split": "val", "metric": "auroc", "resamples": 10, "seed": 0, "out": None}
    with pytest.raises(CxrError, match=r"a/predictions/val\.parquet"):  # the first that is read: it is no Parquet file
        compare_runs({**options, "runs": f"{runs}/*"})
    assert "2 smoke runs left out" in capsys.readouterr().out
    with pytest.raises(CxrError, match="tried is a smoke run"):
        compare_runs({**options, "runs": [str(runs / "tried")]})


def test_an_evaluation_of_a_smoke_run_is_refused(runs: Path) -> None:
    with pytest.raises(CxrError, match="tried is a smoke run"):
        evaluate({"run": str(runs / "tried"), "resamples": 10, "seed": 0})


def test_what_makes_a_smoke_run(tmp_path: Path) -> None:
    assert is_smoke({"trainer": {"fast_dev_run": 2}}) and is_smoke({"trainer": {"overfit_batches": 1}})
    for trainer in ({}, {"fast_dev_run": False}, {"overfit_batches": 0.0}, {"limit_train_batches": 0.1}, None):
        assert not is_smoke({"trainer": trainer})
    assert scores_test({}) and scores_test({"score_test": True}) and not scores_test({"score_test": False})
    assert not scores_test({"score_test": True, "trainer": {"fast_dev_run": 1}})
    (tmp_path / "config.yaml").write_text("a: [")
    assert not Run(tmp_path).smoke and not Run(tmp_path / "nosuch").smoke

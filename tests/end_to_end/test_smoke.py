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
from cxr.training.log import read_log

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


@pytest.mark.parametrize("option", ["fast", "overfit", "profile"])
def test_a_debug_run_is_a_smoke_run_and_shows_what_it_is_for(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    result = train(f"debug={option}", "backbone=resnet10", "synthetic_batch_size=32", "early_stopping.patience=1")
    assert result.code == 0 and "smoke run" in result.out, result.err
    run = here / "runs" / f"debug-{option}"
    metrics, config = json.loads((run / "metrics.json").read_text()), OmegaConf.load(run / "config.yaml")
    assert metrics["smoke"] is True and "test" not in metrics and config.smoke is True and config.score_test is False
    assert [path.name for path in (run / "predictions").iterdir()] == ["val.parquet"]
    assert not (here / "runs" / ".test_ledger.csv").exists()
    log = read_log(run / "metrics.csv")
    if option == "fast":
        assert len(log) == 1 and metrics["epochs"] == 1 and metrics["steps"] == 1
    if option == "overfit":
        assert len(log) < 40, "a value on the command line comes after those of debug"
    table = run / "profile.txt"
    assert table.exists() == (option == "profile")
    if option == "profile":
        rows = {cells[1].strip(): cells[3].strip() for line in table.read_text().splitlines()
                if len(cells := line.split("|")) > 4}  # fmt: skip
        assert int(rows["run_training_batch"]) == -(-metrics["train"]["n"] // 16)
    with pytest.raises(CxrError, match=rf"debug-{option} is a smoke run \(debug="):
        evaluate({"run": str(run), "resamples": 10, "seed": 0})


@pytest.mark.slow
def test_a_network_learns_the_few_images_of_overfit_by_heart(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("debug=overfit", "experiment=demo", "image_size=32").code == 0
    log = read_log(here / "runs" / "debug-overfit" / "metrics.csv")
    assert len(log) == 40 and log["train/loss"].iloc[0] > 0.5 and log["train/loss"].iloc[-1] < 0.05
    images = OmegaConf.load(here / "runs" / "debug-overfit" / "config.yaml")
    assert images.sampler.images == 16 and images.trainer.overfit_batches == 5


@pytest.mark.slow
@pytest.mark.parametrize("profiler", ["advanced", "pytorch"])
def test_each_profiler_of_lightning_leaves_its_table(train: Callable[..., Any], here: Path, profiler: str) -> None:
    assert train("debug=profile", f"trainer.profiler={profiler}", "name=a").code == 0
    assert len((here / "runs" / "a" / "profile.txt").read_text()) > 500
    refused = train("debug=profile", "trainer.profiler=nosuch", "name=b")
    assert refused.code == 1 and "it can only be one of" in refused.err and not (here / "runs" / "b").exists()


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


def test_a_glob_of_an_ensemble_skips_and_reports_smoke_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expand(f"{runs}/*") == [str(runs / "a"), str(runs / "b")]
    assert f"2 smoke runs skipped: {runs}/tried, {runs}/tried-too" in capsys.readouterr().out
    with pytest.raises(CxrError, match="tried is a smoke run"):
        expand([str(runs / "a"), str(runs / "tried")])


def test_a_comparison_skips_and_reports_smoke_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"split": "val", "metric": "auroc", "resamples": 10, "seed": 0, "out": None}
    with pytest.raises(CxrError, match=r"a/predictions/val\.parquet"):  # the first that is read: it is no Parquet file
        compare_runs({**options, "runs": f"{runs}/*"})
    assert "2 smoke runs skipped" in capsys.readouterr().out
    with pytest.raises(CxrError, match="tried is a smoke run"):
        compare_runs({**options, "runs": [str(runs / "tried")]})


def test_an_evaluation_of_a_smoke_run_is_refused(runs: Path) -> None:
    with pytest.raises(CxrError, match="tried is a smoke run"):
        evaluate({"run": str(runs / "tried"), "resamples": 10, "seed": 0})


def test_what_makes_a_smoke_run(tmp_path: Path) -> None:
    assert is_smoke({"smoke": True, "trainer": {}}) and is_smoke({"smoke": True})
    assert not is_smoke({"smoke": False, "trainer": {}}) and is_smoke({"smoke": 1})
    assert is_smoke({"trainer": {"fast_dev_run": 2}}) and is_smoke({"trainer": {"overfit_batches": 1}})
    for trainer in ({}, {"fast_dev_run": False}, {"overfit_batches": 0.0}, {"limit_train_batches": 0.1}, None):
        assert not is_smoke({"trainer": trainer})
    assert scores_test({}) and scores_test({"score_test": True}) and not scores_test({"score_test": False})
    assert not scores_test({"score_test": True, "trainer": {"fast_dev_run": 1}})
    (tmp_path / "config.yaml").write_text("a: [")
    assert not Run(tmp_path).smoke and not Run(tmp_path / "nosuch").smoke

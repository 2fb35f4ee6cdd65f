"""Trainings that leave test to `evaluate`, further test splits, and that each set of test scores is counted once."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import cxr.training.catalog as catalogs
from cxr.cli.evaluate import evaluate
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.evaluation.compare import compare_runs
from cxr.run.directory import Run
from cxr.run.ledger import LEDGER
from cxr.run.predictions import Predictions
from tests.evaluation.test_run import options

Program = Callable[..., Any]
ONE = ("trainer.max_epochs=1", "data.split_seed=0", "data.findings=[Infiltration,Effusion,Mass]")
SINGLE = (
    "task=single_label",
    "loss=cross_entropy",
    "data.single_finding=true",
    "data.findings=[Infiltration,Effusion]",
)
UNSCORED = "test was not scored (score_test=false); python -m cxr evaluate run={} scores it"


def metrics(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


def entries(folder: Path) -> list[tuple[str, str]]:
    """The rows of a ledger: whose scores, and the program that entered them."""
    if not (folder / LEDGER).exists():
        return []
    with (folder / LEDGER).open(newline="") as file:
        return [(row["run"], row["by"]) for row in csv.DictReader(file)]


def about_test(run: Path, *names: str) -> list[str]:
    """Files that say something of a test split."""
    found = [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
    marks = ("test", *names)
    return sorted(f for f in found if any(mark in f for mark in marks) or f.startswith(("evaluation", "calibration")))


def judge(run: Path, **given: object) -> float:
    return evaluate(options("evaluate", **{"run": str(run), "resamples": 20, "accelerator": "cpu", **given}))


def scores(run: Path, split: str) -> pd.DataFrame:
    return pd.read_parquet(run / "predictions" / f"{split}.parquet").set_index("image")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folder of a finished run lies that many tests start from."""
    return tmp_path_factory.mktemp("shelf") / "runs"


@pytest.fixture
def left(train: Program, here: Path, shelf: Path) -> Path:
    """A finished run whose test was not scored."""
    if not shelf.exists():
        done = train(*ONE, "name=a", "score_test=false")
        assert done.code == 0 and done.out.splitlines()[-1] == UNSCORED.format("runs/a"), done.err
        shutil.move(here / "runs", shelf)
    shutil.copytree(shelf, here / "runs")
    return here / "runs" / "a"


@pytest.mark.parametrize("task", [(), pytest.param(SINGLE, marks=pytest.mark.slow)])
@pytest.mark.pictures
def test_test_that_is_scored_later_is_worth_what_it_would_have_been(train: Program, here: Path, task: Any) -> None:
    first, second = here / "left" / "a", here / "done" / "a"
    done = train(*ONE, *task, "name=a", "score_test=false", "runs_dir=left")
    assert done.code == 0 and done.out.splitlines()[-1] == UNSCORED.format("left/a"), done.err
    assert about_test(first) == [] and entries(here / "left") == []
    assert train(*ONE, *task, "name=a", "runs_dir=done").code == 0
    before, scored = metrics(first), metrics(second)
    assert "test" not in before and before["val"] == scored["val"] and before["train"] == scored["train"]
    assert set(about_test(second)) >= {"figures/roc_test.png", "figures/attention_test.png", "predictions/test.parquet"}
    assert judge(first, calibration="platt") == judge(second, calibration="platt")
    assert metrics(first) == metrics(second) and set(scored["test"]) <= set(metrics(first)["test"])
    assert about_test(first) == about_test(second)
    for name in about_test(first):
        expected = (second / name).read_bytes().replace(b"in done.", b"in left.")
        assert (first / name).read_bytes() == expected, name
    assert entries(here / "left") == [("a", "evaluate")] and entries(here / "done") == [("a", "train")]
    judge(first)
    assert entries(here / "left") == [("a", "evaluate")]


def test_a_sweep_an_ensemble_and_a_comparison_of_unscored_runs(train: Program, ensemble: Program, here: Path) -> None:
    assert train("-m", *ONE, "optimizer.lr=0.01,0.001", "sweep=s", "score_test=false").code == 0
    sweep = here / "runs" / "s"
    with (sweep / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["test_macro_auroc"] for row in rows] == ["", ""] and all(float(row["val_macro_auroc"]) for row in rows)
    members = [f"runs/s/{row['name']}" for row in rows]
    for given in (members, members[0].replace("s/l", "s/[l]")):
        told = rf"predictions/test\.parquet; python -m cxr evaluate run={members[0]} computes them"
        with pytest.raises(CxrError, match=told):
            compare_runs(options("compare", runs=given, resamples=10))
    assert not (sweep / LEDGER).exists()
    ranked = options("compare", runs=members, resamples=10, split="val", out=str(here / "val"))
    compare_runs(ranked)
    assert "Split: test was not scored (split " in (here / "val.md").read_text()
    assert not list((here / "runs").rglob(LEDGER))
    joined = ensemble("method=average", "runs=runs/s/*", "name=e")
    assert joined.code == 0 and joined.out.count("predicting test with checkpoints/best.ckpt") == 2, joined.err
    assert not list(sweep.rglob("test.parquet"))
    assert sorted(entries(sweep)) == sorted((Path(name).name, "ensemble") for name in members)
    assert entries(here / "runs") == [("e", "ensemble")]
    for name in members:
        judge(here / name)
    assert len(entries(sweep)) == 2
    mean = sum(scores(here / name, "test").filter(like="score:").astype(float) for name in members) / 2
    np.testing.assert_allclose(scores(here / "runs" / "e", "test").filter(like="score:"), mean, atol=1e-6)


def test_a_comparison_reports_which_runs_of_a_glob_it_skips(
    left: Path, phantoms: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("b", "c"):
        shutil.copytree(left, left.with_name(name))
        judge(left.with_name(name), data={"root": str(phantoms)})
    with pytest.raises(CxrError, match="has 1 configuration to compare"):  # two copies of one training
        compare_runs(options("compare", runs="runs/*", resamples=10))
    said = capfd.readouterr().out
    assert "without predictions/test.parquet: runs/a; python -m cxr evaluate run=runs/a computes them" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("calibration=magic", "calibration=magic is unknown"),
        ("points.youden=3", "points.youden=3 must be null"),
        ("resamples=1", "resamples=1 must be"),
    ],
)
def test_a_refused_evaluation_has_not_looked_at_test(
    program: Callable[..., Any], left: Path, given: str, message: str
) -> None:
    before = sorted(left.rglob("*"))
    refused = program("evaluate", f"run={left}", given)
    assert refused.code == 1 and message in refused.err
    assert sorted(left.rglob("*")) == before and not (left.parent / LEDGER).exists()


def test_missing_data_are_an_error_with_a_remedy_and_stored_scores_need_none(
    left: Path, phantoms: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = left / "config.yaml"
    config.write_text(config.read_text().replace(str(phantoms), "/gone/phantom"))
    with pytest.raises(CxrError, match=r"runs/a cannot be scored: its data\.root=/gone/phantom does not exist; pass"):
        judge(left)
    assert about_test(left) == [] and not (left.parent / LEDGER).exists()
    value = judge(left, data={"root": str(phantoms)})
    stored = (left / "predictions" / "test.parquet").read_bytes()
    assert judge(left) == value and (left / "predictions" / "test.parquet").read_bytes() == stored
    assert "attention maps are not evaluated, since the images cannot be read" in capfd.readouterr().out


def test_an_evaluation_waits_for_no_other_process(left: Path) -> None:
    with Run(left).held(), pytest.raises(CxrError, match=r"another process is training or evaluating .*runs/a; wait"):
        judge(left)
    assert about_test(left) == []


@pytest.mark.parametrize(
    "place", ["write_tables", *(pytest.param(p, marks=pytest.mark.slow) for p in ("evaluate", "calibrate", "forest"))]
)
def test_an_evaluation_that_was_killed_is_done_again_and_counts_once(
    left: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"cxr.evaluation.run.{place}", killed)
        judge(left, calibration="platt")
    assert "test" not in metrics(left) and entries(left.parent) == [("a", "evaluate")]
    straight = left.with_name("b")
    shutil.copytree(left, straight, ignore=lambda _, names: [n for n in names if "test" in n or n == "evaluation"])
    for run in (left, straight):
        judge(run, calibration="platt", data={"root": str(phantoms)})
    assert metrics(left) == metrics(straight) and about_test(left) == about_test(straight)
    assert len(entries(left.parent)) == 1  # the same scores


def test_scores_are_in_the_ledger_before_they_are_written(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Predictions, "write", killed)
        judge(left)
    assert entries(left.parent) == [("a", "evaluate")] and about_test(left) == []


def test_a_training_killed_between_predictions_and_metrics_is_not_evaluated_but_resumes(
    train: Program, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cxr.training.finish.evaluate", killed)
        assert train(*ONE, "name=a").code == 130
    run = here / "runs" / "a"
    assert (run / "predictions" / "test.parquet").exists() and entries(run.parent) == [("a", "train")]
    with pytest.raises(CxrError, match=r"runs/a is not finished: .* python -m cxr train name=a resume=true"):
        judge(run)
    assert not (run / "metrics.json").exists()
    assert train("name=a", "resume=true", plain=True).code == 0
    assert judge(run) > 0 and entries(run.parent) == [("a", "train")]


@pytest.mark.pictures
def test_a_resumed_run_may_choose_again_and_keeps_no_scores_of_other_weights(left: Path, train: Program) -> None:
    told = train("name=a", "resume=true", plain=True)
    assert told.code == 0 and told.out.splitlines()[-1] == UNSCORED.format("runs/a")
    judge(left, calibration="platt")
    (left / "figures" / "mine.png").touch()
    longer = train("name=a", "resume=true", "trainer.max_epochs=2", plain=True)
    assert longer.code == 0 and longer.out.splitlines()[-1] == UNSCORED.format("runs/a")
    assert about_test(left) == [] and "test" not in metrics(left) and (left / "figures" / "mine.png").exists()
    scored = train("name=a", "resume=true", "trainer.max_epochs=3", "score_test=true", plain=True)
    assert scored.code == 0 and " test" in scored.out and "not scored" not in scored.out
    assert metrics(left)["test"]["n"] == len(scores(left, "test")) and Run(left).config()["score_test"] is True
    refused = train("name=a", "resume=true", "trainer.max_epochs=4", "seed=3", plain=True)
    assert refused.code == 1 and "seed is 0 in runs/a and cannot become 3" in refused.err


@pytest.mark.slow
def test_a_run_of_an_earlier_version_scores_test(train: Program, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cxr.training.finish.predict", killed)
        train(*ONE, "name=a")
    config = here / "runs" / "a" / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("score_test")))
    assert len(config.read_text().splitlines()) == len(lines) - 1
    assert train("name=a", "resume=true", plain=True).code == 0
    assert "test" in metrics(here / "runs" / "a")


@pytest.mark.parametrize("value", ["null", "no", "1", "0", "''", "[true]"])
def test_only_true_and_false_say_whether_test_is_scored(train: Program, here: Path, value: str) -> None:
    refused = train(*ONE, "name=a", f"score_test={value}")
    assert refused.code == 1 and "error: score_test" in refused.err and not (here / "runs").exists()


@pytest.fixture
def further(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes each second test image a further test split of this name."""
    from cxr.training import assemble, prepare

    real = prepare.read_catalog

    def under(name: str) -> None:
        def read(config: Any) -> Catalog:
            catalog = real(config)
            return replace(catalog, tests={name: tuple(catalog.rows("test")["image"].iloc[::2])})

        for module in (assemble, prepare):
            monkeypatch.setattr(module, "read_catalog", read)

    return under


def test_a_further_test_split_is_evaluated_as_test_is(
    train: Program, here: Path, further: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    further("external")
    first, second = here / "left" / "a", here / "done" / "a"
    done = train(*ONE, "name=a", "runs_dir=done")
    assert done.code == 0 and " test, " in done.out and " external" in done.out.splitlines()[-2], done.err
    frame, test = scores(second, "external"), scores(second, "test")
    assert list(frame.index) == list(test.index[::2])
    pd.testing.assert_frame_equal(frame, test.loc[frame.index])
    said = metrics(second)
    assert list(said)[:4] == ["val", "test", "external", "train"] and said["external"]["n"] == len(frame)
    assert set(said["external"]) == set(said["test"]) | {"split", "localisation"}
    assert said["external"]["split"] == said["split"] == "own patient split"
    for finding, value in said["external"]["auroc"].items():
        target = frame[f"target:{finding}"]
        if 0 < target.sum() < len(target):
            assert value == pytest.approx(roc_auc_score(target, frame[f"score:{finding}"]), abs=1e-6)
        else:
            assert value is None
    for rule, at in said["val"]["operating_points"].items():
        assert said["external"]["operating_points"][rule]["threshold"] == at["threshold"]
    assert entries(here / "done") == [("a", "train")] * 2
    assert train(*ONE, "name=a", "runs_dir=left", "score_test=false").code == 0
    assert about_test(first, "external") == []
    capfd.readouterr()
    for run in (first, second):
        judge(run, calibration="platt")
    out = capfd.readouterr().out
    assert out.count("a, external: ") == out.count("a, test: ") == 2
    assert metrics(first) == metrics(second) and about_test(first, "external") == about_test(second, "external")
    assert entries(here / "left") == [("a", "evaluate")] * 2 and len(entries(here / "done")) == 2
    judged = metrics(first)
    assert set(judged["external"]["subgroups"]) == set(judged["test"]["subgroups"]) and judged["external"]["delong"]
    for name in about_test(first):
        if name != "calibration.json" and "external" not in name:
            folder, _, file = name.partition("/")
            stem, _, kind = file.partition(".")
            twin = f"{stem}_external" if folder == "evaluation" else stem.replace("test", "external")
            assert (first / folder / f"{twin}.{kind}").is_file(), name
    scaling = json.loads((first / "calibration.json").read_text())
    logit = np.log(frame.filter(like="score:").astype(float)) - np.log1p(-frame.filter(like="score:").astype(float))
    expected = 1 / (1 + np.exp(-(np.array(scaling["slope"]) * logit + np.array(scaling["intercept"]))))
    np.testing.assert_allclose(scores(first, "external_calibrated").filter(like="score:"), expected, atol=1e-6)
    before = judged["external"]["calibration"]["before"]["macro_brier"]
    assert before == pytest.approx(judged["external"]["macro_brier"]["value"])
    text = (first / "evaluation" / "auroc_external.md").read_text()
    assert "a, external: " in text and "scored 1 time in left" in text


@pytest.mark.slow
def test_scores_of_all_test_splits_are_made_where_one_process_was_killed_after_the_first(
    train: Program, here: Path, further: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    further("external")
    assert train(*ONE, "name=a", "score_test=false").code == 0
    run, real, left = here / "runs" / "a", Predictions.write, [1]

    def write(self: Predictions, path: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Predictions, "write", write)
        judge(run)
    assert about_test(run, "external") == ["predictions/external.parquet"]
    judge(run)
    assert {"test", "external"} <= set(metrics(run)) and len(entries(run.parent)) == 2


@pytest.mark.parametrize("name", ["split", "versions", "val", "old_calibrated", "a/b"])
def test_a_further_test_split_takes_no_name_of_something_else(
    train: Program, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = catalogs.read_source

    def read(config: Any) -> Catalog:
        catalog = real(config)
        return replace(catalog, tests={name: tuple(catalog.table["image"][:3])})

    monkeypatch.setattr(catalogs, "read_source", read)
    refused = train(*ONE, "name=a")
    assert refused.code == 1 and f"a test split cannot be called '{name}'" in refused.err
    assert not (here / "runs" / "a").exists()

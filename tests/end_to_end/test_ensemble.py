"""Ensembles of runs, recomputed by other code, and members that do not fit together."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.run.predictions import Predictions

FINDINGS = ("Mass", "Nodule", "Hernia")
RUNS = "runs=[runs/a,runs/b,runs/c]"


def make_run(path: Path, seed: int, findings: tuple[str, ...] = FINDINGS, images: int = 60) -> None:
    """A folder of predictions alone, of scores that know a little."""
    rng, truth = np.random.default_rng(seed), np.random.default_rng(99)
    for split in ("val", "test"):
        names = np.array([f"{split}{i:03}.png" for i in range(images)], object)
        target = truth.integers(0, 2, (images, len(findings))).astype(np.float32)
        target[:4, 0] = np.nan
        noise = rng.normal(size=target.shape) + 0.8 * np.nan_to_num(target)
        score = (1 / (1 + np.exp(-noise))).round(2).astype(np.float32)  # rounded, so that there are ties
        order = rng.permutation(images)
        table = Predictions(names[order], names[order], findings, score[order], target[order])
        table.write(path / "predictions" / f"{split}.parquet")


@pytest.fixture
def runs(here: Path) -> Path:
    for seed, name in enumerate("abc"):
        make_run(here / "runs" / name, seed)
    return here / "runs"


def scores(run: Path, split: str) -> pd.DataFrame:
    frame = pd.read_parquet(run / "predictions" / f"{split}.parquet").set_index("image").sort_index()
    return frame[[f"score:{finding}" for finding in FINDINGS]]


def targets(run: Path, split: str) -> pd.DataFrame:
    frame = pd.read_parquet(run / "predictions" / f"{split}.parquet").set_index("image").sort_index()
    return frame[[f"target:{finding}" for finding in FINDINGS]]


def macro(target: pd.DataFrame, score: np.ndarray) -> float:
    areas = []
    for k in range(target.shape[1]):
        truth = target.iloc[:, k].to_numpy()
        known = ~np.isnan(truth)
        areas.append(roc_auc_score(truth[known], score[known, k]))
    return float(np.mean(areas))


@pytest.mark.parametrize("method", ["average", "max_vote", "hard_vote"])
def test_every_vote_is_what_its_members_say(ensemble: Callable[..., Any], runs: Path, method: str) -> None:
    result = ensemble(f"method={method}", RUNS)
    assert result.code == 0, result.err
    for split in ("val", "test"):
        members = [scores(runs / name, split).to_numpy(np.float64) for name in "abc"]
        expected = np.empty_like(members[0])
        for i, k in itertools.product(range(expected.shape[0]), range(expected.shape[1])):
            values = [float(member[i, k]) for member in members]
            votes = {
                "average": sum(values) / 3,
                "max_vote": max(values),
                "hard_vote": sum(v >= 0.5 for v in values) / 3,
            }
            expected[i, k] = votes[method]
        mine = scores(runs / f"ensemble-{method}", split)
        np.testing.assert_allclose(mine.to_numpy(), expected, atol=1e-7)
        metrics = json.loads((runs / f"ensemble-{method}" / "metrics.json").read_text())
        assert metrics[split]["macro_auroc"] == pytest.approx(macro(targets(runs / "a", split), mine.to_numpy()))


def test_shared_weights_are_the_best_of_the_whole_grid(ensemble: Callable[..., Any], runs: Path) -> None:
    result = ensemble("method=weighted", "method.robust=false", RUNS)
    assert result.code == 0, result.err
    run = runs / "ensemble-weighted"
    weights = json.loads((run / "weights.json").read_text())
    assert list(weights) == ["runs/a", "runs/b", "runs/c"] and sum(weights.values()) == pytest.approx(1)
    members = [scores(runs / name, "val").to_numpy(np.float64) for name in "abc"]
    truth = targets(runs / "a", "val")
    best, points = 0.0, 0
    for i, j in itertools.product(range(21), repeat=2):
        if i + j <= 20:
            points += 1
            w = (i / 20, j / 20, (20 - i - j) / 20)
            combined = (w[0] * members[0] + w[1] * members[1] + w[2] * members[2]).astype(np.float32)
            best = max(best, macro(truth, combined))
    best = max(best, macro(truth, np.mean(members, axis=0).astype(np.float32)))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val"]["macro_auroc"] == pytest.approx(best, abs=1e-12)
    landscape = pd.read_csv(run / "landscape.csv")
    assert points == 231 and len(landscape) == points + 1  # equal weights are on no grid of three and step 0.05
    assert landscape["macro_auroc"].max() == pytest.approx(best, abs=1e-12)
    test = sum(weights[f"runs/{name}"] * scores(runs / name, "test").to_numpy(np.float64) for name in "abc")
    np.testing.assert_allclose(scores(run, "test").to_numpy(), test, atol=1e-6)
    table = pd.read_csv(run / "table.csv", index_col=0)
    assert list(table.columns) == ["a", "b", "c", "average", "max vote", "hard vote", "weighted (robust)", "weighted"]
    assert list(table.index) == [*FINDINGS, "macro average"]
    assert table.loc["macro average", "weighted"] == pytest.approx(metrics["test"]["macro_auroc"])
    assert table.loc["macro average", "b"] == pytest.approx(
        macro(targets(runs / "b", "test"), scores(runs / "b", "test").to_numpy())
    )
    text = (run / "table.md").read_text()
    assert "macro average" in result.out and sum(line.startswith("|") for line in text.splitlines()) == 6
    for said in ("own patient split; training patients are unknown", "has been scored 4 times in runs"):
        assert said in text and said in result.out
    assert {path.stem for path in (run / "figures").iterdir()} == {
        "comparison_test", "comparison_val", "landscape", "roc_test", "roc_val",
    }  # fmt: skip


def test_robust_weights_lie_between_equal_and_searched_ones_and_both_stand_in_the_table(
    ensemble: Callable[..., Any], runs: Path
) -> None:
    for name, options in (("robust", ()), ("searched", ("method.robust=false",))):
        assert ensemble(f"name={name}", *options, "bootstrap=0", RUNS).code == 0
    robust, searched = (json.loads((runs / name / "weights.json").read_text()) for name in ("robust", "searched"))
    learnt = json.loads((runs / "robust" / "metrics.json").read_text())["learnt"]["robust"]
    assert 0 <= learnt["share"] < 1 and learnt["gain"] > 0 and learnt["left_out"] == []
    for key in searched:
        assert robust[key] == pytest.approx(1 / 3 + learnt["share"] * (searched[key] - 1 / 3), abs=1e-9)
    tables = [pd.read_csv(runs / name / "table.csv", index_col=0) for name in ("robust", "searched")]
    assert tables[0].columns[-1] == "weighted (robust)" and tables[1].columns[-1] == "weighted"
    pd.testing.assert_frame_equal(tables[0], tables[1][tables[0].columns])


def test_weights_per_finding_are_each_the_best_of_the_grid(ensemble: Callable[..., Any], runs: Path) -> None:
    options = ("method.weights=per_finding", "method.step=0.1", "method.shrinkage=0", "method.robust=false")
    assert ensemble("method=weighted", *options, RUNS).code == 0
    weights = json.loads((runs / "ensemble-weighted" / "weights.json").read_text())
    assert list(weights) == list(FINDINGS)
    members = [scores(runs / name, "val").to_numpy(np.float64) for name in "abc"]
    truth = targets(runs / "a", "val")
    for k, finding in enumerate(FINDINGS):
        known = ~np.isnan(truth.iloc[:, k].to_numpy())

        def area(w: tuple[float, ...], k: int = k, known: np.ndarray = known) -> float:
            mixed = sum(share * member[:, k] for share, member in zip(w, members, strict=True))
            return float(roc_auc_score(truth.iloc[:, k].to_numpy()[known], mixed.astype(np.float32)[known]))

        grid = [(i / 10, j / 10, (10 - i - j) / 10) for i in range(11) for j in range(11 - i)] + [(1 / 3,) * 3]
        assert area(tuple(weights[finding].values())) == pytest.approx(max(map(area, grid)), abs=1e-12)


def test_many_members_are_searched_without_the_whole_grid(ensemble: Callable[..., Any], runs: Path) -> None:
    for seed in range(3, 7):
        make_run(runs / f"m{seed}", seed)
    keys = [*"abc", "m3", "m4", "m5", "m6"]
    result = ensemble("method.robust=false", f"runs=[{','.join(f'runs/{key}' for key in keys)}]")
    assert result.code == 0, result.err
    metrics = json.loads((runs / "ensemble-weighted" / "metrics.json").read_text())
    truth = targets(runs / "a", "val")
    members = [scores(runs / key, "val").to_numpy(np.float64) for key in keys]
    alone = max(macro(truth, member) for member in members)
    assert metrics["val"]["macro_auroc"] > max(alone, macro(truth, np.mean(members, axis=0)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda runs: make_run(runs / "b", 1, ("Mass", "Nodule", "Edema")), "their findings differ in Edema, Hernia"),
        (lambda runs: make_run(runs / "b", 1, images=59), "1 val images are in one of them only, such as val059.png"),
        (lambda runs: shutil.rmtree(runs / "b"), "runs contains runs/b, which is not a run directory"),
        (lambda runs: shutil.rmtree(runs / "b" / "predictions"), "runs/b has no checkpoints/best.ckpt and no"),
        (lambda runs: (runs / "b" / "predictions" / "val.parquet").write_text("x"), "cannot be read as predictions"),
        (lambda runs: ((runs / "b/checkpoints").mkdir(), (runs / "b/checkpoints/best.ckpt").write_text("x")),
         "runs/b/checkpoints/best.ckpt is not a readable checkpoint"),
        (lambda runs: (runs / "ensemble-weighted").mkdir(), "runs/ensemble-weighted exists; choose another name="),
    ],
)  # fmt: skip
def test_members_that_do_not_fit_are_refused_in_one_sentence(
    ensemble: Callable[..., Any], runs: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(runs)
    before = sorted(path.name for path in runs.iterdir())
    result = ensemble("method=weighted", RUNS)
    assert result.code == 1 and message in result.err and len(result.err.strip().splitlines()) == 1
    assert sorted(path.name for path in runs.iterdir()) == before


def test_other_labels_are_refused(ensemble: Callable[..., Any], runs: Path) -> None:
    path = runs / "c" / "predictions" / "test.parquet"
    frame = pd.read_parquet(path)
    frame.loc[7, "target:Nodule"] = 1 - frame.loc[7, "target:Nodule"]
    frame.to_parquet(path)
    assert "the labels of their test images differ" in ensemble(RUNS).err


@pytest.mark.parametrize("given", ["runs=runs/a", "runs='runs/nosuch*'", "runs=[runs/a,runs/a]", "method.step=0.3"])
def test_mistakes_on_the_command_line_are_one_sentence(ensemble: Callable[..., Any], runs: Path, given: str) -> None:
    result = ensemble(*([given] if given.startswith("runs") else [given, RUNS]))
    assert result.code == 1 and result.err.startswith("error: ") and len(result.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_predictions_are_made_again_where_the_stored_ones_are_not_the_checkpoints(
    train: Callable[..., Any], ensemble: Callable[..., Any], here: Path
) -> None:
    for seed in (0, 1):
        assert train("trainer.max_epochs=1", f"name=s{seed}", f"seed={seed}", "data.split_seed=0").code == 0
    own = scores(here / "runs" / "s0", "test")
    shutil.copy(here / "runs" / "s1" / "predictions" / "test.parquet", here / "runs" / "s0" / "predictions")
    stranger = scores(here / "runs" / "s0", "test")
    result = ensemble("method=average", "runs='runs/s*'")
    assert result.code == 0, result.err
    assert "runs/s0: predicting test with checkpoints/best.ckpt" in result.out
    expected = (own.to_numpy(np.float64) + stranger.to_numpy(np.float64)) / 2
    np.testing.assert_allclose(scores(here / "runs" / "ensemble-average", "test").to_numpy(), expected, atol=1e-6)
    other = train("trainer.max_epochs=1", "name=x", "data.split_seed=5")
    assert other.code == 0
    refused = ensemble("method=average", "runs=[runs/s0,runs/x]", "name=y")
    assert refused.code == 1 and "cannot be one ensemble" in refused.err


@pytest.mark.parametrize("method", ["rank_average", "geometric", "greedy", "stacking"])
def test_every_other_method_leaves_a_whole_run(ensemble: Callable[..., Any], runs: Path, method: str) -> None:
    result = ensemble(f"method={method}", "bootstrap=10", RUNS)
    assert result.code == 0, result.err
    run = runs / f"ensemble-{method}"
    metrics = json.loads((run / "metrics.json").read_text())
    mine = scores(run, "test").to_numpy()
    assert metrics["test"]["macro_auroc"] == pytest.approx(macro(targets(runs / "a", "test"), mine))
    assert (run / "coefficients.json").exists() == (method == "stacking")
    assert (run / "weights.json").exists() == (method in ("geometric", "greedy"))
    assert (run / "landscape.csv").exists() == (method == "greedy")
    table = pd.read_csv(run / "overfitting.csv")
    assert set(table["part"]) == {"gap", "left out"} | ({"weight"} if method == "greedy" else set())
    label = {"greedy": "greedy (robust)"}.get(method, method.replace("_", " "))
    gap = table[(table["part"] == "gap") & (table["model"] == label)].iloc[0]
    expected = metrics["val"]["macro_auroc"] - metrics["test"]["macro_auroc"]
    assert gap["gap"] == pytest.approx(expected, abs=1e-9)
    assert f"validation - test macro AUROC: {label} {expected:+.4f}" in result.out


def test_overfitting_is_reported_in_the_terminal_in_a_table_and_in_metrics(
    ensemble: Callable[..., Any], runs: Path
) -> None:
    result = ensemble("method=weighted", "method.weights=per_finding", "bootstrap=20", RUNS)
    assert result.code == 0, result.err
    run = runs / "ensemble-weighted"
    metrics = json.loads((run / "metrics.json").read_text())
    moved = metrics["overfitting"]["weights"]
    assert metrics["overfitting"]["resamples"] == 20 and len(moved) == 3 * len(FINDINGS)
    weights = json.loads((run / "weights.json").read_text())
    for row in moved:
        assert row["weight"] == pytest.approx(weights[row["finding"]][f"runs/{row['member']}"], abs=1e-9)
        assert row["low"] <= row["high"] and row["sd"] >= 0
    assert [row["member"] for row in metrics["overfitting"]["left_out"]] == ["a", "b", "c"]
    positives = metrics["val"]["positives"]
    warning = f"Mass {positives['Mass']}, Nodule {positives['Nodule']}, Hernia {positives['Hernia']}"
    assert warning in result.out and any(warning in said for said in metrics["warnings"])
    assert metrics["learnt"]["shrinkage"] == 50 and metrics["learnt"]["positives"] == positives
    assert "weights vary most over 20 resamples" in result.out and "without a member: a " in result.out
    assert "Weights, and their spread over 20 resamples" in (run / "overfitting.md").read_text()


def test_the_report_can_be_left_out(ensemble: Callable[..., Any], runs: Path) -> None:
    result = ensemble("method=weighted", "bootstrap=0", "leave_one_out=false", RUNS)
    assert result.code == 0 and "resamples" not in result.out and "without a member" not in result.out
    assert set(pd.read_csv(runs / "ensemble-weighted" / "overfitting.csv")["part"]) == {"gap"}


def test_a_member_without_a_checkpoint_is_named_as_such(ensemble: Callable[..., Any], runs: Path) -> None:
    result = ensemble("method=average", RUNS)
    assert result.out.count("has no checkpoint: its predictions are used as stored, its training patients are") == 3
    metrics = json.loads((runs / "ensemble-average" / "metrics.json").read_text())
    assert metrics["checkpoint_sha256"] == dict.fromkeys(("runs/a", "runs/b", "runs/c"))
    assert set(metrics["training_patients"].values()) == {"unknown"}
    assert metrics["patient_disjoint"] is True and metrics["patients_in_val_and_test"] == 0


def test_a_split_that_shares_patients_gives_a_warning(ensemble: Callable[..., Any], runs: Path) -> None:
    for name in "abc":
        for split in ("val", "test"):
            path = runs / name / "predictions" / f"{split}.parquet"
            frame = pd.read_parquet(path)
            frame["patient"] = frame["image"].str.removeprefix(split)
            frame.to_parquet(path)
    result = ensemble("method=average", RUNS)
    assert result.code == 0, result.err
    assert "WARNING: NOT patient-disjoint: validation and test share 60 patients, such as 000.png" in result.out
    metrics = json.loads((runs / "ensemble-average" / "metrics.json").read_text())
    assert metrics["patient_disjoint"] is False and metrics["patients_in_val_and_test"] == 60
    assert metrics["warnings"][0].startswith("NOT patient-disjoint")


def test_other_objectives_are_searched_and_drawn(ensemble: Callable[..., Any], runs: Path) -> None:
    for objective, column in (("average_precision", "macro_average_precision"), ("brier", "macro_brier")):
        result = ensemble(
            f"method.objective={objective}", "method.robust=false", "bootstrap=5", f"name={objective}", RUNS
        )
        assert result.code == 0, result.err
        landscape = pd.read_csv(runs / objective / "landscape.csv")
        best = landscape.loc[landscape[column].idxmax(), ["a", "b", "c"]]
        weights = json.loads((runs / objective / "weights.json").read_text())
        assert best.tolist() == pytest.approx(list(weights.values()))
        assert (runs / objective / "figures" / "landscape.png").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("method.search=gradient", "choose grid, greedy, coordinate, differential_evolution"),
        ("method.objective=auc", "choose macro_auroc, average_precision, brier"),
        ("method.step=-0.05", "method.step=-0.05 must be above 0"),
        ("bootstrap=-1", "bootstrap=-1 must be 0 or a positive whole number"),
        ("leave_one_out=maybe", "leave_one_out=maybe must be true or false"),
        ("runs=[runs/a]", "an ensemble needs at least two runs"),
    ],
)
def test_unknown_values_are_refused_with_the_valid_ones(
    ensemble: Callable[..., Any], runs: Path, given: str, said: str
) -> None:
    result = ensemble(*([] if given.startswith("runs") else [RUNS]), given)
    assert result.code == 1 and said in result.err and len(result.err.strip().splitlines()) == 1
    assert sorted(path.name for path in runs.iterdir()) == ["a", "b", "c"]


def test_what_a_killed_process_left_in_the_folder_of_runs_is_removed_by_the_next_ensemble(
    ensemble: Callable[..., Any], runs: Path, environment: dict[str, str]
) -> None:
    program = (
        "import os; from pathlib import Path; from cxr.files.writing import staged\n"
        "with staged(Path('runs/e')) as folder: (folder / '.members').mkdir(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=60)
    assert len(list(runs.glob(".*/.members"))) == 1
    assert ensemble("method=average", RUNS, "name=f", "bootstrap=0").code == 0
    assert [path.name for path in runs.glob(".*") if path.name.startswith(".making")] == []

"""`evaluate` and `compare` on folders of predictions, recomputed with scikit-learn and plain loops."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn import metrics as sk

from cxr.cli import conf_dir
from cxr.cli.evaluate import evaluate
from cxr.errors import CxrError
from cxr.evaluation.compare import compare_runs
from cxr.run.predictions import Predictions, read_predictions

FINDINGS = ("Mass", "Nodule", "Hernia")


def make_run(
    path: Path, seed: int, signal: float = 1.0, images: int = 240, findings: tuple[str, str, str] = FINDINGS
) -> Path:
    """Predictions of patients with several images, some labels unknown, scores with ties."""
    for split in ("val", "test"):
        truth, rng = np.random.default_rng(len(split)), np.random.default_rng([seed, len(split)])
        owner = np.sort(truth.integers(0, images // 3, images))
        target = (truth.random((images, 3)) < [0.3, 0.2, 0.1]).astype(np.float32)
        target[:4, 0] = np.nan
        score = 1 / (1 + np.exp(-(rng.normal(size=target.shape) + signal * np.nan_to_num(target) - 1)))
        known = pd.DataFrame(
            {"age": truth.uniform(5, 95, images), "followup": truth.integers(0, 2, images).astype(float),
             "sex": truth.choice(["F", "M", ""], images), "view": truth.choice(["PA", "AP"], images)}
        )  # fmt: skip
        names = np.array([f"{split}{k:04}.png" for k in range(images)], object)
        patients = np.array([f"{split}-{k}" for k in owner], object)
        made = Predictions(names, patients, findings, score.round(2).astype(np.float32), target, "", split, known)
        made.write(path / "predictions" / f"{split}.parquet")
    return path


def options(program: str, **given: object) -> dict[str, Any]:
    """The defaults of a program with these values."""
    saved = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{program}.yaml"))
    assert isinstance(saved, dict)
    return {str(key): value for key, value in saved.items() if key not in ("defaults", "hydra")} | given


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = make_run(tmp_path_factory.mktemp("p") / "runs" / "a", 1)
    evaluate(options("evaluate", run=str(run), resamples=200, calibration="platt"))
    return run, json.loads((run / "metrics.json").read_text())


def columns(run: Path, split: str, finding: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known targets and scores of a finding, and which rows they are."""
    p = read_predictions(run / "predictions" / f"{split}.parquet")
    known = ~np.isnan(p.target[:, finding])
    return p.target[known, finding], p.score[known, finding], known


def test_values_are_those_of_scikit_learn(evaluated: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = evaluated
    for split in ("val", "test"):
        found: dict[str, list[float]] = {"auroc": [], "average_precision": [], "brier": []}
        for k, name in enumerate(FINDINGS):
            target, score, _ = columns(run, split, k)
            expected = {
                "auroc": sk.roc_auc_score(target, score),
                "average_precision": sk.average_precision_score(target, score),
                "brier": sk.brier_score_loss(target, score),
            }
            for key, value in expected.items():
                told = metrics[split][key][name]
                assert told["value"] == pytest.approx(value, abs=1e-6)
                assert told["ci"][0] < told["value"] < told["ci"][1]
                found[key].append(value)
        for key, values in found.items():
            assert metrics[split][f"macro_{key}"]["value"] == pytest.approx(np.mean(values), abs=1e-6)


def test_thresholds_come_from_validation_and_rates_from_test(evaluated: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = evaluated
    for k, name in enumerate(FINDINGS):
        target, score, _ = columns(run, "val", k)
        gains = {t: (score[target == 1] >= t).mean() - (score[target == 0] >= t).mean() for t in np.unique(score)}
        points = metrics["test"]["operating_points"]
        threshold = points["youden"]["threshold"][name]
        assert gains[np.float32(threshold)] == pytest.approx(max(gains.values()))
        keeping = points["sensitivity"]["threshold"][name]
        assert (score[target == 1] >= np.float32(keeping)).mean() >= 0.9
        truth, tested, _ = columns(run, "test", k)
        called = tested >= np.float32(threshold)
        assert points["youden"]["sensitivity"][name]["value"] == pytest.approx(sk.recall_score(truth, called))
        assert points["youden"]["ppv"][name]["value"] == pytest.approx(sk.precision_score(truth, called))
        assert points["youden"]["mcc"][name]["value"] == pytest.approx(sk.matthews_corrcoef(truth, called))


def test_subgroups_contain_the_images_of_their_name(evaluated: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = evaluated
    p = read_predictions(run / "predictions" / "test.parquet")
    assert p.attributes is not None
    divisions = metrics["test"]["subgroups"]
    assert set(divisions) == {"sex", "age", "view", "followup", "findings"}
    women = (p.attributes["sex"] == "F").to_numpy()
    told = divisions["sex"]["groups"]["F"]
    assert told["n"] == women.sum() and told["patients"] == len(set(p.patient[women]))
    target, score, known = columns(run, "test", 1)
    there = women[known]
    assert told["auroc"]["Nodule"]["value"] == pytest.approx(sk.roc_auc_score(target[there], score[there]))
    areas = [group["auroc"]["Nodule"]["value"] for group in divisions["sex"]["groups"].values()]
    assert divisions["sex"]["auroc_gap"]["Nodule"] == pytest.approx(max(areas) - min(areas))
    assert divisions["sex"]["unknown"] == (p.attributes["sex"] == "").sum()


def test_calibration_is_fitted_on_validation_saved_and_applied(evaluated: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = evaluated
    scaling = json.loads((run / "calibration.json").read_text())
    before = read_predictions(run / "predictions" / "test.parquet").score.astype(float)
    after = read_predictions(run / "predictions" / "test_calibrated.parquet").score
    logit = np.log(before) - np.log1p(-before)
    expected = 1 / (1 + np.exp(-(np.array(scaling["slope"]) * logit + np.array(scaling["intercept"]))))
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert metrics["calibration"]["after"]["macro_brier"] < metrics["calibration"]["before"]["macro_brier"]


def test_every_table_states_its_split_and_how_often_it_was_scored(evaluated: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = evaluated
    tables = sorted((run / "evaluation").glob("*.md"))
    assert {path.stem for path in tables} == {"auroc", "operating_points", "subgroups", "calibration"}
    for path in tables:
        text = path.read_text()
        assert "own patient split; training patients are unknown" in text
        assert "This test split has been scored 1 time in runs" in text
        assert len(pd.read_csv(path.with_suffix(".csv"))) and r"\bottomrule" in path.with_suffix(".tex").read_text()
    assert metrics["split"] == "own patient split"
    drawn = {path.name for path in (run / "figures").iterdir()}
    assert {"intervals_test.png", "reliability_test.png", "precision_recall_test.png", "subgroups_test.png"} == drawn


def test_test_scores_in_place_of_validation_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a", 1)
    shutil.copy(run / "predictions" / "test.parquet", run / "predictions" / "val.parquet")
    with pytest.raises(CxrError, match="chosen on validation only"):
        evaluate(options("evaluate", run=str(run)))
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calibration": "magic"}, "calibration=magic is unknown; choose none, temperature or platt"),
        ({"points": {"luck": None}}, "operating point 'luck' is unknown"),
        ({"run": "nowhere"}, "run=nowhere is not a directory"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(
    tmp_path: Path, given: Mapping[str, Any], message: str
) -> None:
    run = make_run(tmp_path / "runs" / "a", 1, images=60)
    with pytest.raises(CxrError, match=message):
        evaluate(options("evaluate", **{"run": str(run), "resamples": 20, **given}))
    assert not (run / "metrics.json").exists()


def ranked(tmp_path: Path, *runs: Path, **given: object) -> pd.DataFrame:
    names = [str(run) for run in runs]
    compare_runs(options("compare", **{"runs": names, "resamples": 200, "out": str(tmp_path / "out"), **given}))
    return pd.read_csv(tmp_path / "out.csv")


def test_runs_are_ranked_and_differences_are_tested_against_noise(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "runs" / name, k, signal)
        for k, (name, signal) in enumerate([("a", 1.5), ("b", 1.45), ("c", 0.2)])
    ]
    frame = ranked(tmp_path, *runs)
    order = sorted(runs, key=lambda run: -np.mean([sk.roc_auc_score(*columns(run, "test", k)[:2]) for k in range(3)]))
    assert frame["configuration"].tolist() == [f"{rank + 1}. {run.name}" for rank, run in enumerate(order)]
    assert frame["verdict"].tolist() == ["best", "within noise", "beyond noise"]
    assert frame["macro_auroc"][0] == pytest.approx(
        np.mean([sk.roc_auc_score(*columns(order[0], "test", k)[:2]) for k in range(3)])
    )
    assert frame["difference_to_best"][2] == pytest.approx(frame["macro_auroc"][2] - frame["macro_auroc"][0])
    assert (frame["difference_to_best_low"][2], frame["p_holm"][2]) < (0, 0.05)


def test_two_runs_are_compared_by_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranked(tmp_path, make_run(tmp_path / "runs" / "a", 0, 1.5), make_run(tmp_path / "runs" / "b", 1, 0.2))
    frame = pd.read_csv(tmp_path / "out-findings.csv", index_col=0)
    assert list(frame.index) == [*sorted(FINDINGS), "macro average"]
    for name in FINDINGS:
        k = FINDINGS.index(name)
        one, two = (sk.roc_auc_score(*columns(tmp_path / "runs" / run, "test", k)[:2]) for run in "ab")
        assert frame.loc[name, "difference"] == pytest.approx(one - two)
        assert frame.loc[name, "p_holm"] >= frame.loc[name, "p"]
    assert "a minus b" in capsys.readouterr().out


def test_seeds_of_one_configuration_are_one_row(tmp_path: Path) -> None:
    runs = []
    for seed in (0, 1, 2):
        run = make_run(tmp_path / "runs" / f"net-seed-{seed}", seed, 1.5)
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "best.ckpt").touch()
        (run / "config.yaml").write_text(f"seed: {seed}\nname: {run.name}\nbackbone: {{name: net}}\n")
        runs.append(run)
    frame = ranked(tmp_path, *runs, make_run(tmp_path / "runs" / "other", 7, 0.2))
    assert frame["configuration"].tolist() == ["1. net (3 seeds)", "2. other"] and frame["runs"].tolist() == [3, 1]
    values = [np.mean([sk.roc_auc_score(*columns(run, "test", k)[:2]) for k in range(3)]) for run in runs]
    assert frame["macro_auroc"][0] == pytest.approx(np.mean(values))
    assert frame["sd_over_seeds"][0] == pytest.approx(np.std(values, ddof=1))


def test_runs_on_other_images_are_left_out_and_listed(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs" / name, k) for k, name in enumerate("ab")]
    other = make_run(tmp_path / "runs" / "other", 3, images=90)
    assert len(ranked(tmp_path, *runs, other)) == 2
    assert f"Left out, since their test images, patients, findings or labels differ: {other}" in (
        tmp_path / "out.md"
    ).read_text().replace("\\", "")
    with pytest.raises(CxrError, match="give two or more with the same test images"):
        ranked(tmp_path, runs[0], other)


def test_no_result_depends_on_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "runs" / "a", 1)

    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("the renderer broke")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    value = evaluate(options("evaluate", run=str(run), resamples=20))
    assert json.loads((run / "metrics.json").read_text())["test"]["macro_auroc"]["value"] == pytest.approx(value)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
    assert len(said) == 4 and all(line.endswith("cannot be drawn: the renderer broke") for line in said)


def test_a_finding_of_any_name_is_evaluated(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "$5 {x$", 1, findings=("Cost $5 {x$", "$a_{", "_[a]"))
    evaluate(options("evaluate", run=str(run), resamples=20))
    drawn = {path.name for path in (run / "figures").iterdir()}
    assert {"intervals_test.png", "reliability_test.png", "precision_recall_test.png", "subgroups_test.png"} == drawn
    assert r"Cost \$5 \{x\$" in (run / "evaluation" / "auroc.tex").read_text()
    assert "Cost &#36;5 {x&#36;" in (run / "evaluation" / "auroc.md").read_text()

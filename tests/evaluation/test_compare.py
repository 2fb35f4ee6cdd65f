"""Verdicts of `cxr.compare` on folders of predictions: what they count, what they leave out, and how often they err."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.errors import CxrError
from cxr.evaluation.compare import compare_runs
from cxr.run.predictions import Predictions

FINDINGS = ("A", "B")


def write(path: Path, score: np.ndarray, target: np.ndarray, owner: np.ndarray, config: str = "") -> Path:
    """A run with test predictions and, if given, a configuration."""
    names = np.array([f"{k:04}.png" for k in range(len(score))], object)
    made = Predictions(names, owner.astype(str).astype(object), FINDINGS, score.astype(np.float32), target, "", "test")
    made.write(path / "predictions" / "test.parquet")
    if config:
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "best.ckpt").touch()
        (path / "config.yaml").write_text(config)
    return path


def truth(seed: int, images: int = 120, prevalence: tuple[float, float] = (0.3, 0.2)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.random((images, 2)) < prevalence).astype(np.float32), np.arange(images) // 2


def scores(rng: np.random.Generator, target: np.ndarray, quality: float, base: np.ndarray | float = 0.0) -> np.ndarray:
    return 1 / (1 + np.exp(-(quality * target + base + rng.normal(size=target.shape))))


def compared(out: Path, runs: list[Path], resamples: int = 100, **other: str) -> pd.DataFrame:
    options = {"split": "test", "metric": "auroc", **other, "resamples": resamples, "seed": 0, "out": str(out)}
    compare_runs({"runs": [str(run) for run in runs], **options})
    return pd.read_csv(f"{out}.csv")


def sweep(folder: Path, seeds: int, target: np.ndarray, owner: np.ndarray, quality: dict[str, float]) -> list[Path]:
    return [
        write(
            folder / f"{attention}-{seed}", scores(np.random.default_rng([seed, len(attention)]), target, good), target,
            owner, f"seed: {seed}\nattention: {{kind: {attention}}}\nchoices: {{attention: {attention}}}\n",
        )
        for attention, good in quality.items()
        for seed in range(seeds)
    ]  # fmt: skip


def test_rows_of_a_sweep_are_named_by_their_differences_and_count_seeds(tmp_path: Path) -> None:
    frame = compared(tmp_path / "out", sweep(tmp_path, 2, *truth(0), {"location": 2.0, "none": 0.1}))
    assert frame["configuration"].tolist() == ["1. attention=location (2 seeds)", "2. attention=none (2 seeds)"]
    assert (
        frame["noise"].tolist()[1] == "patients and seeds" and "ignores seeds" not in (tmp_path / "out.md").read_text()
    )


def test_the_verdict_on_single_runs_states_that_it_ignores_seeds(tmp_path: Path) -> None:
    target, owner = truth(1)
    frame = compared(tmp_path / "out", sweep(tmp_path, 1, target, owner, {"location": 3.0, "none": 0.1}))
    assert frame["verdict"].tolist() == ["best", "beyond noise"] and frame["noise"][1] == "patients"
    for suffix in (".md", ".tex", "-findings.md"):
        assert "the verdict ignores seeds" in Path(f"{tmp_path / 'out'}{suffix}").read_text()


def test_one_lucky_seed_of_three_is_noise(tmp_path: Path) -> None:
    target, owner = truth(2, images=2000)
    rng, runs = np.random.default_rng(0), []
    for attention, qualities in (("a", (0.2, 1.0, 2.2)), ("b", (0.3, 0.7, 1.2))):
        for seed, quality in enumerate(qualities):
            config = f"seed: {seed}\nattention: {{kind: {attention}}}\n"
            runs.append(write(tmp_path / f"{attention}{seed}", scores(rng, target, quality), target, owner, config))
    frame = compared(tmp_path / "out", runs)
    assert frame["sd_over_seeds"].min() > 0.05 and frame["verdict"].tolist() == ["best", "within noise"]
    single = compared(tmp_path / "two", [runs[2], runs[5]])  # the same two configurations by their best seeds
    assert single["verdict"].tolist() == ["best", "beyond noise"]


def test_single_label_runs_are_ranked_by_balanced_accuracy_on_any_test_split(tmp_path: Path) -> None:
    truth_of = np.random.default_rng(3).random(400) < 0.1
    target, owner = np.stack([truth_of, ~truth_of], axis=1).astype(np.float32), np.arange(400) // 2
    runs = sweep(tmp_path, 1, target, owner, {"location": 3.0, "none": 0.5})
    expected = []
    for run in runs:
        (run / "predictions" / "test.parquet").rename(run / "predictions" / "rare.parquet")
        score = pd.read_parquet(run / "predictions" / "rare.parquet").filter(like="score:").to_numpy()
        expected.append(balanced_accuracy_score(target.argmax(axis=1), score.argmax(axis=1)))
    frame = compared(tmp_path / "out", runs, split="rare", metric="balanced_accuracy")
    assert frame["balanced_accuracy"].to_list() == pytest.approx(expected, abs=1e-4)
    assert frame["verdict"].tolist() == ["best", "beyond noise"]
    several = [write(tmp_path / f"s{k}", np.ones((120, 2)), *truth(0)) for k in range(2)]
    with pytest.raises(CxrError, match="metric=balanced_accuracy needs runs of task=single_label"):
        compared(tmp_path / "other", several, metric="balanced_accuracy")


def test_equal_runs_are_within_noise_and_other_patients_are_other_data(tmp_path: Path) -> None:
    target, owner = truth(3)
    score = scores(np.random.default_rng(0), target, 1.0)
    runs = [write(tmp_path / name, score, target, owner) for name in "ab"]
    other = write(tmp_path / "c", score, target, owner + 1)
    frame = compared(tmp_path / "out", [*runs, other])
    assert len(frame) == 2 and frame["verdict"][1] == "within noise" and frame["p_holm"][1] == 1
    assert "images, patients, findings or labels differ: " + str(other) in (tmp_path / "out.md").read_text()


def test_findings_with_few_patients_are_named_and_not_in_the_macro_average(tmp_path: Path) -> None:
    target, owner = truth(4)
    target[:, 1] = owner < 3
    rng = np.random.default_rng(0)
    runs = [write(tmp_path / name, scores(rng, target, 1.0), target, owner) for name in "ab"]
    frame = compared(tmp_path / "out", runs)
    score = pd.read_parquet(runs[0] / "predictions" / "test.parquet")
    assert roc_auc_score(score["target:A"], score["score:A"]) == pytest.approx(
        frame.set_index("configuration").filter(like="a", axis=0)["macro_auroc"].iloc[0]
    )
    assert "so they are not in the macro average: B (3 positive, 57 negative)" in (tmp_path / "out.md").read_text()
    by_finding = pd.read_csv(tmp_path / "out-findings.csv", index_col=0)
    assert np.isnan(by_finding.loc["B", ["p", "difference_low"]].astype(float)).all()
    assert by_finding.loc["macro average", "difference"] == pytest.approx(by_finding.loc["A", "difference"])


def test_runs_with_too_few_patients_are_ranked_without_a_verdict(tmp_path: Path) -> None:
    target, owner = truth(5, images=8, prevalence=(0.5, 0.5))
    rng = np.random.default_rng(0)
    frame = compared(tmp_path / "out", [write(tmp_path / n, scores(rng, target, 1), target, owner) for n in "ab"])
    assert frame["verdict"].tolist() == ["best", "undetermined"] and frame["p_holm"].isna().all()
    assert "no interval and no verdict" in (tmp_path / "out.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.5), (3, 0.5), (5, 0.5), (3, 0.0)])
def test_equal_networks_are_beyond_noise_2_to_8_percent_of_the_time(tmp_path: Path, seeds: int, spread: float) -> None:
    """Networks share what is hard about an image; their quality varies with the seed by `spread`."""
    rng, count, simulations = np.random.default_rng(seeds), 0, 300
    for simulation in range(simulations):
        target, owner = truth(100 + simulation)
        hard, runs = rng.normal(size=target.shape), []
        for attention in ("a", "b"):
            for seed in range(seeds):
                score = scores(rng, target, 1.2 + spread * rng.normal(), hard)
                config = f"seed: {seed}\nattention: {{kind: {attention}}}\n"
                runs.append(write(tmp_path / f"{simulation}" / f"{attention}{seed}", score, target, owner, config))
        count += compared(tmp_path / "out", runs, resamples=150)["verdict"][1] == "beyond noise"
    assert 0.02 <= count / simulations <= 0.08

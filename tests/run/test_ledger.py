"""The guard: choices see validation only, every look at a test split is counted once, splits are named."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from cxr.errors import CxrError
from cxr.run.ledger import LEDGER, count_test, ledger_beside
from cxr.run.predictions import Predictions, read_predictions
from cxr.run.splits import check_chosen_on_validation, describe_split


def predictions(split: str, images: int = 6, seed: int = 0, patients: list[str] | None = None) -> Predictions:
    rng = np.random.default_rng(seed)
    names = np.array([f"{split}{k}.png" for k in range(images)], object)
    owners = np.array(patients or [f"{split}-{k}" for k in range(images)], object)
    score, target = rng.random((images, 2)).astype(np.float32), np.eye(2, dtype=np.float32)[np.arange(images) % 2]
    return Predictions(names, owners, ("Mass", "Edema"), score, target, split=split)


def test_validation_may_be_chosen_on() -> None:
    check_chosen_on_validation(predictions("val"), predictions("test"), "weights")
    check_chosen_on_validation(replace(predictions("val"), split=""), None, "weights")


def test_test_predictions_are_refused_under_any_name(tmp_path: Path) -> None:
    predictions("test").write(tmp_path / "val.parquet")
    disguised = read_predictions(tmp_path / "val.parquet")
    with pytest.raises(
        CxrError, match="weights may be chosen on validation only; these predictions are of the split t"
    ):
        check_chosen_on_validation(disguised, None, "weights")


def test_images_that_are_also_tested_on_are_refused_even_without_a_label() -> None:
    test = predictions("test")
    some = replace(predictions("val"), split="", image=np.array([*test.image[:2], *"abcd"], object))
    with pytest.raises(CxrError, match=r"2 of its images are test images, such as test0\.png"):
        check_chosen_on_validation(some, test, "thresholds")


def test_a_split_is_described() -> None:
    val, test = predictions("val"), predictions("test")
    assert describe_split(val, test) == "own patient split"
    shared = replace(val, patient=np.array(["test-3", *val.patient[1:]], object))
    assert describe_split(shared, test) == "NOT patient-disjoint: validation and test share 1 patient, such as test-3"


def test_the_published_test_list_is_recognised(shared: Path) -> None:
    names = np.array((shared / "nih_metadata" / "test_list.txt").read_text().split(), object)
    target = np.zeros((len(names), 1), np.float32)
    test = Predictions(names[::-1], names, ("Mass",), target, target)
    assert describe_split(predictions("val"), test) == "official NIH split"
    fewer = Predictions(names[1:], names[1:], ("Mass",), target[1:], target[1:])
    assert describe_split(predictions("val"), fewer) == "own patient split"


def test_each_set_of_scores_counts_once(tmp_path: Path) -> None:
    ledger, first, second = tmp_path / LEDGER, predictions("test"), predictions("test", seed=1)
    counts = [count_test(ledger, p, "a", "train") for p in (first, first, second, first, second)]
    assert counts == [1, 1, 2, 2, 2]
    order = [5, 3, 1, 0, 2, 4]
    turned = replace(first.ordered(list(first.image[order])), findings=("Edema", "Mass"))
    turned = replace(turned, score=turned.score[:, ::-1], target=turned.target[:, ::-1])
    assert count_test(ledger, turned, "b", "compare") == 2
    assert count_test(ledger, predictions("test", images=5), "a", "train") == 1  # another split
    frame = pd.read_csv(ledger)
    assert list(frame.columns) == ["time", "test", "scores", "run", "by"] and len(frame) == 3


def test_looks_at_once_are_all_counted(tmp_path: Path) -> None:
    looks = [predictions("test", seed=seed) for seed in range(20)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda p: count_test(tmp_path / LEDGER, p, "a", "train"), looks))
    assert sorted(counts) == list(range(1, 21)) and len(pd.read_csv(tmp_path / LEDGER)) == 20


def test_a_sweeps_runs_share_the_ledger_of_the_project(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "sweep" / "job"
    run.mkdir(parents=True)
    assert ledger_beside(run) == tmp_path / "runs" / "sweep" / LEDGER
    count_test(tmp_path / "runs" / LEDGER, predictions("test"), "x", "train")
    assert ledger_beside(run) == ledger_beside(tmp_path / "runs" / "a") == tmp_path / "runs" / LEDGER


def test_a_damaged_ledger_still_counts(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    count_test(ledger, predictions("test"), "a", "train")
    with ledger.open("ab") as file:
        file.write(b"\xff\xfe half a line")
    assert count_test(ledger, predictions("test", seed=1), "a", "train") >= 1


def test_description_of_a_split_names_ids_that_differ_by_leading_zeros_only() -> None:
    val, test = predictions("val"), predictions("test")
    val.patient[0], test.patient[0] = "007", "7"
    assert describe_split(val, test) == (
        "own patient split; patients 007 and 7 differ only by leading zeros and count as two"
    )


def test_a_ledger_that_is_kept_locked_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.run.ledger._PATIENCE", 0.1)
    with (
        FileLock(tmp_path / f"{LEDGER}.lock"),
        pytest.raises(CxrError, match=r"another process has locked .*\.csv; wait for it"),
    ):
        count_test(tmp_path / LEDGER, predictions("test"), "a", "train")

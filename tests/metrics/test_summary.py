"""The summary of a split against scikit-learn and against hand-made tables."""

import json

import numpy as np
import pytest
from sklearn.metrics import (  # type: ignore[import-untyped]
    average_precision_score,
    brier_score_loss,
    roc_auc_score,
)

from cxr.metrics.bootstrap import bootstrap_auroc
from cxr.metrics.interval import Resampling
from cxr.metrics.summary import summarise
from tests.metrics.random_findings import NAN, findings


def test_summary_of_a_hand_made_split() -> None:
    target = np.array([[1, 0, NAN], [0, 0, NAN], [1, 0, NAN], [NAN, 0, NAN]], np.float32)
    score = np.array([[0.75, 0.25, 0.5], [0.5, 0.5, 0.5], [0.25, 0.125, 0.5], [1.0, 0.0, 0.5]], np.float32)
    expected = {
        "macro_auroc": 0.5,
        "auroc": {"Mass": 0.5, "Hernia": None, "Edema": None},
        "macro_accuracy": pytest.approx((1 / 3 + 3 / 4) / 2),
        "accuracy": {"Mass": pytest.approx(1 / 3), "Hernia": 0.75, "Edema": None},
        "n": 4,
        "positives": {"Mass": 2, "Hernia": 0, "Edema": 0},
        "unknown": {"Mass": 1, "Hernia": 0, "Edema": 4},
        "left_out_of_macro_auroc": ["Hernia", "Edema"],
    }
    summary = summarise(target, score, ["Mass", "Hernia", "Edema"], np.arange(4))
    assert {key: summary[key] for key in expected} == expected


def test_macro_is_the_mean_over_the_defined_findings() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random((300, 3)) < [0.5, 0.1, 0.0]).astype(np.float32)
    score = rng.random((300, 3), np.float32)
    summary = summarise(target, score, ["A", "B", "C"], np.arange(300))
    areas = [roc_auc_score(target[:, k], score[:, k]) for k in range(2)]
    assert summary["macro_auroc"] == pytest.approx(sum(areas) / 2, abs=1e-12)
    assert summary["auroc"] == {"A": pytest.approx(areas[0]), "B": pytest.approx(areas[1]), "C": None}


@pytest.mark.parametrize("target", [np.full((3, 2), NAN), np.zeros((3, 2)), np.zeros((0, 2))])
def test_summary_is_json_without_nan(target: np.ndarray) -> None:
    summary = summarise(target, np.zeros_like(target), ["A", "B"], np.arange(len(target)))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["macro_auroc"] is None and summary["left_out_of_macro_auroc"] == ["A", "B"]


def test_number_of_names_must_be_that_of_the_columns() -> None:
    with pytest.raises(ValueError):
        summarise(np.zeros((2, 2)), np.zeros((2, 2)), ["A"], np.arange(2))


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    target, score, patient = findings(0, prevalence=(0.5, 0.1, 0.0))
    target[:, 2] = 0
    return target, score, patient


def test_summary_agrees_with_scikit_learn() -> None:
    target, score, patient = split()
    summary = summarise(target, score, ["A", "B", "C"], patient)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    seen = ~np.isnan(target)
    precision = [average_precision_score(target[seen[:, k], k], score[seen[:, k], k]) for k in range(2)]
    squares = [brier_score_loss(target[seen[:, k], k], score[seen[:, k], k]) for k in range(2)]
    assert summary["average_precision"] == {
        "A": pytest.approx(precision[0]),
        "B": pytest.approx(precision[1]),
        "C": None,
    }
    assert summary["macro_average_precision"] == pytest.approx(np.mean(precision))
    assert summary["brier"]["A"] == pytest.approx(squares[0]) and summary["brier"]["B"] == pytest.approx(squares[1])
    assert summary["micro_auroc"] == pytest.approx(roc_auc_score(target[seen], score[seen]), abs=1e-12)
    areas = [roc_auc_score(target[seen[:, k], k], score[seen[:, k], k]) for k in range(2)]
    weights = [(target[:, k] == 1).sum() for k in range(2)]
    assert summary["weighted_auroc"] == pytest.approx(np.average(areas, weights=weights), abs=1e-12)
    assert set(summary["ece"]) == {"A", "B", "C"} and 0 < summary["macro_ece"] < 1


def test_values_with_intervals_are_those_without() -> None:
    target, score, patient = split()
    plan = Resampling(resamples=50)
    summary = summarise(target, score, ["A", "B", "C"], patient, plan)
    values = summarise(target, score, ["A", "B", "C"], patient)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary and set(summary) == {*values, "intervals"}
    for key in ("n", "positives", "unknown", "left_out_of_macro_auroc"):
        assert summary[key] == values[key]
    pairs = [(summary[key], values[key]) for key in summary if key.startswith(("macro_", "micro_", "weighted_"))]
    for key in ("auroc", "accuracy", "average_precision", "brier", "ece"):
        pairs += [(summary[key][name], values[key][name]) for name in "AB"]
    assert len(pairs) == 7 + 10
    for with_ci, alone in pairs:
        assert with_ci["value"] == pytest.approx(alone, abs=1e-12)
        assert with_ci["ci"][0] < alone < with_ci["ci"][1]
    assert summary["auroc"]["C"] is None and summary["average_precision"]["C"] is None
    expected = bootstrap_auroc(target, score, patient, plan)
    assert summary["macro_auroc"]["ci"] == [expected.macro.low, expected.macro.high]
    pooled = bootstrap_auroc(target.reshape(-1, 1), score.reshape(-1, 1), np.repeat(patient, 3), plan).macro
    assert summary["micro_auroc"]["ci"] == [pooled.low, pooled.high]


def test_value_without_an_interval_stays_a_number() -> None:
    target, score = np.array([[0.0], [1.0], [0.0], [1.0]]), np.array([[0.1], [0.8], [0.2], [0.9]], np.float32)
    summary = summarise(target, score, ["A"], [1, 2, 3, 4], Resampling(resamples=20))
    assert summary["auroc"] == {"A": 1.0} and summary["macro_auroc"] == 1.0

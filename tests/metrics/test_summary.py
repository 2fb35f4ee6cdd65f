"""The summary of a split against scikit-learn and against hand-made tables."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.summary import accuracy, summarise

NAN = float("nan")


def test_accuracy_is_that_of_scikit_learn_on_known_targets() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice([0.0, 1.0, NAN], (200, 3), p=[0.6, 0.3, 0.1]).astype(np.float32)
    score = rng.random((200, 3), np.float32)
    expected = []
    for k in range(3):
        known = ~np.isnan(target[:, k])
        expected.append(accuracy_score(target[known, k], np.array([1.0 if s >= 0.5 else 0.0 for s in score[known, k]])))
    np.testing.assert_allclose(accuracy(target, score), expected, atol=1e-12)


def test_score_of_a_half_says_present() -> None:
    target = np.array([[1.0, 0.0]])
    assert accuracy(target, np.array([[0.5, 0.5]], np.float32)).tolist() == [1.0, 0.0]
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert accuracy(target, np.array([[below, below]])).tolist() == [0.0, 1.0]


def test_accuracy_is_nan_where_nothing_is_known() -> None:
    result = accuracy(np.array([[NAN, 1.0], [NAN, NAN]]), np.array([[0.9, 0.9], [0.1, 0.1]]))
    assert np.isnan(result[0]) and result[1] == 1.0


def test_summary_of_a_hand_made_split() -> None:
    target = np.array([[1, 0, NAN], [0, 0, NAN], [1, 0, NAN], [NAN, 0, NAN]], np.float32)
    score = np.array([[0.75, 0.25, 0.5], [0.5, 0.5, 0.5], [0.25, 0.125, 0.5], [1.0, 0.0, 0.5]], np.float32)
    assert summarise(target, score, ["Mass", "Hernia", "Edema"]) == {
        "macro_auroc": 0.5,
        "auroc": {"Mass": 0.5, "Hernia": None, "Edema": None},
        "macro_accuracy": pytest.approx((1 / 3 + 3 / 4) / 2),
        "accuracy": {"Mass": pytest.approx(1 / 3), "Hernia": 0.75, "Edema": None},
        "n": 4,
        "positives": {"Mass": 2, "Hernia": 0, "Edema": 0},
        "unknown": {"Mass": 1, "Hernia": 0, "Edema": 4},
        "left_out_of_macro_auroc": ["Hernia", "Edema"],
    }


def test_macro_is_the_mean_over_the_defined_findings() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random((300, 3)) < [0.5, 0.1, 0.0]).astype(np.float32)
    score = rng.random((300, 3), np.float32)
    summary = summarise(target, score, ["A", "B", "C"])
    areas = [roc_auc_score(target[:, k], score[:, k]) for k in range(2)]
    assert summary["macro_auroc"] == pytest.approx(sum(areas) / 2, abs=1e-12)
    assert summary["auroc"] == {"A": pytest.approx(areas[0]), "B": pytest.approx(areas[1]), "C": None}


@pytest.mark.parametrize("target", [np.full((3, 2), NAN), np.zeros((3, 2)), np.zeros((0, 2))])
def test_summary_is_json_without_nan(target: np.ndarray) -> None:
    summary = summarise(target, np.zeros_like(target), ["A", "B"])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["macro_auroc"] is None and summary["left_out_of_macro_auroc"] == ["A", "B"]


def test_number_of_names_must_be_that_of_the_columns() -> None:
    with pytest.raises(ValueError):
        summarise(np.zeros((2, 2)), np.zeros((2, 2)), ["A"])

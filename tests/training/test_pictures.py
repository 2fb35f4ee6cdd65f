"""Which images a finished run shows, and the pictures that it draws."""

import numpy as np
import pytest

from cxr.run.predictions import Predictions
from cxr.training.pictures import confident, thresholds
from tests.training.conftest import Trained


def made(score: list[list[float]], target: list[list[float]]) -> Predictions:
    names = np.array([f"{k}.png" for k in range(len(score))], object)
    return Predictions(names, names, ("Mass", "Nodule"), np.array(score, np.float32), np.array(target, np.float32))


def test_a_threshold_calls_as_many_images_as_bear_the_finding() -> None:
    nan = float("nan")
    target = [[1, nan], [0, nan], [1, nan], [0, nan], [nan, nan]]
    found = thresholds(made([[0.9, 0.1], [0.8, 0.2], [0.3, 0.3], [0.2, 0.4], [0.99, 0.5]], target))
    assert found.tolist() == pytest.approx([0.8, 0.5]), "of known images two; nothing is known of the second finding"
    assert ((np.array([0.9, 0.8, 0.3, 0.2]) >= found[0] - 1e-6).sum()) == 2


def test_pairs_are_hits_then_false_alarms_then_misses_each_the_most_confident_first() -> None:
    target = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], np.float32)
    score = np.array([[0.9, 0.7], [0.1, 0.2], [0.6, 0.1], [0.05, 0.05]], np.float32)
    pairs = confident(target, score, np.array([0.5, 0.5], np.float32))
    assert pairs == [(0, 0), (0, 1), (2, 0), (3, 1), (1, 0)]


def test_a_kind_has_at_most_four_pairs_of_different_images_and_findings() -> None:
    score = np.random.default_rng(0).random((40, 6)).astype(np.float32)
    pairs = confident(np.ones((40, 6), np.float32), score, np.zeros(6, np.float32))
    assert len(pairs) == 4 and len({row for row, _ in pairs}) == len({column for _, column in pairs}) == 4
    assert all(score[row, column] == score[:, column].max() for row, column in pairs[:1])


def test_a_finished_run_has_its_pictures(trained: Trained) -> None:
    drawn = {path.stem for path in trained.run.figures.glob("*.png")}
    assert {"prevalence", "cooccurrence", "learning_curves", "roc_val", "roc_test"} <= drawn

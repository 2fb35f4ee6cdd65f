"""Accuracy of findings that exclude each other, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cxr.metrics.single import balanced_accuracy, top1_accuracy


@pytest.mark.parametrize("seed", range(5))
def test_both_accuracies_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, score = rng.integers(0, 4, 60), rng.random((60, 5)).astype(np.float32)  # the fifth finding has no image
    target = np.eye(5, dtype=np.float32)[truth]
    assigned = [max(range(5), key=lambda k: row[k]) for row in score]
    keep = np.isin(assigned, range(4))  # scikit-learn warns of classes that are assigned but absent
    for some in (np.ones(60, bool), keep):
        names = np.array(assigned)[some]
        assert top1_accuracy(target[some], score[some]) == pytest.approx(accuracy_score(truth[some], names))
    expected = balanced_accuracy_score(truth[keep], np.array(assigned)[keep])
    assert balanced_accuracy(target[keep], score[keep]) == pytest.approx(expected)


def test_images_with_an_unknown_finding_are_left_out_and_none_is_undefined() -> None:
    target = np.array([[1, 0], [np.nan, 1]], np.float32)
    score = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert balanced_accuracy(target, score) == top1_accuracy(target, score) == 1
    assert np.isnan(balanced_accuracy(target[1:], score[1:])) and np.isnan(top1_accuracy(target[1:], score[1:]))


@pytest.mark.parametrize("row", [[0, 0], [1, 1]])
def test_an_image_without_exactly_one_finding_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        balanced_accuracy([[1, 0], row], np.zeros((2, 2)))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        top1_accuracy([[1, 0]], [[np.nan, 0]])

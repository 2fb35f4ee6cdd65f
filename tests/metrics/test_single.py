"""Metrics of findings that exclude each other, against scikit-learn and a loop over resampled patients."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from cxr.metrics.interval import Resampling
from cxr.metrics.single import (
    bootstrap_single,
    confusion_matrix,
    mean_recall,
    rates_of_matrix,
)


def drawn(seed: int, images: int = 60, findings: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, findings, images)
    score = rng.random((images, findings)) + 0.5 * np.eye(findings)[truth]
    return np.eye(findings)[truth], score, rng.integers(0, images // 2, images)


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_those_of_scikit_learn(seed: int) -> None:
    target, score, _ = drawn(seed)
    truth, called = target.argmax(axis=1), [max(range(5), key=lambda k: row[k]) for row in score]
    matrix = confusion_matrix(target, score)
    assert matrix.tolist() == theirs.confusion_matrix(truth, called, labels=range(5)).tolist()
    rates = rates_of_matrix(matrix)
    assert rates["mcc"] == pytest.approx(theirs.matthews_corrcoef(truth, called))
    assert rates["macro_f1"] == pytest.approx(theirs.f1_score(truth, called, average="macro"))
    assert rates["recall"] == pytest.approx(theirs.recall_score(truth, called, average=None))
    assert rates["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(truth, called))
    assert rates["top1_accuracy"] == pytest.approx(theirs.accuracy_score(truth, called))


def test_a_finding_without_images_is_in_no_mean_and_lowers_the_accuracy_where_it_is_predicted() -> None:
    target = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    score = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    rates = rates_of_matrix(confusion_matrix(target, score))
    assert rates["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2) and np.isnan(rates["recall"][2])
    assert rates["macro_f1"] == pytest.approx((1 + 0.8) / 2) and rates["top1_accuracy"] == 0.75


def test_predicting_one_finding_alone_correlates_with_nothing() -> None:
    target, score = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[2, 2, 2, 2]]
    assert rates_of_matrix(confusion_matrix(target, score))["mcc"] == 0


def test_resamples_are_of_whole_patients() -> None:
    target, score, patient = drawn(1)
    plan = Resampling(40, seed=3, keep=True)
    found = bootstrap_single(target, score, patient, plan)
    names, rng = np.unique(patient), np.random.default_rng(3)
    for row in range(40):
        chosen = names[rng.integers(len(names), size=len(names))]
        images = np.concatenate([np.flatnonzero(patient == one) for one in chosen])
        truth, called = target[images].argmax(axis=1), score[images].argmax(axis=1)
        expected = theirs.balanced_accuracy_score(truth, called)
        value = found["balanced_accuracy"].resamples
        assert value is not None and (np.isnan(value[row]) or value[row] == pytest.approx(expected))
        mcc = found["mcc"].resamples
        assert mcc is not None and mcc[row] == pytest.approx(theirs.matthews_corrcoef(truth, called))
    assert found["mcc"].low < found["mcc"].value < found["mcc"].high


def test_accuracies_of_groups_are_those_of_their_images_alone() -> None:
    """The balanced accuracy of a group is that of the images with its findings, also on resampled patients."""
    target, score, patient = drawn(4, images=120)
    groups = {"some": np.array([True, False, True, False, False]), "none": np.zeros(5, bool)}
    found = bootstrap_single(target, score, patient, Resampling(30, seed=1, keep=True), groups)
    truth, called = target.argmax(axis=1), score.argmax(axis=1)
    mine = np.isin(truth, (0, 2))

    def expected(images: np.ndarray) -> float:
        return float(np.mean([(called[images][truth[images] == k] == k).mean() for k in (0, 2)]))

    every = np.arange(len(truth))
    assert found["some"].value == pytest.approx(expected(every[mine]))
    assert mean_recall(found["recall"].value, groups["some"]) == pytest.approx(expected(every))
    names, rng = np.unique(patient), np.random.default_rng(1)
    resamples = found["some"].resamples
    assert resamples is not None
    for row in range(30):
        chosen = names[rng.integers(len(names), size=len(names))]
        assert resamples[row] == pytest.approx(expected(np.concatenate([every[patient == one] for one in chosen])))
    assert found["some"].low < found["some"].value < found["some"].high
    assert np.isnan(found["none"].value) and np.isnan(found["none"].low)
    assert np.isnan(mean_recall(found["recall"].value, groups["none"]))


def test_a_group_with_a_finding_of_few_patients_has_no_interval_and_the_others_keep_theirs() -> None:
    target, score, patient = drawn(2)
    rare = np.flatnonzero(target[:, 4] == 1)[3:]
    target, score, patient = (np.delete(some, rare, axis=0) for some in (target, score, patient))
    groups = {"tail": np.arange(5) == 4, "head": np.arange(5) < 4}
    found = bootstrap_single(target, score, patient, Resampling(50), groups)
    assert np.isnan(found["tail"].low) and found["head"].low < found["head"].value < found["head"].high


def test_a_finding_of_few_patients_has_no_interval_and_neither_have_the_means() -> None:
    target, score, patient = drawn(2)
    rare = np.flatnonzero(target[:, 4] == 1)[3:]
    target, score, patient = (np.delete(some, rare, axis=0) for some in (target, score, patient))
    found = bootstrap_single(target, score, patient, Resampling(50))
    assert np.isnan(found["recall"].low[4]) and not np.isnan(found["recall"].low[:4]).any()
    assert np.isnan(found["balanced_accuracy"].low) and not np.isnan(found["top1_accuracy"].low)


def test_images_with_an_unknown_finding_are_left_out_and_none_is_undefined() -> None:
    target = np.array([[1, 0], [np.nan, 1]], np.float32)
    score = np.array([[0.9, 0.1], [0.9, 0.1]])
    known, none = (rates_of_matrix(confusion_matrix(target[rows], score[rows])) for rows in (slice(2), slice(1, 2)))
    assert known["balanced_accuracy"] == known["top1_accuracy"] == 1
    assert np.isnan(none["balanced_accuracy"]) and np.isnan(none["top1_accuracy"])


@pytest.mark.parametrize("row", [[0, 0], [1, 1]])
def test_an_image_without_exactly_one_finding_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        confusion_matrix(np.array([[1, 0], row]), np.zeros((2, 2)))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        confusion_matrix([[1, 0]], [[np.nan, 0]])

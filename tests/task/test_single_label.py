"""What the single-label task adds to a split's metrics."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from cxr.metrics.interval import Resampling
from cxr.task.single_label import SingleLabel

FINDINGS = ("Mass", "Nodule", "Edema")


def test_report_contains_accuracies_with_intervals_and_the_confusion_matrix() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 90)
    target, score = np.eye(3, dtype=np.float32)[truth], rng.random((90, 3)).astype(np.float32)
    called, patient = score.argmax(axis=1), np.arange(90) // 2
    plain = SingleLabel().report(target, score, FINDINGS, patient)
    assert plain["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, called))
    assert plain["macro_f1"] == pytest.approx(f1_score(truth, called, average="macro"))
    assert plain["confusion"] == confusion_matrix(truth, called).tolist()
    assert plain["recall"]["Nodule"] == pytest.approx((called[truth == 1] == 1).mean())
    intervals = SingleLabel().report(target, score, FINDINGS, patient, Resampling(100))
    for name in ("balanced_accuracy", "top1_accuracy", "macro_f1", "mcc"):
        assert intervals[name]["value"] == pytest.approx(plain[name])
        assert intervals[name]["ci"][0] < plain[name] < intervals[name]["ci"][1]
    assert intervals["recall"]["Mass"]["value"] == pytest.approx(plain["recall"]["Mass"])


def test_groups_follow_the_counts_of_training_not_those_of_the_split() -> None:
    truth = np.array([0] * 5 + [1] * 40 + [2] * 20)
    called = np.where(np.arange(65) % 5 == 0, (truth + 1) % 3, truth)  # four of five are right
    target, score, patient = np.eye(3, dtype=np.float32)[truth], np.eye(3, dtype=np.float32)[called], np.arange(65)
    counts = {"Mass": 1001, "Nodule": 99, "Edema": 100}
    plain = SingleLabel().report(target, score, FINDINGS, patient, train_positives=counts)
    found = [plain[f"{group}_accuracy"] for group in ("head", "medium", "tail")]
    assert found == pytest.approx([plain["recall"][name] for name in ("Mass", "Edema", "Nodule")])
    intervals = SingleLabel().report(target, score, FINDINGS, patient, Resampling(50), counts)
    assert intervals["tail_accuracy"]["value"] == pytest.approx(plain["recall"]["Nodule"])
    assert SingleLabel().report(target, score, FINDINGS, patient).keys() == plain.keys() - {
        "head_accuracy", "medium_accuracy", "tail_accuracy"
    }  # fmt: skip
    few = SingleLabel().report(target, score, FINDINGS, patient, train_positives=dict.fromkeys(FINDINGS, 5))
    assert few["head_accuracy"] is None and few["tail_accuracy"] == pytest.approx(few["balanced_accuracy"])

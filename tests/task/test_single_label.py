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

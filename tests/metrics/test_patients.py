"""No interval with fewer than five positive or negative patients, for any number of images."""

import numpy as np
import pytest

from cxr.metrics.bootstrap import (
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_mean,
    bootstrap_rates,
)
from cxr.metrics.calibration import bootstrap_calibration_error, squared_error
from cxr.metrics.comparison import compare
from cxr.metrics.delong import delong
from cxr.metrics.interval import Resampling
from cxr.metrics.localisation import by_finding
from cxr.metrics.summary import summarise

PLAN = Resampling(200, keep=True)


def case(positives: tuple[int, ...], patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images a patient; the first ones are positive in both; scores overlap."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), 2)
    target = np.stack([patient < number for number in positives], axis=1).astype(np.float32)
    score = np.clip(rng.normal(0.4, 0.15, target.shape) + 0.15 * target, 0.01, 0.99).astype(np.float32)
    return target, score, patient


def bounded(found) -> list[bool]:
    return (~np.isnan(found.low)).tolist()


def test_auroc_and_average_precision_need_five_patients_of_both_classes() -> None:
    target, score, patient = case((1, 2, 4, 5, 10, 55, 56, 59))
    expected = [False, False, False, True, True, True, False, False]
    for ours in (bootstrap_auroc, bootstrap_average_precision):
        found = ours(target, score, patient, PLAN)
        assert bounded(found.findings) == expected and not np.isnan(found.findings.value).any()
        np.testing.assert_allclose(found.supported.value, found.findings.value[[3, 4, 5]].mean())
        np.testing.assert_allclose(found.supported.resamples, found.findings.resamples[:, [3, 4, 5]].mean(axis=1))
        assert np.isnan(found.macro.low) and found.supported.low < found.supported.value < found.supported.high
    assert bounded(bootstrap_calibration_error(target, score, patient, PLAN).findings) == expected
    assert bounded(bootstrap_mean(squared_error(target, score), patient, PLAN, target=target).findings) == expected
    assert bounded(delong(target, score, patient=patient)) == expected
    assert bounded(delong(target, score)) == [
        False,
        False,
        True,
        True,
        True,
        True,
        True,
        False,
    ]  # images, two a patient


def test_unknown_labels_count_as_no_patient() -> None:
    target, score, patient = case((6, 6))
    target[:4, 1] = np.nan
    assert bounded(bootstrap_auroc(target, score, patient, PLAN).findings) == [True, False]


def test_sensitivity_needs_positive_patients_specificity_negative_ones_and_other_rates_both() -> None:
    target, score, patient = case((4, 20, 57))
    found = bootstrap_rates(target, score, 0.45, patient, PLAN)
    assert bounded(found["sensitivity"].findings) == [False, True, True]
    assert bounded(found["specificity"].findings) == [True, True, False]
    for name in ("accuracy", "ppv", "npv", "f1", "mcc"):
        assert bounded(found[name].findings) == [False, True, False], name
    assert np.isnan(found["ppv"].macro.low) and found["accuracy"].macro.low < found["accuracy"].macro.value


def test_boxes_of_five_patients_are_needed() -> None:
    found = by_finding([0.1, 0.9, 0.5, 0.4] * 5, [0] * 9 + [1] * 11, 2, [*"aabbccddd", *"abcdefghijk"], PLAN)
    assert bounded(found.findings) == [False, True]


def test_four_positive_patients_give_no_p_value() -> None:
    target, score, patient = case((4, 20))
    other = np.random.default_rng(1).random(score.shape)
    found = compare(target, score, other, patient, plan=PLAN)
    assert np.isnan(found.p).tolist() == [True, False] == np.isnan(found.p_holm).tolist()
    assert found.p_macro == pytest.approx(found.p[1])


def test_summary_lists_findings_without_interval_and_undefined_resamples() -> None:
    target, score, patient = case((2, 20, 58))
    summary = summarise(target, score, ["A", "B", "C"], patient, PLAN)
    assert isinstance(summary["auroc"]["A"], float) and set(summary["auroc"]["B"]) == {"value", "ci"}
    about = summary["intervals"]
    few = {"A": {"positive": 2, "negative": 58}, "C": {"positive": 58, "negative": 2}}
    assert about["too_few_patients"] == few and (about["resamples"], about["fewest_patients"]) == (200, 5)
    area = bootstrap_auroc(target, score, patient, PLAN).findings
    lost = np.isnan(area.resamples)
    assert about["undefined_resamples"]["auroc"] == {"A": lost[:, 0].sum(), "C": lost[:, 2].sum()}
    assert about["undefined_resamples"]["macro_auroc"] == lost.any(axis=1).sum() > 0
    assert isinstance(summary["macro_auroc"], float) and isinstance(summary["weighted_auroc"], float)
    assert about["macro_of_supported"]["auroc"] == summary["auroc"]["B"]
    assert set(summary["macro_brier"]) == {"value", "ci"} and "brier" not in about["macro_of_supported"]

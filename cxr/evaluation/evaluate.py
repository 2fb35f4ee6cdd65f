"""Metrics of stored predictions: operating points are chosen on validation and applied to test splits.

Results are plain values for `metrics.json`; a number with an interval is `{"value": x, "ci": [low, high]}`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.data.hierarchy import parent_columns
from cxr.errors import CxrError
from cxr.metrics.auroc import macro
from cxr.metrics.bootstrap import bootstrap_rates
from cxr.metrics.calibration import brier, expected_calibration_error
from cxr.metrics.cells import undefined
from cxr.metrics.delong import delong
from cxr.metrics.interval import Resampling
from cxr.metrics.patients import too_few
from cxr.metrics.plain import intervals_of, named, number, value_of, with_mean
from cxr.metrics.scaling import Scaling, fit_platt, fit_temperature
from cxr.metrics.subgroups import FREQUENCIES, age_bands, divide, finding_counts, frequency_groups, visits
from cxr.metrics.summary import summarise
from cxr.metrics.thresholds import choose_thresholds, rates
from cxr.metrics.tree import at_most_parents
from cxr.run.predictions import Predictions
from cxr.run.splits import check_chosen_on_validation

Points = Mapping[str, float | None]
USUAL_POINTS: Points = {"half": None, "youden": None, "f1": None, "sensitivity": 0.9, "specificity": 0.9}
SUBGROUP_POINT = "youden"
_ATTRIBUTES: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "sex": np.asarray, "age": age_bands, "view": np.asarray, "followup": visits,
    "source": np.asarray,
}  # fmt: skip
_SCALINGS = {"temperature": fit_temperature, "platt": fit_platt}

_Floats = NDArray[np.float64]


def evaluate(
    val: Predictions,
    tests: Mapping[str, Predictions],
    points: Points = USUAL_POINTS,
    resampling: Resampling | None = None,
    train_positives: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Computes the metrics of validation and of test splits.

    Args:
        val: on which operating points are chosen.
        tests: predictions of the same findings by name of the split, `test` or others; may be empty.
        points: operating points, see `choose_thresholds`: rule to its minimum sensitivity or specificity, or to None.
        resampling: of patients, for intervals and subgroups; without it, numbers have no intervals.
        train_positives: positives of each finding in training, which define head, medium and tail findings.

    Returns:
        `val` and each test split as `summarise` returns it, with `operating_points`: for each rule `threshold` and the
        rates of every finding. With `resampling`, test splits have intervals, `delong` and `subgroups`; with
        `train_positives`, `by_frequency`.
    """
    check_together(val, tests)
    thresholds = {rule: choose_thresholds(val.target, val.score, rule, least) for rule, least in points.items()}
    results: dict[str, Any] = {}
    for split, p in {"val": val, **tests}.items():
        results[split] = summarise(p.target, p.score, p.findings, p.patient, resampling)
        at = {rule: _at_threshold(p, threshold, resampling) for rule, threshold in thresholds.items()}
        results[split]["operating_points"] = at
    for split, test in tests.items():
        if train_positives is not None:
            results[split]["by_frequency"] = _by_frequency(results[split], test.findings, train_positives)
        if resampling is not None:
            area = delong(test.target, test.score, resampling.level, test.patient)
            each = zip(test.findings, area.value, area.low, area.high, strict=True)
            results[split]["delong"] = {name: number(*values) for name, *values in each}
            cuts = thresholds.get(SUBGROUP_POINT, np.full(len(test.findings), 0.5))
            results[split]["subgroups"] = _subgroups(test, cuts, resampling)
    return results


def check_together(val: Predictions, tests: Mapping[str, Predictions]) -> None:
    """Raises CxrError if `val` is not validation, or a test split shares images with it or has other findings."""
    check_chosen_on_validation(val, None, "operating points")
    for split, test in tests.items():
        check_chosen_on_validation(val, test, "operating points")
        if val.findings != test.findings:
            raise CxrError(
                f"validation has the findings {', '.join(val.findings)} and {split} has {', '.join(test.findings)}; "
                "evaluate predictions of one run"
            )


def of_test(metrics: dict[str, Any], split: str) -> dict[str, Any]:
    """The part of `metrics.json` with `split`, `localisation` and `calibration` of a test split.

    For `test` these keys are at the top level, for other test splits next to the split's metrics.
    """
    part: dict[str, Any] = metrics if split == "test" else metrics[split]
    return part


def fit_scaling(val: Predictions, method: str) -> Scaling:
    """Fits a scaling of scores on validation.

    Raises:
        CxrError: the method is unknown, or `val` is not validation.
    """
    if method not in _SCALINGS:
        raise CxrError(f"calibration={method} is unknown; choose none, {' or '.join(_SCALINGS)}")
    check_chosen_on_validation(val, None, "a calibration")
    return _SCALINGS[method](val.target, val.score, val.findings)


def calibrate(
    test: Predictions, scaling: Scaling, method: str, hierarchy: Any = None
) -> tuple[Predictions, dict[str, Any]]:
    """Applies a scaling to test scores.

    Args:
        hierarchy: tree of findings; a scaled score above that of its parent is set to it.

    Returns:
        The predictions with scaled scores, and Brier score and calibration error before and after.
    """
    score = scaling.apply(test.score).astype(np.float32)
    if hierarchy:
        score = at_most_parents(score, parent_columns(hierarchy, test.findings))
    scaled = replace(test, score=score)
    errors: dict[str, Any] = {"method": method, "not_fitted": list(scaling.identity)}
    for name, p in (("before", test), ("after", scaled)):
        values = {"brier": brier(p.target, p.score), "ece": expected_calibration_error(p.target, p.score)}
        errors[name] = {}
        for key, value in values.items():
            errors[name] |= with_mean(key, p.findings, value)
    return scaled, errors


def _at_threshold(p: Predictions, threshold: _Floats, resampling: Resampling | None) -> dict[str, Any]:
    """Rates of every finding at its threshold; the labels of a finding without a threshold count as unknown."""
    target = np.where(np.isnan(threshold), np.float32(np.nan), p.target)
    cut = np.where(np.isnan(threshold), np.inf, threshold)
    at: dict[str, Any] = {"threshold": named(p.findings, threshold)}
    values = rates(target, p.score, cut)
    found = bootstrap_rates(target, p.score, cut, p.patient, resampling) if resampling else {}
    for name, value in values.items():
        at |= with_mean(name, p.findings, found.get(name, value))
    if resampling:
        few = too_few(target, p.patient, p.findings)
        at["intervals"] = intervals_of(resampling.resamples, few, p.findings, found)
    left_out = {name: undefined(value, p.findings) for name, value in values.items()}
    return at | {"left_out_of_macro": {name: findings for name, findings in left_out.items() if findings}}


def _by_frequency(
    test: Mapping[str, Any], findings: Sequence[str], train_positives: Mapping[str, int]
) -> dict[str, Any]:
    groups = frequency_groups([train_positives[name] for name in findings])
    area = np.array([value_of(test["auroc"][name]) for name in findings])
    return {
        group: {
            "macro_auroc": number(macro(area[groups == group])),
            "findings": [name for name, its in zip(findings, groups, strict=True) if its == group],
        }
        for group in FREQUENCIES
    }


def _subgroups(test: Predictions, threshold: _Floats, resampling: Resampling) -> dict[str, Any]:
    """Attribute to groups and gaps: known sex, age, view and visit, and number of findings.

    No image is positive for a finding whose `threshold` (L,) is NaN.
    """
    known = {} if test.attributes is None else dict(test.attributes)
    columns = {name: divided(known[name].to_numpy()) for name, divided in _ATTRIBUTES.items() if name in known}
    columns["findings"] = finding_counts(test.target)
    cut = np.where(np.isnan(threshold), np.inf, threshold)
    return divide(test.target, test.score, cut, test.patient, columns, test.findings, resampling)

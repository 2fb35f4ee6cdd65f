"""What stored predictions of validation and of test splits say of a classifier: chosen on the one, judged on the rest.

Results are plain values for `metrics.json`; a number with an interval is `{"value": x, "ci": [low, high]}`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.metrics.auroc import macro
from cxr.metrics.bootstrap import bootstrap_rates
from cxr.metrics.calibration import brier, expected_calibration_error
from cxr.metrics.cells import undefined
from cxr.metrics.delong import delong
from cxr.metrics.interval import Resampling
from cxr.metrics.patients import too_few
from cxr.metrics.plain import intervals_of, named, number, single, value_of, with_mean
from cxr.metrics.scaling import Scaling, fit_platt, fit_temperature
from cxr.metrics.subgroups import (
    Division,
    age_bands,
    divide,
    finding_counts,
    frequency_groups,
    macro_by_frequency,
    visits,
)
from cxr.metrics.summary import summarise
from cxr.metrics.thresholds import choose_thresholds, rates
from cxr.run.predictions import Predictions
from cxr.run.splits import check_chosen_on_validation

Points = Mapping[str, float | None]
USUAL_POINTS: Points = {"half": None, "youden": None, "f1": None, "sensitivity": 0.9, "specificity": 0.9}
SUBGROUP_POINT = "youden"
_GROUPINGS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "sex": np.asarray, "age": age_bands, "view": np.asarray, "followup": visits,
}  # fmt: skip
_FITS = {"temperature": fit_temperature, "platt": fit_platt}

_Floats = NDArray[np.float64]


def judge(
    val: Predictions,
    tests: Mapping[str, Predictions],
    points: Points = USUAL_POINTS,
    resampling: Resampling | None = None,
    train_positives: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The metrics of validation and of test splits.

    Args:
        val: where operating points are chosen.
        tests: predictions of the same findings by the name of their split, `test` or a further one; or none.
        points: operating points, see `choose_thresholds`: rule to its least sensitivity or specificity, or to none.
        resampling: of patients, for intervals and subgroups; none gives plain numbers at once.
        train_positives: positives of each finding in training, by which head, medium and tail are told apart.

    Returns:
        `val` and each test split as `summarise` says it, with `operating_points`: a rule each, with `threshold` and the
        rates of every finding. With `resampling`, a test split has intervals, `delong` and `subgroups` too; with
        `train_positives` `by_frequency`.

    Raises:
        CxrError: see `check_together`.
    """
    check_together(val, tests)
    thresholds = {rule: choose_thresholds(val.target, val.score, rule, least) for rule, least in points.items()}
    found: dict[str, Any] = {}
    for split, p in {"val": val, **tests}.items():
        about = summarise(p.target, p.score, p.findings, rich=True, ci=resampling, patient=p.patient)
        at = {rule: _at(p, threshold, resampling) for rule, threshold in thresholds.items()}
        found[split] = {**about, "operating_points": at}
    for split, test in tests.items():
        if train_positives is not None:
            found[split]["by_frequency"] = _by_frequency(found[split], test.findings, train_positives)
        if resampling is not None:
            area = delong(test.target, test.score, resampling.level, test.patient)
            each = zip(test.findings, area.value, area.low, area.high, strict=True)
            found[split]["delong"] = {name: number(*values) for name, *values in each}
            cuts = thresholds.get(SUBGROUP_POINT)
            found[split]["subgroups"] = subgroups(
                test, np.full(len(test.findings), 0.5) if cuts is None else cuts, resampling
            )
    return found


def check_together(val: Predictions, tests: Mapping[str, Predictions]) -> None:
    """Raises CxrError if `val` is no validation, or a test split shares images with it or has other findings."""
    check_chosen_on_validation(val, None, "operating points")
    for split, test in tests.items():
        check_chosen_on_validation(val, test, "operating points")
        if val.findings != test.findings:
            raise CxrError(f"validation and {split} have different findings; they are not of one run")


def of_test(metrics: dict[str, Any], split: str) -> dict[str, Any]:
    """Where `metrics.json` holds `split`, `localisation` and `calibration` of a test split.

    They stand at its top for `test`, and for a further one beside its own metrics.
    """
    if split == "test":
        return metrics
    held: dict[str, Any] = metrics[split]
    return held


def subgroups(test: Predictions, threshold: _Floats, resampling: Resampling) -> dict[str, Any]:
    """Sex, age, view, visit as far as they are known, and number of findings: attribute to groups and gaps.

    Args:
        test: with attributes.
        threshold: (L,), chosen on validation; where it is NaN nothing is called.
        resampling: of patients.
    """
    columns: dict[str, NDArray[Any]] = {}
    known = test.attributes
    if known is not None:
        makers: dict[str, Callable[[Any], NDArray[Any]]] = {
            "sex": np.asarray,
            "age": age_bands,
            "view": np.asarray,
            "followup": visits,
        }
        columns = {name: make(known[name].to_numpy()) for name, make in makers.items() if name in known}
    columns["findings"] = finding_counts(test.target)
    never = np.where(np.isnan(threshold), np.inf, threshold)
    divisions = divide(test.target, test.score, never, test.patient, columns, resampling)
    return {name: _division(division, test.findings) for name, division in divisions.items()}


def fit_scaling(val: Predictions, method: str) -> Scaling:
    """Fits a scaling of scores on validation.

    Args:
        val: what it is fitted on.
        method: `temperature` or `platt`.

    Raises:
        CxrError: the method is unknown, or `val` is no validation.
    """
    if method not in _FITS:
        raise CxrError(f"calibration={method} is unknown; choose none, {' or '.join(_FITS)}")
    check_chosen_on_validation(val, None, "a calibration")
    return _FITS[method](val.target, val.score, val.findings)


def calibrate(test: Predictions, scaling: Scaling, method: str) -> tuple[Predictions, dict[str, Any]]:
    """Applies a scaling to test scores.

    Args:
        test: what it is applied to.
        scaling: fitted on validation.
        method: what it is called.

    Returns:
        The predictions with scaled scores, and Brier score and calibration error before and after.
    """
    scaled = replace(test, score=scaling.apply(test.score).astype(np.float32))
    said: dict[str, Any] = {"method": method, "not_fitted": list(scaling.identity)}
    for name, p in (("before", test), ("after", scaled)):
        values = {"brier": brier(p.target, p.score), "ece": expected_calibration_error(p.target, p.score)}
        said[name] = {key: named(p.findings, value) for key, value in values.items()}
        said[name] |= {f"macro_{key}": number(macro(value)) for key, value in values.items()}
    return scaled, said


def _at(p: Predictions, threshold: _Floats, resampling: Resampling | None) -> dict[str, Any]:
    """Rates of every finding at its threshold; a finding without one counts as unknown."""
    target = np.where(np.isnan(threshold), np.float32(np.nan), p.target)
    cut = np.where(np.isnan(threshold), np.inf, threshold)
    said: dict[str, Any] = {"threshold": named(p.findings, threshold)}
    every = rates(target, p.score, cut)
    if resampling is None:
        for name, values in every.items():
            said |= {name: named(p.findings, values), f"macro_{name}": number(macro(values))}
    else:
        found = bootstrap_rates(target, p.score, cut, p.patient, resampling)
        for name in every:
            said |= with_mean(name, p.findings, found[name])
        few = too_few(target, p.patient, p.findings)
        said["intervals"] = intervals_of(resampling.resamples, few, p.findings, found)
    left_out = {name: undefined(values, p.findings) for name, values in every.items()}
    return said | {"left_out_of_macro": {name: findings for name, findings in left_out.items() if findings}}


def _by_frequency(
    test: Mapping[str, Any], findings: Sequence[str], train_positives: Mapping[str, int]
) -> dict[str, Any]:
    groups = frequency_groups([train_positives[name] for name in findings])
    area = np.array([value_of(test["auroc"][name]) for name in findings])
    means = macro_by_frequency(area, groups)
    return {
        group: {
            "macro_auroc": number(mean),
            "findings": [f for f, g in zip(findings, groups, strict=True) if g == group],
        }
        for group, mean in means.items()
    }


def _division(division: Division, findings: Sequence[str]) -> dict[str, Any]:
    groups = {
        group.name: {
            "n": group.images,
            "patients": group.patients,
            "positives": {name: int(count) for name, count in zip(findings, group.positives, strict=True)},
            "macro_auroc": single(group.auroc.supported),
            "auroc": named(findings, group.auroc.findings),
            "sensitivity": named(findings, group.sensitivity),
            "specificity": named(findings, group.specificity),
            "too_few_patients": [name for name, has in zip(findings, group.auroc.enough, strict=True) if not has],
            "undefined_resamples": int(group.auroc.supported.undefined) if group.auroc.enough.any() else 0,
        }
        for group in division.groups
    }
    return {
        "groups": groups,
        "unknown": division.unknown,
        "auroc_gap": named(findings, division.auroc_gap),
        "macro_auroc_gap": number(division.macro_gap),
        "macro_auroc_gap_findings": [name for name, has in zip(findings, division.common, strict=True) if has],
        "left_out_of_gaps": [group.name for group in division.groups if not group.auroc.enough.any()],
        "equal_opportunity_gap": named(findings, division.sensitivity_gap),
    }

"""Metrics by sex, age, view, visit or number of findings, and by the frequency of findings."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.bootstrap import Bootstrap, bootstrap_auroc
from cxr.metrics.cells import cells
from cxr.metrics.interval import DEFAULT, Resampling
from cxr.metrics.plain import named, number, single
from cxr.metrics.thresholds import rates

_Floats = NDArray[np.float64]
_Names = NDArray[np.str_]
FREQUENCIES = ("head", "medium", "tail")
AGE_EDGES = (0, 18, 40, 60, 80)


def divide(
    target: ArrayLike,
    score: ArrayLike,
    threshold: ArrayLike,
    patient: ArrayLike,
    columns: Mapping[str, ArrayLike],
    findings: Sequence[str],
    plan: Resampling = DEFAULT,
) -> dict[str, Any]:
    """Evaluates every group of every attribute separately, as plain values for `metrics.json`.

    Args:
        target, score, patient: as for `bootstrap_auroc`.
        threshold: (L,) or one for all, chosen on validation.
        columns: attribute to (N,) names of groups, such as sex, `age_bands(age)`, view or `visits(followup)`. None, NaN
            and the empty text are unknown and belong to no group.
        findings: L names.

    Returns:
        For each attribute `groups` in the order of their names, the number of images of `unknown` group, and gaps,
        largest minus smallest value over the groups. `auroc_gap` and `equal_opportunity_gap`, of sensitivity (Hardt,
        Price and Srebro, NeurIPS 2016), are over the groups with enough patients for an interval, since groups of one
        or two patients differ more than large ones by chance. `macro_auroc_gap` is that of the mean over
        `macro_auroc_gap_findings`, which have enough patients in every group that has enough for any finding; the
        others are `left_out_of_gaps`. Undefined values are null.
    """
    targets, scores = cells(target, score)
    patients = np.asarray(patient)
    divisions: dict[str, Any] = {}
    for attribute, column in columns.items():
        names = np.array([str(name) if name and name == name else "" for name in np.ravel(column).tolist()])
        if names.shape != (len(targets),):
            raise ValueError(f"{attribute} {names.shape} must name the group of each of {len(targets)} images")
        groups: dict[str, Any] = {}
        areas, sensitivities = [], []
        for name in np.unique(names[names != ""]).tolist():
            t, s, ids = (some[names == name] for some in (targets, scores, patients))
            area, at = bootstrap_auroc(t, s, ids, plan), rates(t, s, threshold)
            groups[name] = {
                "n": len(t),
                "patients": len(np.unique(ids)),
                "positives": dict(zip(findings, (t == 1).sum(axis=0).tolist(), strict=True)),
                "macro_auroc": single(area.supported),
                "auroc": named(findings, area.findings),
                "sensitivity": named(findings, at["sensitivity"]),
                "specificity": named(findings, at["specificity"]),
                "too_few_patients": [name for name, enough in zip(findings, area.enough, strict=True) if not enough],
                "undefined_resamples": int(area.supported.undefined) if area.enough.any() else 0,
            }
            areas.append(area)
            sensitivities.append(at["sensitivity"])
        unknown = int((names == "").sum())
        gaps = _gaps(list(groups), areas, sensitivities, findings)
        divisions[attribute] = {"groups": groups, "unknown": unknown, **gaps}
    return divisions


def age_bands(age: ArrayLike) -> _Names:
    """Names of age groups, for instance `18-40` for ages from 18 to below 40, and `80+`.

    Args:
        age: (N,) years.

    Returns:
        (N,), empty where the age is NaN or negative. Numbers are padded to one width, so that names sort by age.
    """
    names = ["", *(f"{low:02d}-{high:02d}" for low, high in pairwise(AGE_EDGES)), f"{AGE_EDGES[-1]}+"]
    return np.array(names)[np.digitize(np.nan_to_num(np.asarray(age, np.float64), nan=-1), AGE_EDGES)]


def visits(followup: ArrayLike) -> _Names:
    """`first` or `follow-up` for every image, from its follow-up number (0 is the first); empty where it is NaN."""
    number = np.asarray(followup, np.float64)
    return np.where(np.isnan(number), "", np.where(number == 0, "first", "follow-up"))


def finding_counts(target: ArrayLike) -> _Names:
    """How many findings every image has, as a column for `divide`: `0`, `1`, `2` or `3+`.

    A group with 0 findings has no positive, so only its specificity is defined. In the other groups, the negatives of a
    finding are images with other findings.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.

    Returns:
        (N,), empty where a target is unknown.
    """
    targets = np.asarray(target, np.float64)
    names = np.array(["0", "1", "2", "3+"])[np.minimum((targets == 1).sum(axis=1), 3)]
    return np.where(np.isnan(targets).any(axis=1), "", names)


def frequency_groups(positives: ArrayLike) -> _Names:
    """`head`, `medium` or `tail` for every finding, by its number of positives in training (L,).

    Head findings have more than 1,000 positives and tail findings fewer than 100, as in Holste et al., "Long-tailed
    classification of thorax diseases on chest X-ray", DALI 2022.
    """
    count = np.asarray(positives)
    return np.where(count > 1000, "head", np.where(count < 100, "tail", "medium"))


def _gaps(
    groups: Sequence[str], areas: Sequence[Bootstrap], sensitivities: Sequence[_Floats], findings: Sequence[str]
) -> dict[str, Any]:
    """The gaps over the groups of an attribute; arrays here are (G, L)."""
    enough = np.array([area.enough for area in areas], bool).reshape(-1, len(findings))
    values = np.array([area.findings.value for area in areas], np.float64).reshape(-1, len(findings))
    sensitivity = np.array(sensitivities, np.float64).reshape(-1, len(findings))
    some = enough.any(axis=1)
    common = np.asarray(enough[some].all(axis=0) & some.any())
    means = values[some][:, common].mean(axis=1, keepdims=True) if common.any() else np.empty((0, 1))
    return {
        "auroc_gap": named(findings, _gap(np.where(enough, values, np.nan))),
        "macro_auroc_gap": number(float(_gap(means)[0])),
        "macro_auroc_gap_findings": [findings[k] for k in np.flatnonzero(common).tolist()],
        "left_out_of_gaps": [groups[k] for k in np.flatnonzero(~some).tolist()],
        "equal_opportunity_gap": named(findings, _gap(np.where(enough, sensitivity, np.nan))),
    }


def _gap(rows: _Floats) -> _Floats:
    """Largest minus smallest of (G, L) values over the defined groups; NaN with fewer than two."""
    frame = pd.DataFrame(rows)
    gap = (frame.max() - frame.min()).where(frame.count() >= 2)
    return gap.to_numpy(np.float64)

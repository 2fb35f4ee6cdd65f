"""Metrics by sex, age, view, visit or number of findings, and by the frequency of findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.auroc import macro
from cxr.metrics.bootstrap import Bootstrap, bootstrap_auroc
from cxr.metrics.cells import cells
from cxr.metrics.interval import DEFAULT, Resampling
from cxr.metrics.thresholds import rates

_Floats = NDArray[np.float64]
_Names = NDArray[np.str_]
FREQUENCIES = ("head", "medium", "tail")
AGE_EDGES = (0, 18, 40, 60, 80)


@dataclass(frozen=True)
class Group:
    """The images of one group.

    Attributes:
        name: for instance `F` or `60-80`.
        images: how many.
        patients: how many.
        positives: (L,), known positives.
        auroc: intervals of every finding and of the macro AUROC, NaN where undefined.
        sensitivity, specificity: (L,), at the operating points; NaN where undefined.
    """

    name: str
    images: int
    patients: int
    positives: NDArray[np.intp]
    auroc: Bootstrap
    sensitivity: _Floats
    specificity: _Floats


@dataclass(frozen=True)
class Division:
    """All groups of one attribute, and the differences between them.

    Attributes:
        attribute: for instance `sex`.
        groups: in the order of their names.
        unknown: images that belong to no group.
        auroc_gap: (L,), largest minus smallest AUROC over the groups with enough patients for an interval, since groups
            of one or two patients differ more than large ones by chance; NaN with fewer than two such groups.
        sensitivity_gap: (L,), the same of sensitivity at the operating point: the equal-opportunity gap (Hardt, Price
            and Srebro, NeurIPS 2016).
        common: (L,), the findings with enough patients in every group that has enough for any finding.
        macro_gap: largest minus smallest mean AUROC over the common findings, of these groups.
    """

    attribute: str
    groups: tuple[Group, ...]
    unknown: int
    auroc_gap: _Floats
    sensitivity_gap: _Floats
    common: NDArray[np.bool_]
    macro_gap: float


def divide(
    target: ArrayLike,
    score: ArrayLike,
    threshold: ArrayLike,
    patient: ArrayLike,
    columns: Mapping[str, ArrayLike],
    plan: Resampling = DEFAULT,
) -> dict[str, Division]:
    """Evaluates every group of every attribute separately.

    Args:
        target, score, patient: as for `bootstrap_auroc`.
        threshold: (L,) or one for all, chosen on validation.
        columns: attribute to (N,) names of groups, such as sex, `age_bands(age)`, view or `visits(followup)`. None, NaN
            and the empty text are unknown and belong to no group.
        plan: how to resample patients within a group.

    Raises:
        ValueError: shapes, targets or scores as for `auroc`, or a column of another length.
    """
    targets, scores = cells(target, score)
    patients = np.asarray(patient)
    divisions = {}
    for attribute, column in columns.items():
        names = np.array([str(name) if name and name == name else "" for name in np.ravel(column).tolist()])
        if names.shape != (len(targets),):
            raise ValueError(f"{attribute} {names.shape} must name the group of each of {len(targets)} images")
        groups = tuple(
            _group(name, targets[names == name], scores[names == name], patients[names == name], threshold, plan)
            for name in np.unique(names[names != ""]).tolist()
        )
        divisions[attribute] = _division(attribute, groups, int((names == "").sum()), targets.shape[1])
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


def macro_by_frequency(values: ArrayLike, frequency: ArrayLike) -> dict[str, float]:
    """Mean of a metric over the defined findings of each frequency group; NaN for a group without one.

    Args:
        values: (L,), NaN where undefined.
        frequency: (L,), as `frequency_groups` gives it.
    """
    array, names = np.asarray(values, np.float64), np.asarray(frequency)
    return {name: macro(array[names == name]) for name in FREQUENCIES}


def _group(
    name: str, target: NDArray[Any], score: NDArray[Any], patient: NDArray[Any], threshold: ArrayLike, plan: Resampling
) -> Group:
    at = rates(target, score, threshold)
    auroc, positives = bootstrap_auroc(target, score, patient, plan), (target == 1).sum(axis=0)
    return Group(name, len(target), len(np.unique(patient)), positives, auroc, at["sensitivity"], at["specificity"])


def _division(attribute: str, groups: tuple[Group, ...], unknown: int, findings: int) -> Division:
    """Gaps over the groups; arrays here are (G, L)."""
    enough = np.array([group.auroc.enough for group in groups], bool).reshape(-1, findings)
    areas = np.array([group.auroc.findings.value for group in groups], np.float64).reshape(-1, findings)
    sensitivity = np.array([group.sensitivity for group in groups], np.float64).reshape(-1, findings)
    some = enough.any(axis=1)
    common = np.asarray(enough[some].all(axis=0) & some.any())
    means = areas[some][:, common].mean(axis=1, keepdims=True) if common.any() else np.empty((0, 1))
    return Division(
        attribute,
        groups,
        unknown,
        auroc_gap=_gap(np.where(enough, areas, np.nan)),
        sensitivity_gap=_gap(np.where(enough, sensitivity, np.nan)),
        common=common,
        macro_gap=float(_gap(means)[0]),
    )


def _gap(rows: _Floats) -> _Floats:
    """Largest minus smallest of (G, L) values over the defined groups; NaN with fewer than two."""
    frame = pd.DataFrame(rows)
    gap = (frame.max() - frame.min()).where(frame.count() >= 2)
    return gap.to_numpy(np.float64)

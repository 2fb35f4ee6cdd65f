"""Metrics of findings that exclude each other: the highest score of an image is its predicted finding.

All of them are functions of the confusion matrix, whose resamples are sums over patients.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.bootstrap import draws
from cxr.metrics.cells import cells, patient_numbers
from cxr.metrics.interval import DEFAULT, DIFFERENCE, UNIT, Interval, Resampling, interval
from cxr.metrics.patients import FEWEST, per_patient

_Floats = NDArray[np.float64]
NO_GROUPS: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})


def confusion_matrix(target: ArrayLike, score: ArrayLike) -> NDArray[np.int64]:
    """How often an image of one finding (rows) was predicted as another (columns), (L, L).

    Args:
        target: (N, L), 1 for the image's finding, else 0; an image with NaN is left out.
        score: (N, L), larger means more likely; of equal ones the first is predicted.

    Raises:
        ValueError: shapes, an image without exactly one finding, or a score that is NaN.
    """
    truth, predicted, findings = _classes(target, score)
    return np.bincount(truth * findings + predicted, minlength=findings**2).reshape(findings, findings)


def rates_of_matrix(matrix: ArrayLike) -> dict[str, _Floats]:
    """Accuracies of confusion matrices.

    Args:
        matrix: (..., L, L), rows are the findings of the images, columns the predicted ones.

    Returns:
        `recall` (..., L), the share of a finding's images that are predicted correctly; and of shape (...):
        `balanced_accuracy`, the mean recall; `top1_accuracy`, the share of all images; `macro_f1`, the mean F1;
        `mcc`, the correlation coefficient of Gorodkin, "Comparing two K-category assignments by a K-category
        correlation coefficient", 2004. Means are over the findings that have an image; without any image, NaN.
    """
    counts = np.asarray(matrix, np.float64)
    truth, predicted, correct = counts.sum(axis=-1), counts.sum(axis=-2), np.diagonal(counts, axis1=-2, axis2=-1)
    images, hits = truth.sum(axis=-1), correct.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = correct / truth, np.where(truth > 0, 2 * correct / (truth + predicted), np.nan)
        spread = (images**2 - (predicted**2).sum(axis=-1)) * (images**2 - (truth**2).sum(axis=-1))
        covariance = hits * images - (truth * predicted).sum(axis=-1)
        present = (truth > 0).sum(axis=-1)
        return {
            "recall": recall,
            "balanced_accuracy": np.nansum(recall, axis=-1) / present,
            "top1_accuracy": hits / images,
            "macro_f1": np.nansum(f1, axis=-1) / present,
            "mcc": np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1)), np.where(images > 0, 0.0, np.nan)),
        }


def mean_recall(recall: _Floats, members: NDArray[np.bool_]) -> _Floats:
    """The mean recall (L,) of the member findings that have an image; NaN if none has."""
    among = recall[members & ~np.isnan(recall)]
    return np.asarray(among.mean() if len(among) else np.nan)


def bootstrap_single(
    target: ArrayLike,
    score: ArrayLike,
    patient: ArrayLike,
    plan: Resampling = DEFAULT,
    groups: Mapping[str, NDArray[np.bool_]] = NO_GROUPS,
) -> dict[str, Interval]:
    """Intervals of `rates_of_matrix`, and of the mean recall of groups of findings, from resampled patients.

    A recall needs `FEWEST` patients with the finding; a mean over findings needs them of each finding that has an
    image; the accuracy and the correlation need `FEWEST` patients. Resamples without one of these findings are left
    out of the means.

    Args:
        target: (N, L), exactly one 1 an image; an image with NaN is left out.
        score: (N, L).
        patient: (N,), the patient's id of every image.
        groups: (L,) which findings belong to each; a group without images has NaN.
    """
    truth, predicted, findings = _classes(target, score)
    known = ~np.isnan(np.asarray(target, np.float64)).any(axis=1)
    number, patients = patient_numbers(np.asarray(patient)[known], len(truth))
    pairs = np.zeros((len(truth), findings**2), np.float32)
    pairs[np.arange(len(truth)), truth * findings + predicted] = 1
    counts = per_patient(pairs, number, patients)
    value = rates_of_matrix(counts.sum(axis=0).reshape(findings, findings))
    parts = [
        rates_of_matrix((times @ counts).reshape(-1, findings, findings))
        for times in draws(patients, plan.resamples, plan.seed)
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in value}
    with_finding = (counts.reshape(patients, findings, findings).sum(axis=2) > 0).sum(axis=0)
    present = with_finding > 0
    complete = ~np.isnan(drawn["recall"][:, present]).any(axis=1)
    enough = {
        "recall": with_finding >= FEWEST,
        "top1_accuracy": np.asarray(patients >= FEWEST),
        "mcc": np.asarray(patients >= FEWEST),
    }
    for name, members in groups.items():
        among = members & present
        value[name] = mean_recall(value["recall"], among)
        drawn[name] = drawn["recall"][:, among].mean(axis=1) if among.any() else np.full(plan.resamples, np.nan)
        enough[name] = np.asarray((with_finding[among] >= FEWEST).all())
    found = {}
    for name, values in value.items():
        resamples = drawn[name]
        if name in ("balanced_accuracy", "macro_f1"):
            resamples = np.where(complete, resamples, np.nan)
        one = interval(values, resamples, plan, DIFFERENCE if name == "mcc" else UNIT)
        has = enough.get(name, np.asarray((with_finding[present] >= FEWEST).all()))
        low, high = (np.where(has, bound, np.nan) for bound in (one.low, one.high))
        found[name] = Interval(one.value, low, high, one.undefined, one.resamples)
    return found


def _classes(target: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Of each image its finding and the predicted one, as numbers, and how many findings there are."""
    targets, scores = cells(target, score)
    known = ~np.isnan(targets).any(axis=1)
    targets, scores = targets[known], scores[known]
    if ((targets == 1).sum(axis=1) != 1).any():
        raise ValueError("an image has no finding, or several; these metrics need exactly one")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; accuracy needs numbers")
    return targets.argmax(axis=1), scores.argmax(axis=1), targets.shape[1]

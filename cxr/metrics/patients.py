"""Sums over patients, and how many patients an interval needs.

Resampling cannot replace missing patients: the coverage of a 95% interval of a true AUROC of .80 is .155 with 1
positive patient among 200, .683 with 2, .817 with 3, .947 with 5 and .937 with 10. An interval is therefore given only
for a number that rests on at least `FEWEST` patients of each class that it depends on. The interval of a mean over
findings is limited by the rarest one: of fourteen findings, thirteen with 40 positive patients, its coverage is .68,
.89, .93 and .95 where the last has 1, 2, 3 or 5; of three findings .36, .71, .80 and .86. A mean therefore has an
interval where all its findings may have one, and `Bootstrap.supported` is the mean over those that may. Means over
images (accuracy, Brier score, calibration error) vary little with a rare finding, which does not rule out theirs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.metrics.cells import patient_numbers

FEWEST = 5  # patients of each class


def patients_by_class(target: ArrayLike, number: NDArray[np.intp], patients: int) -> NDArray[np.intp]:
    """How many patients have a positive and how many a negative image of each finding, (2, L); some have both.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        number: (N,), the patient of every image, from 0.
        patients: P.
    """
    targets = np.asarray(target)
    return np.stack([(per_patient(targets == label, number, patients) > 0).sum(axis=0) for label in (1, 0)])


def enough(target: ArrayLike, number: NDArray[np.intp], patients: int) -> NDArray[np.bool_]:
    """(L,), whether a finding has at least `FEWEST` positive and as many negative patients; as `patients_by_class`."""
    return np.asarray((patients_by_class(target, number, patients) >= FEWEST).all(axis=0))


def too_few(target: ArrayLike, patient: ArrayLike, findings: Sequence[str]) -> dict[str, dict[str, int]]:
    """Findings with fewer than `FEWEST` positive or negative patients, and how many of each they have.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        patient: (N,), the patient's id of every image.
        findings: L names.
    """
    counts = patients_by_class(target, *patient_numbers(patient, len(np.asarray(target))))
    return {
        name: {"positive": int(positive), "negative": int(negative)}
        for name, positive, negative in zip(findings, *counts, strict=True)
        if min(positive, negative) < FEWEST
    }


def per_patient(values: ArrayLike, number: NDArray[np.intp], patients: int) -> NDArray[np.float64]:
    """Sums over the images of each patient, (N, L) to (P, L) float64."""
    array = np.asarray(values, np.float64)
    return np.stack([np.bincount(number, column, patients) for column in array.T], axis=1)

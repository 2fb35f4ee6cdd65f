"""Calibration of probabilities: Brier score, expected calibration error, reliability diagrams."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from cxr.metrics.bootstrap import Bootstrap, Draws, resampled
from cxr.metrics.cells import patient_numbers, probabilities
from cxr.metrics.interval import DEFAULT, Resampling
from cxr.metrics.patients import FEWEST, enough, per_patient

_Floats = NDArray[np.float64]
BINS = 15
BIN = 80  # minimum number of images in a bin of a reliability diagram


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram of one finding; arrays are (B,), one value for each bin.

    Attributes:
        score: mean score.
        prevalence: share of positives; equal to the mean score if the scores are calibrated.
        images: how many.
        low, high: bounds of the prevalence.
    """

    score: _Floats
    prevalence: _Floats
    images: NDArray[np.intp]
    low: _Floats
    high: _Floats


def brier(target: ArrayLike, score: ArrayLike) -> _Floats:
    """Mean squared difference between probability and target (Brier 1950); 0 is best.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.

    Returns:
        (L,) float64; NaN where no target is known.
    """
    error = squared_error(target, score)
    known = (~np.isnan(error)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.nansum(error, axis=0) / known


def squared_error(target: ArrayLike, score: ArrayLike) -> _Floats:
    """(N, L) squared differences between probability and target, NaN where unknown; their mean is the Brier score."""
    targets, scores = probabilities(target, score)
    return (scores - targets.astype(np.float64)) ** 2


def expected_calibration_error(target: ArrayLike, score: ArrayLike, bins: int = BINS) -> _Floats:
    """Mean difference between score and prevalence over bins of equal width, weighted by their images.

    Naeini, Cooper and Hauskrecht, AAAI 2015, for a binary finding: the score is the probability that it is present, not
    the confidence in a decision. A bin includes its lower edge, the last bin also 1. The error is never negative, so it
    is above 0 for calibrated scores too, the more so the fewer images there are.

    Args:
        target, score: as for `brier`.
        bins: how many, at least 1.

    Returns:
        (L,) float64; NaN where no target is known.
    """
    sums, counts = _binned(target, score, np.zeros(len(np.asarray(target)), np.intp), 1, bins)
    return _error(np.ones((1, 1), np.int32), sums, counts)[0]


def bootstrap_calibration_error(
    target: ArrayLike, score: ArrayLike, patient: ArrayLike, plan: Resampling = DEFAULT, bins: int = BINS
) -> Bootstrap:
    """Intervals of the calibration error of every finding and of its mean, from resampled patients.

    Resamples have a larger error than the data, for the same reason that the data have one at all, so only their
    standard deviation is used.

    Args:
        target, score, bins: as for `expected_calibration_error`.
        patient: (N,), the patient's id of every image.
    """
    number, patients = patient_numbers(patient, len(np.asarray(target)))
    sums, counts = _binned(target, score, number, patients, bins)
    known = (counts > 0).sum(axis=0) >= FEWEST
    sufficient = enough(target, number, patients)
    return resampled(lambda times: _error(times, sums, counts), patients, sufficient, plan, in_mean=known)


def reliability_bins(target: ArrayLike, score: ArrayLike, patient: ArrayLike) -> list[Reliability]:
    """The reliability diagram of every finding: up to 10 bins of equal numbers of images, at least `BIN`.

    Equal scores share a bin; a bin that this leaves too small is merged with its neighbour. The 95% intervals are
    Wilson's (1927), with the number of patients in a bin in place of its images, since images of one patient are alike.

    Args:
        target, score: as for `brier`.
        patient: (N,), the patient's id of every image.

    Returns:
        L diagrams; one without bins where no target is known, one bin for fewer than `BIN` images.
    """
    targets, scores = probabilities(target, score)
    number, _ = patient_numbers(patient, len(targets))
    z, found = ndtri(0.975), []
    for column, values in zip(targets.T, scores.T, strict=True):
        known = column == column
        truth, values, patients = column[known], values[known], number[known]
        bins = max(1, min(10, len(values) // BIN))
        edges = np.quantile(values, np.arange(1, bins) / bins) if len(values) else np.zeros(0)
        place = _merged(np.searchsorted(edges, values, "left"))
        images = np.bincount(place)
        score_mean, share = (np.bincount(place, one) / images for one in (values, truth))
        n = np.array([len(np.unique(patients[place == k])) for k in range(len(images))], np.float64)
        centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = (np.clip((centre + sign * reach) / (1 + z**2 / n), 0, 1) for sign in (-1, 1))
        found.append(Reliability(score_mean, share, images, low, high))
    return found


def _merged(place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Bins of the images after each bin of fewer than `BIN` is merged with the next one, the last with the previous."""
    images = np.bincount(place)
    merged, current, held = np.zeros(len(images), np.intp), 0, 0
    for k, count in enumerate(images):
        merged[k], held = current, held + count
        if held >= BIN and images[k + 1 :].sum() >= BIN:
            current, held = current + 1, 0
    return merged[place]


def _binned(
    target: ArrayLike, score: ArrayLike, number: NDArray[np.intp], patients: int, bins: int
) -> tuple[_Floats, _Floats]:
    """Sums of score minus target by patient, finding and bin, (P, L * B), and known images by patient, (P, L)."""
    targets, scores = probabilities(target, score)
    known = targets == targets
    distance = np.where(known, scores - targets, 0.0)
    place = np.minimum((np.where(known, scores, 0.0) * bins).astype(np.intp), bins - 1)
    columns = [
        np.bincount(number * bins + place[:, k], distance[:, k], patients * bins).reshape(patients, bins)
        for k in range(targets.shape[1])
    ]
    return np.concatenate(columns, axis=1), per_patient(known, number, patients)


def _error(times: Draws, sums: _Floats, counts: _Floats) -> _Floats:
    """Calibration error (R, L) when patients count several times, (R, P)."""
    by_bin = np.abs(times @ sums).reshape(len(times), counts.shape[1], -1)
    with np.errstate(invalid="ignore"):
        return by_bin.sum(axis=2) / (times @ counts)

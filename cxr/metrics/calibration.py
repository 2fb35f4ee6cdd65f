"""Whether probabilities mean what they say: Brier score, calibration error, reliability curves."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.errors import CxrError
from cxr.metrics.bootstrap import Bootstrap, Draws, resampled
from cxr.metrics.cells import patient_numbers, probabilities
from cxr.metrics.interval import USUAL, Resampling
from cxr.metrics.patients import FEWEST, enough, per_patient

_Floats = NDArray[np.float64]
BINS = 15
BINNINGS = ("width", "mass")
BIN = 80  # images at least, in a bin of a reliability diagram


@dataclass(frozen=True)
class Reliability:
    """One finding's known images in bins of their score; arrays are (B,), for the bins that hold an image.

    Attributes:
        score: mean score.
        prevalence: share of positives, which calibrated scores match.
        images: how many.
    """

    score: _Floats
    prevalence: _Floats
    images: NDArray[np.intp]


@dataclass(frozen=True)
class ReliabilityBins(Reliability):
    """With an interval of each bin's prevalence.

    Attributes:
        low, high: (B,), its ends.
    """

    low: _Floats
    high: _Floats


def brier(target: ArrayLike, score: ArrayLike) -> _Floats:
    """Mean squared distance between probability and truth (Brier 1950); 0 is best.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.

    Returns:
        (L,) float64; NaN where nothing is known.

    Raises:
        ValueError: shapes, targets, or a score that counts and is not in [0, 1].
    """
    error = squared_error(target, score)
    known = (~np.isnan(error)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.nansum(error, axis=0) / known


def squared_error(target: ArrayLike, score: ArrayLike) -> _Floats:
    """(N, L) squared distances between probability and truth, NaN where unknown; their mean is the Brier score."""
    targets, scores = probabilities(target, score)
    return (scores - targets.astype(np.float64)) ** 2


def expected_calibration_error(target: ArrayLike, score: ArrayLike, bins: int = BINS, equal: str = "width") -> _Floats:
    """Mean distance between score and prevalence over the bins of each finding, weighted by their images.

    Naeini, Cooper and Hauskrecht, AAAI 2015 (equal width); Nguyen and O'Connor, EMNLP 2015 (equal mass). Of a binary
    finding: the score is the probability that it is present, not the confidence in a decision. It depends on the bins
    and is never negative, so it is above 0 for calibrated scores too, the more so the fewer images there are.

    Args:
        target, score, bins, equal: as for `reliability_curves`.

    Returns:
        (L,) float64; NaN where nothing is known.

    Raises:
        CxrError, ValueError: as for `reliability_curves`.
    """
    curves = reliability_curves(target, score, bins, equal)
    return np.array(
        [np.average(np.abs(c.score - c.prevalence), weights=c.images) if len(c.images) else np.nan for c in curves],
        np.float64,
    )


def bootstrap_calibration_error(
    target: ArrayLike,
    score: ArrayLike,
    patient: ArrayLike,
    plan: Resampling = USUAL,
    bins: int = BINS,
    equal: str = "width",
) -> Bootstrap:
    """Intervals of the calibration error of every finding and of its mean, from resampled patients.

    Resamples have a larger error than the data for the same reason for which the data have one at all, so only their
    spread is used. Bins of equal mass keep the edges that all images give.

    Args:
        target, score, bins, equal: as for `reliability_curves`.
        patient: (N,), the patient's id of every image.
        plan: how to resample.
    """
    targets, scores = _checked(target, score, bins, equal)
    number, patients = patient_numbers(patient, len(targets))
    known = targets == targets
    distance = np.where(known, scores - targets, 0.0)
    columns = []
    for k in range(targets.shape[1]):
        place = np.zeros(len(targets), np.intp)
        place[known[:, k]] = _places(scores[known[:, k], k], bins, equal)
        columns.append(np.bincount(number * bins + place, distance[:, k], patients * bins).reshape(patients, bins))
    sums, counts = np.concatenate(columns, axis=1), per_patient(known, number, patients)

    def error(times: Draws) -> _Floats:
        with np.errstate(invalid="ignore"):
            return np.abs(times @ sums).reshape(len(times), -1, bins).sum(axis=2) / (times @ counts)

    few = enough(targets, number, patients)
    return resampled(error, patients, few, plan, in_mean=(counts > 0).sum(axis=0) >= FEWEST)


def reliability_curves(
    target: ArrayLike, score: ArrayLike, bins: int = BINS, equal: str = "width"
) -> list[Reliability]:
    """The reliability curve of every finding.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.
        bins: how many, at least 1.
        equal: `width`, edges at 0, 1/B, ..., 1, a bin holds its lower edge and the last one 1 as well; or `mass`, edges
            at the scores' quantiles, so that equal scores always share a bin.

    Returns:
        L curves; one without any bin where nothing is known.

    Raises:
        CxrError: no bin, or another way to cut.
        ValueError: shapes, targets, or a score that counts and is not in [0, 1].
    """
    targets, scores = _checked(target, score, bins, equal)
    return [_curve(t[t == t], s[t == t], bins, equal) for t, s in zip(targets.T, scores.T, strict=True)]


def reliability_bins(
    target: ArrayLike, score: ArrayLike, patient: ArrayLike, most: int = 10, level: float = 0.95
) -> list[ReliabilityBins]:
    """The reliability diagram of every finding: bins of equal numbers of images, at least `BIN`, with intervals.

    Equal scores share a bin, and a bin that this leaves too small joins its neighbour. Intervals are Wilson's (1927)
    with the bin's patients in the place of its images, which count as less the more alike a patient's images are.

    Args:
        target: (N, L), 1, 0 or NaN for unknown (left out).
        score: (N, L), probabilities.
        patient: (N,), whose image each is.
        most: bins a finding.
        level: of the intervals.

    Returns:
        L diagrams; one without any bin where nothing is known, one bin where fewer than `BIN` images are.

    Raises:
        ValueError: shapes, targets, or a score that counts and is not in [0, 1].
    """
    targets, scores = _checked(target, score, most, "mass")
    number, _ = patient_numbers(patient, len(targets))
    z, found = NormalDist().inv_cdf(0.5 + level / 2), []
    for column, scored in zip(targets.T, scores.T, strict=True):
        known = column == column
        truth, scored, who = column[known], scored[known], number[known]
        place = _joined(_places(scored, max(1, min(most, len(scored) // BIN)), "mass"))
        images = np.bincount(place)
        mean, share = (np.bincount(place, values) / images for values in (scored, truth))
        n = np.array([len(np.unique(who[place == k])) for k in range(len(images))], np.float64)
        centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = (np.clip((centre + sign * reach) / (1 + z**2 / n), 0, 1) for sign in (-1, 1))
        found.append(ReliabilityBins(mean, share, images, low, high))
    return found


def _joined(place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Bins with those of fewer than `BIN` images joined to the next one, the last to the one before."""
    images = np.bincount(place)
    joined, now, held = np.zeros(len(images), np.intp), 0, 0
    for k, count in enumerate(images):
        joined[k], held = now, held + count
        if held >= BIN and images[k + 1 :].sum() >= BIN:
            now, held = now + 1, 0
    return joined[place]


def _checked(target: ArrayLike, score: ArrayLike, bins: int, equal: str) -> tuple[_Floats, _Floats]:
    if bins < 1 or equal not in BINNINGS:
        raise CxrError(
            f"bins={bins} of equal {equal!r}: bins must be at least 1 and equal one of {', '.join(BINNINGS)}"
        )
    targets, scores = probabilities(target, score)
    return targets.astype(np.float64), scores


def _places(score: _Floats, bins: int, equal: str) -> NDArray[np.intp]:
    """The bin of each score of one finding."""
    if equal == "width":
        return np.minimum((score * bins).astype(np.intp), bins - 1)
    inner = np.quantile(score, np.arange(1, bins) / bins) if len(score) else np.zeros(0)
    return np.searchsorted(inner, score, "left")


def _curve(target: _Floats, score: _Floats, bins: int, equal: str) -> Reliability:
    place = _places(score, bins, equal)
    images = np.bincount(place, minlength=bins)
    held = images > 0
    scored, positive = (np.bincount(place, column, bins)[held] / images[held] for column in (score, target))
    return Reliability(scored, positive, images[held])

"""Fits the detectors for unusual images on a run's training images, and their thresholds on its validation images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.export.verify import IMAGES, RunImages
from cxr.use.scoring import Floats, Forward
from cxr.use.unusual import CHANGES, VALUES, Detectors, Gaussian, shrunk

ALARMS = 0.05  # share of the validation images that may be unusual, for all detectors together
_MOST = 1024  # images of a split
_AXES = 16
_RIDGE = 0.1
FEWEST = 20  # images of a split
_LEAST = 1e-6  # of a variance
_STILL = 0.1  # of the mean deviation: a smaller one is taken for this, since it may be 0 in training
_DIGITS = 6


@dataclass(frozen=True)
class Shown:
    """Images of a split as the first network sees them, (N, S, S) uint8, and its features of them (N, F)."""

    images: Sequence[NDArray[np.uint8]]
    features: Floats


def fit_detectors(images: RunImages, forward: Forward, lengths: Sequence[int]) -> Detectors | None:
    """Detectors for the images of a run; None if a split has fewer than `FEWEST`.

    Args:
        images: of the run.
        forward: the first network as the bundle has it.
        lengths: of the parts of its features, a part for each stage.
    """
    if min(len(images.names(split)) for split in ("train", "val")) < FEWEST:
        return None
    return fit(_shown(images, "train", forward), _shown(images, "val", forward), lengths)


def fit(train: Shown, val: Shown, lengths: Sequence[int]) -> Detectors:
    """Detectors from images of training and validation.

    The model of changes is a linear regression on all rotations and inversions of the training images, which need no
    labels. All detectors have the same rate of false alarms, chosen so that together they have 5%.
    """
    changed = [sign * np.stack([shrunk(np.rot90(image, turns).copy()) for image in train.images])
               for sign in (1, -1) for turns in range(4)]  # fmt: skip
    inputs = np.concatenate(changed)
    inputs = np.c_[inputs, np.ones(len(inputs))]
    outputs = np.repeat(np.eye(len(CHANGES)), len(train.images), axis=0)
    gram = inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    change = np.linalg.solve(gram, inputs.T @ outputs)
    parts = np.split(train.features, np.cumsum(lengths)[:-1], axis=1) if lengths else []
    pixels = _gaussian(inputs[: len(train.images), :-1])
    fitted = Detectors(_plain(change), pixels, tuple(map(_gaussian, parts)), (0.0,) * len(VALUES), 0.0)
    values = np.stack([fitted.values(*one) for one in zip(val.images, val.features, strict=True)])
    thresholds = _thresholds(values)
    alarms = float((values > thresholds).any(axis=1).mean())
    return replace(fitted, thresholds=tuple(thresholds.tolist()), false_alarms=alarms)


def _gaussian(numbers: NDArray[np.floating[Any]]) -> Gaussian:
    """The distribution of numbers (N, C)."""
    mean, deviation = numbers.mean(axis=0, dtype=np.float64), numbers.std(axis=0, dtype=np.float64)
    deviation = np.maximum(deviation, _STILL * deviation.mean() + _LEAST)
    _, lengths, axes = np.linalg.svd((numbers - mean) / deviation, full_matrices=False)
    count = min(_AXES, len(lengths) // 2)
    variance = lengths**2 / len(numbers)
    left = variance[count:].sum() / (numbers.shape[1] - count)
    kept = np.maximum(np.append(variance[:count], left), _LEAST)
    return Gaussian(_plain(mean), _plain(deviation), _plain(axes[:count]), _plain(kept))


def _thresholds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds (D,) of values (N, D) that have about the same share above each and at most `ALARMS` above any."""
    above = (values[:, None] >= values[None]).mean(axis=0)  # (N, D) share of images with at least this value
    rarest = np.sort(above.min(axis=1))
    level = rarest[int(ALARMS * len(rarest))]  # images whose rarest value is rarer than this are unusual
    return np.array([np.max(column[share >= level]) for column, share in zip(values.T, above.T, strict=True)])


def _shown(images: RunImages, split: str, forward: Forward) -> Shown:
    """Images of a split, evenly spaced."""
    names, views, features = images.names(split), list[NDArray[np.uint8]](), list[Floats]()
    names = names[:: -(-len(names) // _MOST)]
    for start in range(0, len(names), IMAGES):
        sample = images.sample(names[start : start + IMAGES])
        first = np.stack([each[0] for each in sample.views])
        views += list(first)
        pooled = forward(first[:, None], sample.attributes)[2]
        assert pooled is not None
        features.append(pooled)
    return Shown(views, np.concatenate(features))


def _plain(values: NDArray[np.float64]) -> tuple:  # type: ignore[type-arg]
    """Nested tuples of numbers with few digits, since a bundle is text."""
    if values.ndim > 1:
        return tuple(map(_plain, values))
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)

"""Fits the detectors for unusual images on a run's training images, and their thresholds on its validation images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxr.export.verify import IMAGES, RunImages
from cxr.use.unusual import CHANGES, Detectors, shrunk

ALARMS = 0.05  # share of the validation images that may be unusual, for all detectors together
_MOST = 2048  # images of a split
_AXES = 20
_RIDGE = 0.1
FEWEST = 20  # images of a split
_LEAST = 1e-9  # of a variance
_DIGITS = 7


def fit_detectors(images: RunImages) -> Detectors | None:
    """Detectors for the images of a run; None if a split has fewer than `FEWEST`.

    The model of changes is a linear regression on all rotations and inversions of the training images, which need no
    labels. All detectors have the same rate of false alarms, chosen so that together they have 5%.
    """
    train, val = list(_images(images, "train")), list(_images(images, "val"))
    return fit(train, val) if min(len(train), len(val)) >= FEWEST else None


def fit(train: list[NDArray[np.uint8]], val: list[NDArray[np.uint8]]) -> Detectors:
    """Detectors from images (S, S) uint8."""
    pixels = np.stack([shrunk(image) for image in train])
    changed = [sign * np.stack([shrunk(np.rot90(image, turns).copy()) for image in train])
               for sign in (1, -1) for turns in range(4)]  # fmt: skip
    inputs = np.concatenate(changed)
    inputs = np.c_[inputs, np.ones(len(inputs))]
    outputs = np.repeat(np.eye(len(CHANGES)), len(train), axis=0)
    gram = inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    change = np.linalg.solve(gram, inputs.T @ outputs)

    mean = pixels.mean(axis=0)
    _, deviation, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    count = min(_AXES, len(train) // 2)
    variance = deviation**2 / len(train)
    left = variance[count:].sum() / (pixels.shape[1] - count)
    kept = np.maximum(np.append(variance[:count], left), _LEAST)

    fitted = Detectors(_plain(change), _plain(mean), _plain(axes[:count]), _plain(kept), (0.0,) * 3, 0.0)
    values = np.stack([fitted.values(image) for image in val])
    thresholds = _thresholds(values)
    alarms = float((values > thresholds).any(axis=1).mean())
    return Detectors(fitted.change, fitted.mean, fitted.axes, fitted.variance, tuple(thresholds.tolist()), alarms)


def _thresholds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds (D,) of values (N, D) that have about the same share above each and at most `ALARMS` above any."""
    above = (values[:, None] >= values[None]).mean(axis=0)  # (N, D) share of images with at least this value
    rarest = np.sort(above.min(axis=1))
    level = rarest[int(ALARMS * len(rarest))]  # images whose rarest value is rarer than this are unusual
    return np.array([np.max(column[share >= level]) for column, share in zip(values.T, above.T, strict=True)])


def _images(images: RunImages, split: str) -> Iterator[NDArray[np.uint8]]:
    """Images of a split, evenly spaced, as the first network of the system sees them."""
    names = images.names(split)
    names = names[:: -(-len(names) // _MOST)] if names else []
    for start in range(0, len(names), IMAGES):
        for views in images.sample(names[start : start + IMAGES]).views:
            yield views[0]


def _plain(values: NDArray[np.float64]) -> tuple:  # type: ignore[type-arg]
    """Nested tuples of numbers with few digits, since a bundle is text."""
    if values.ndim > 1:
        return tuple(map(_plain, values))
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)

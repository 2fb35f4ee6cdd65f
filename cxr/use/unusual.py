"""Detectors for images unlike those that a system was trained on: turned, inverted, degraded, or something else.

There are three detectors: a linear model of rotations and inversions, and a Gaussian, both of 16 x 16 pixels; and
Gaussians of the first network's features, averaged over the image, at each of its resolutions.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError

SIDE = 16  # pixels
LONGEST = 2.0  # aspect ratio from which an image is unusual
_LARGEST = 1e9  # of a number of the detectors
_MOST_STAGES = 32
_EVEN = 1e-3  # added to a standard deviation
TURNED = ("rotated to the left", "upside down", "rotated to the right")
CHANGES = ("", *TURNED, "inverted", *(f"inverted and {turned}" for turned in TURNED))
VALUES = ("changed", "pixels", "features")
_Floats = NDArray[np.float64]
_Given = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Gaussian:
    """The distribution of C numbers over the training images: probabilistic principal components.

    Source: Tipping and Bishop, "Probabilistic Principal Component Analysis", JRSS B 61, 1999.

    Attributes:
        mean: (C,).
        deviation: (C,), by which numbers are divided first.
        axes: (K, C) principal axes.
        variance: (K + 1,) along the axes, and of what they leave, per number.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    variance: tuple[float, ...]

    @cached_property
    def _arrays(self) -> tuple[_Floats, ...]:
        axes = np.reshape(self.axes, (-1, len(self.mean)))
        return np.array(self.mean), np.array(self.deviation), axes, np.array(self.variance)

    def distance(self, numbers: _Given) -> float:
        """The Mahalanobis distance, squared, of an image's numbers (C,)."""
        mean, deviation, axes, variance = self._arrays
        away = (numbers - mean) / deviation
        along = axes @ away
        rest = away - along @ axes  # not a difference of squares, which rounding could make negative
        return float((along**2 / variance[:-1]).sum() + rest @ rest / variance[-1])


@dataclass(frozen=True)
class Detectors:
    """Detectors that were fitted on images of a run, see `cxr.export.detectors`.

    Attributes:
        change: (257, 8) of a linear model whose outputs say which of `CHANGES` an image has.
        pixels: of 16 x 16 pixels.
        stages: of the first network's features at each resolution, which lie one after another.
        thresholds: (3,) of `VALUES`, above which an image is unusual.
        false_alarms: share of the validation images that are.
    """

    change: tuple[tuple[float, ...], ...]
    pixels: Gaussian
    stages: tuple[Gaussian, ...]
    thresholds: tuple[float, ...]
    false_alarms: float

    @property
    def features(self) -> int:
        """F, the number of features of all stages."""
        return sum(len(stage.mean) for stage in self.stages)

    @cached_property
    def _change(self) -> _Floats:
        return np.array(self.change)

    def changes(self, image: NDArray[np.uint8]) -> _Floats:
        """Outputs (8,) of the linear model for an image (S, S)."""
        return np.asarray(np.append(shrunk(image), 1) @ self._change)

    def values(self, image: NDArray[np.uint8], features: _Given) -> _Floats:
        """`VALUES` (3,) of an image (S, S) uint8 and its features (F,).

        `changed` is the largest output of a change minus that of an unchanged image. `pixels` is a Mahalanobis
        distance, squared. `features` is the sum of the logarithms of those of the stages, plus one each, so that a
        stage with few features counts as one with many.
        """
        outputs = self.changes(image)
        ends = np.cumsum([len(stage.mean) for stage in self.stages])[:-1]
        parts = np.split(features, ends) if self.stages else []
        far = sum(np.log1p(stage.distance(part)) for stage, part in zip(self.stages, parts, strict=True))
        return np.array([outputs[1:].max() - outputs[0], self.pixels.distance(shrunk(image)), far])

    def warnings(self, image: NDArray[np.uint8], values: _Floats) -> list[str]:
        """What is unusual about an image (S, S) uint8 with these `values`."""
        changed, *unlike = values > np.array(self.thresholds)
        found = [f"looks {CHANGES[1 + int(self.changes(image)[1:].argmax())]}"] * bool(changed)
        return found + ["is unlike the training images"] * any(unlike)

    def as_plain(self) -> dict[str, Any]:
        """Lists and numbers, which `read_detectors` reads."""
        return asdict(self)


def shrunk(image: NDArray[np.uint8]) -> _Floats:
    """An image (S, S) as 16 x 16 pixels (256,) of mean 0 and standard deviation 1."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64).ravel() / 255
    return np.asarray((small - small.mean()) / (small.std() + _EVEN))


def stretched(height: int, width: int) -> list[str]:
    """A warning if an image is much longer in one direction."""
    ratio = max(height, width) / min(height, width)
    return [f"has the aspect ratio {ratio:.1f}"] * (ratio > LONGEST)


def read_detectors(about: Any, origin: str) -> Detectors:
    """Detectors as bundles have them.

    Raises:
        CxrError: they are not what export writes; `origin` is named.
    """
    try:
        change = _numbers(about["change"], SIDE * SIDE + 1, len(CHANGES))
        _require(isinstance(about["stages"], list) and len(about["stages"]) <= _MOST_STAGES)
        pixels, stages = _gaussian(about["pixels"]), tuple(map(_gaussian, about["stages"]))
        _require(len(pixels.mean) == SIDE * SIDE)
        thresholds = _numbers(about["thresholds"], len(VALUES))
        return Detectors(change, pixels, stages, thresholds, _numbers(about["false_alarms"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CxrError(f"{origin} is damaged: detectors is not what export writes; export the run again") from None


def _gaussian(about: Mapping[str, Any]) -> Gaussian:
    count, axes = len(about["mean"]), len(about["axes"])
    deviation, variance = _numbers(about["deviation"], count), _numbers(about["variance"], axes + 1)
    _require(axes < count and min(*deviation, *variance) > 0)
    return Gaussian(
        _numbers(about["mean"], count), deviation, _numbers(about["axes"], axes, count) if axes else (), variance
    )


def _numbers(value: Any, *shape: int) -> Any:
    """Nested tuples of finite numbers in this shape."""
    array = np.array(value)
    _require(array.dtype.kind in "if" and array.shape == shape and bool((np.abs(array) < _LARGEST).all()))
    return _tuples(array.tolist())


def _require(holds: bool) -> None:  # python -O leaves assertions out
    if not holds:
        raise ValueError


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else float(value)

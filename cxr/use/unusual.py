"""Detectors for images unlike those that a system was trained on: turned, inverted, bordered, or something else.

They look at 16 x 16 pixels, with the arithmetic of linear models, so that they cost microseconds and need no network.
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
_FLAT = 3  # gray levels within a row or column of a border
_LARGEST = 1e9  # of a number of the detectors
_EVEN = 1e-3  # added to a standard deviation
TURNED = ("rotated to the left", "upside down", "rotated to the right")
CHANGES = ("", *TURNED, "inverted", *(f"inverted and {turned}" for turned in TURNED))
VALUES = ("changed", "distance", "border")
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detectors:
    """Detectors that were fitted on images of a run, see `cxr.export.detectors`.

    Attributes:
        change: (257, 8) of a linear model whose outputs say which of `CHANGES` an image has.
        mean: (256,) of the images.
        axes: (K, 256) principal axes.
        variance: (K + 1,) along the axes, and of what they leave, per pixel.
        thresholds: (3,) of `VALUES`, above which an image is unusual.
        false_alarms: share of the validation images that are.
    """

    change: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    variance: tuple[float, ...]
    thresholds: tuple[float, ...]
    false_alarms: float

    @cached_property
    def _arrays(self) -> tuple[_Floats, ...]:
        return tuple(map(np.array, (self.change, self.mean, self.axes, self.variance)))

    def changes(self, image: NDArray[np.uint8]) -> _Floats:
        """Outputs (8,) of the linear model for an image (S, S)."""
        return np.asarray(np.append(shrunk(image), 1) @ self._arrays[0])

    def values(self, image: NDArray[np.uint8]) -> _Floats:
        """`VALUES` (3,) of an image (S, S) uint8.

        `changed` is the largest output of a change minus that of an unchanged image. `distance` is the Mahalanobis
        distance, squared, under probabilistic principal components (Tipping and Bishop, JRSS B 61, 1999). `border` is
        the share of rows and columns at the edges that are even.
        """
        outputs = self.changes(image)
        _, mean, axes, variance = self._arrays
        away = shrunk(image) - mean
        along = axes @ away
        distance = (along**2 / variance[:-1]).sum() + (away @ away - along @ along) / variance[-1]
        return np.array([outputs[1:].max() - outputs[0], distance, border(image)])

    def warnings(self, image: NDArray[np.uint8], values: _Floats | None = None) -> list[str]:
        """What is unusual about an image (S, S) uint8; `values` are its own, if they are known."""
        changed, distance, edge = (self.values(image) if values is None else values) > np.array(self.thresholds)
        found = [f"looks {CHANGES[1 + int(self.changes(image)[1:].argmax())]}"] * bool(changed)
        return found + ["has a wide border"] * bool(edge) + ["is unlike the training images"] * bool(distance)

    def as_plain(self) -> dict[str, Any]:
        """Lists and numbers, which `read_detectors` reads."""
        return asdict(self)


def shrunk(image: NDArray[np.uint8]) -> _Floats:
    """An image (S, S) as 16 x 16 pixels (256,) of mean 0 and standard deviation 1."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64).ravel() / 255
    return np.asarray((small - small.mean()) / (small.std() + _EVEN))


def border(image: NDArray[np.uint8]) -> float:
    """The share of an image's rows and columns, whichever is larger, that lie in even stripes at its edges."""
    shares = []
    for lines in (image, image.T):
        uneven = np.flatnonzero(np.ptp(lines, axis=1) > _FLAT)
        shares.append(1 - (uneven[-1] - uneven[0] + 1) / len(lines) if len(uneven) else 1.0)
    return float(max(shares))


def stretched(height: int, width: int) -> list[str]:
    """A warning if an image is much longer in one direction."""
    ratio = max(height, width) / min(height, width)
    return [f"has the aspect ratio {ratio:.1f}"] * (ratio > LONGEST)


def read_detectors(about: Any, origin: str) -> Detectors:
    """Detectors as bundles have them.

    Raises:
        CxrError: they are not what export writes; `origin` is named.
    """
    pixels = SIDE * SIDE
    try:
        assert isinstance(about, Mapping)
        axes = len(about["axes"])
        assert 1 <= axes < pixels
        shapes = {"change": (pixels + 1, len(CHANGES)), "mean": (pixels,), "axes": (axes, pixels),
                  "variance": (axes + 1,), "thresholds": (len(VALUES),), "false_alarms": ()}  # fmt: skip
        arrays = {name: np.array(about[name]) for name in shapes}
        for name, shape in shapes.items():
            numeric = arrays[name].dtype.kind in "if" and arrays[name].shape == shape
            assert numeric and (np.abs(arrays[name]) < _LARGEST).all()
        assert (arrays["variance"] > 0).all()
    except (AssertionError, KeyError, TypeError, ValueError):
        raise CxrError(f"{origin} is damaged: detectors is not what export writes; export the run again") from None
    return Detectors(*(_tuples(arrays[name].tolist()) for name in shapes))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else float(value)

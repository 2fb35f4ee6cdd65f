"""Transforms of training images: geometric ones as matrices, tonal ones as curves of gray values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError

Matrices = NDArray[np.float64]


class Geometric(ABC):
    """A transform that moves pixels.

    Attributes:
        numbers: uniform random numbers per image.
        crops: whether it chooses a part of the cached image, which is then not cropped in addition.
    """

    numbers: int
    crops: ClassVar[bool] = False

    @abstractmethod
    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """(B, 3, 3) maps of (x, y, 1) in pixels from the image's centre, from a pixel's old to its new position.

        Args:
            drawn: (B, numbers) uniform numbers.
            size: side of the network's image in pixels.
        """


class Tonal(ABC):
    """A transform of gray values, the same for all pixels.

    Attributes:
        numbers: uniform random numbers per image.
    """

    numbers: int

    @abstractmethod
    def curves(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, 256) in [0, 1]: the new value of each gray value.

        Args:
            drawn: (B, numbers) uniform numbers.
        """


class Flip(Geometric):
    """Mirrors left and right.

    Args:
        p: probability, in [0, 1].
    """

    numbers = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = _share("p", p)

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """See `Geometric`."""
        maps = identity(len(drawn))
        maps[:, 0, 0] = np.where(drawn[:, 0] < self.p, -1.0, 1.0)
        return maps


class Affine(Geometric):
    """Rotation, shear, scaling and shift about the centre, each uniform in its range.

    Args:
        rotate: degrees, (low, high); positive turns clockwise.
        shift: share of the side, (low, high), drawn for x and for y.
        scale: factor, (low, high); above 1 enlarges.
        shear: degrees along x, (low, high).
        p: probability, in [0, 1].
    """

    numbers = 6

    def __init__(
        self,
        rotate: Sequence[float] = (0, 0),
        shift: Sequence[float] = (0, 0),
        scale: Sequence[float] = (1, 1),
        shear: Sequence[float] = (0, 0),
        p: float = 1.0,
    ) -> None:
        self.rotate, self.shift, self.shear = _range("rotate", rotate), _range("shift", shift), _range("shear", shear)
        self.scale = _range("scale", scale)
        self.p = _share("p", p)
        if self.scale[0] <= 0:
            raise CxrError(f"scale={list(scale)} must be above 0")
        if max(map(abs, self.shear)) >= 90:
            raise CxrError(f"shear={list(shear)} must be between -90 and 90 degrees")

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """See `Geometric`."""
        angle = np.deg2rad(_between(self.rotate, drawn[:, 1]))
        scale, shear = _between(self.scale, drawn[:, 2]), np.tan(np.deg2rad(_between(self.shear, drawn[:, 3])))
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        maps = identity(len(drawn))
        maps[:, 0, 0], maps[:, 0, 1] = cosine, cosine * shear - sine
        maps[:, 1, 0], maps[:, 1, 1] = sine, sine * shear + cosine
        maps[:, 0, 2], maps[:, 1, 2] = (size * _between(self.shift, drawn[:, k]) for k in (4, 5))
        maps[drawn[:, 0] >= self.p] = np.eye(3)
        return maps


class RandomResizedCrop(Geometric):
    """Resizes a random rectangle of the cached image to the whole (Szegedy et al., CVPR 2015).

    Up to ten rectangles are drawn, the area uniform in its range and the ratio log-uniform. The first that fits into
    the image is used, or the whole image if none does, as in torchvision.

    Args:
        scale: share of the image's area, (low, high), above 0 and at most 1.
        ratio: width / height of the rectangle, (low, high).

    Raises:
        CxrError: a range.
    """

    numbers, crops = 22, True  # ten areas, ten ratios, a place

    def __init__(self, scale: Sequence[float] = (0.08, 1), ratio: Sequence[float] = (3 / 4, 4 / 3)) -> None:
        self.scale, self.ratio = _range("scale", scale), _range("ratio", ratio)
        if self.scale[0] <= 0 or self.scale[1] > 1 or self.ratio[0] <= 0:
            raise CxrError(f"scale={list(scale)} must lie in (0, 1], and ratio={list(ratio)} be above 0")

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """See `Geometric`."""
        area = _between(self.scale, drawn[:, :10])
        ratio = np.exp(_between((np.log(self.ratio[0]), np.log(self.ratio[1])), drawn[:, 10:20]))
        sides = np.sqrt(np.stack([area * ratio, area / ratio], axis=2))  # (B, 10, 2), shares of the image's side
        fits = sides.max(axis=2) <= 1
        chosen = sides[np.arange(len(drawn)), fits.argmax(axis=1)]
        chosen[~fits.any(axis=1)] = 1
        centre = (drawn[:, 20:] - 0.5) * (1 - chosen)
        maps = identity(len(drawn))
        maps[:, [0, 1], [0, 1]] = 1 / chosen
        maps[:, :2, 2] = -centre * size / chosen
        return maps


class Tone(Tonal):
    """Gamma, then contrast about the middle gray, then brightness, each uniform in its range.

    Args:
        brightness: added value, (low, high); white is 1.
        contrast: factor, (low, high).
        gamma: exponent, (low, high); below 1 lightens.
        p: probability, in [0, 1].
    """

    numbers = 4

    def __init__(
        self,
        brightness: Sequence[float] = (0, 0),
        contrast: Sequence[float] = (1, 1),
        gamma: Sequence[float] = (1, 1),
        p: float = 1.0,
    ) -> None:
        self.brightness, self.contrast = _range("brightness", brightness), _range("contrast", contrast)
        self.gamma = _range("gamma", gamma)
        self.p = _share("p", p)
        if self.gamma[0] <= 0 or self.contrast[0] < 0:
            raise CxrError(f"gamma={list(gamma)} must be above 0, and contrast={list(contrast)} 0 or above")

    def curves(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Tonal`."""
        gray = np.arange(256) / 255
        gamma = _between(self.gamma, drawn[:, 1])[:, None]
        contrast, added = _between(self.contrast, drawn[:, 2])[:, None], _between(self.brightness, drawn[:, 3])[:, None]
        changed = np.clip((gray**gamma - 0.5) * contrast + 0.5 + added, 0, 1)
        return np.where(drawn[:, :1] < self.p, changed, gray)


def identity(count: int) -> Matrices:
    """(count, 3, 3) identity maps."""
    return np.tile(np.eye(3), (count, 1, 1))


def _between(limits: tuple[float, float], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    return limits[0] + (limits[1] - limits[0]) * drawn


def _range(name: str, value: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        raise CxrError(f"{name}={value} must be two numbers [low, high]") from None
    if not (np.isfinite([low, high]).all() and low <= high):
        raise CxrError(f"{name}={list(value)} must be two numbers [low, high] in order")
    return low, high


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise CxrError(f"{name}={value} must be between 0 and 1")
    return float(value)

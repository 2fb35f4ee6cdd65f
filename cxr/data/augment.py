"""Random changes of training images: each transform draws for itself, and one warp does all that moves pixels.

What a transform draws for an image is a function of (seed, epoch, image, repeat, transform) and of nothing else, so
that neither the number of workers nor the place where a run was cut changes a pixel. (Seeding `albumentations.Compose`
gives all of its transforms one and the same stream, so that they fire together.)

Geometric maps are composed, together with the way from the cache's size to the network's, into a single bilinear
interpolation, which is faster than one each and blurs less; tone curves become one table. Transforms of albumentations
may follow.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version at import

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CROP = 0x0C09  # number of the stream that places crops; those of transforms are their places in the list
_EXACT = 1e-9  # two matrices that differ less are the same map

Matrices = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Which images a batch shows, each field (B,) int64.

    Attributes:
        epoch: of each.
        index: row of the catalog.
        repeat: how many times the epoch has shown the image before, for samplers that repeat images.
    """

    epoch: NDArray[np.int64]
    index: NDArray[np.int64]
    repeat: NDArray[np.int64]

    @classmethod
    def of(cls, index: Sequence[int] | NDArray[np.int64], epoch: int = 0) -> "Draws":
        """The first showing of images in an epoch."""
        rows = np.asarray(index, np.int64)
        return cls(np.full_like(rows, epoch), rows, np.zeros_like(rows))


def uniform(seed: int, draws: Draws, stream: int, numbers: int) -> NDArray[np.float64]:
    """(B, numbers) in [0, 1): a hash of (seed, epoch, index, repeat, stream, number), without any state.

    Each part is added in turn and mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable
    Pseudorandom Number Generators", OOPSLA 2014).
    """
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        state = _mix(np.uint64(seed & (2**64 - 1)) + _GOLDEN)
        for part in (draws.epoch, draws.index, draws.repeat):
            state = _mix(state + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        state = _mix(state + np.uint64(stream + 1) * _GOLDEN)
        bits = _mix(state[:, None] + np.arange(1, numbers + 1, dtype=np.uint64) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: Any) -> Any:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Geometric:
    """A transform that moves pixels.

    Attributes:
        numbers: uniform numbers that it needs an image.
    """

    numbers: int

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """(B, 3, 3) maps of (x, y, 1) in pixels from the image's centre, from where a pixel is to where it goes.

        Args:
            drawn: (B, numbers) uniform numbers.
            size: side of the network's image in pixels.
        """
        raise NotImplementedError


class Tonal:
    """A transform that changes gray values alike everywhere.

    Attributes:
        numbers: uniform numbers that it needs an image.
    """

    numbers: int

    def curves(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, 256) in [0, 1]: what each gray value becomes.

        Args:
            drawn: (B, numbers) uniform numbers.
        """
        raise NotImplementedError


class Flip(Geometric):
    """Mirrors left and right.

    Args:
        p: how often, in [0, 1].
    """

    numbers = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = _share("p", p)

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """See `Geometric`."""
        maps = _identity(len(drawn))
        maps[:, 0, 0] = np.where(drawn[:, 0] < self.p, -1.0, 1.0)
        return maps


class Affine(Geometric):
    """Rotation, shear, scaling and shift about the centre, each uniform in its range.

    Args:
        rotate: degrees, (low, high); positive turns clockwise.
        shift: share of the side, (low, high), drawn for x and for y.
        scale: factor, (low, high); above 1 enlarges.
        shear: degrees along x, (low, high).
        p: how often, in [0, 1].
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
            raise CxrError(f"shear={list(shear)} must lie between -90 and 90 degrees")

    def matrices(self, drawn: NDArray[np.float64], size: int) -> Matrices:
        """See `Geometric`."""
        angle = np.deg2rad(_between(self.rotate, drawn[:, 1]))
        scale, shear = _between(self.scale, drawn[:, 2]), np.tan(np.deg2rad(_between(self.shear, drawn[:, 3])))
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        maps = _identity(len(drawn))
        maps[:, 0, 0], maps[:, 0, 1] = cosine, cosine * shear - sine
        maps[:, 1, 0], maps[:, 1, 1] = sine, sine * shear + cosine
        maps[:, 0, 2], maps[:, 1, 2] = (size * _between(self.shift, drawn[:, k]) for k in (4, 5))
        maps[drawn[:, 0] >= self.p] = np.eye(3)
        return maps


class Tone(Tonal):
    """Gamma, then contrast about the middle gray, then brightness, each uniform in its range.

    Args:
        brightness: added, (low, high), where white is 1.
        contrast: factor, (low, high).
        gamma: exponent, (low, high); below 1 lightens.
        p: how often, in [0, 1].
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


class Augmentation:
    """Turns images of the cache into images for the network, with random changes in training.

    Args:
        transforms: `Geometric`, `Tonal`, or of albumentations; none leaves images as they are.
        seed: of the run.
    """

    def __init__(self, transforms: Sequence[Any] = (), seed: int = 0) -> None:
        self.seed = seed
        numbered = list(enumerate(transforms))
        self.geometric = [(k, t) for k, t in numbered if isinstance(t, Geometric)]
        self.tonal = [(k, t) for k, t in numbered if isinstance(t, Tonal)]
        self.others = [(k, t) for k, t in numbered if not isinstance(t, Geometric | Tonal)]
        for _, transform in self.others:
            if not hasattr(transform, "set_random_state"):
                raise CxrError(f"{type(transform).__name__} is not a transform: use cxr.data.augment or albumentations")

    def __call__(
        self, images: Sequence[np.ndarray], draws: Draws, size: int, crop: bool = False, chance: bool = True
    ) -> np.ndarray:
        """Shows a batch.

        Args:
            images: B of (C, C) uint8.
            draws: which images of which epoch they are.
            size: side of what comes out.
            crop: cut `size` pixels out of the C; otherwise the whole image is resized.
            chance: the cut is anywhere; otherwise in the middle.

        Returns:
            (B, size, size) uint8.
        """
        shown = np.empty((len(images), size, size), np.uint8)
        if not len(images):
            return shown
        maps = self._maps(draws, len(images[0]), size, crop, chance)
        for image, map_, place in zip(images, maps, shown, strict=True):
            _show(image, map_, place)
        if self.tonal:
            for image, table in zip(shown, self._tables(draws), strict=True):
                cv2.LUT(image, table, dst=image)
        for number, transform in self.others:
            for row, image in enumerate(shown):
                shown[row] = self._foreign(transform, number, draws, row, image)
        return shown

    def _maps(self, draws: Draws, cached: int, size: int, crop: bool, chance: bool) -> Matrices:
        """(B, 3, 3) from (x, y, 1) of a pixel that comes out to where it is in the cache's image."""
        count = len(draws.index)
        moved = _identity(count)
        for number, transform in self.geometric:
            drawn = uniform(self.seed, draws, number, transform.numbers)
            moved = transform.matrices(drawn, size) @ moved
        back = np.linalg.inv(moved) if self.geometric else moved
        to_centre, from_centre = np.eye(3), _identity(count)
        to_centre[:2, 2] = -(size - 1) / 2
        if crop:
            spare = cached - size
            corner = np.full((count, 2), spare // 2)
            if chance:
                corner = np.floor(uniform(self.seed, draws, _CROP, 2) * (spare + 1)).astype(int)
            from_centre[:, :2, 2] = corner + (size - 1) / 2
        else:
            from_centre[:] *= cached / size
            from_centre[:, 2, 2] = 1
            from_centre[:, :2, 2] = (cached - 1) / 2
        return from_centre @ back @ to_centre

    def _tables(self, draws: Draws) -> NDArray[np.uint8]:
        """(B, 256) what each gray value becomes, rounded once at the end."""
        tables = np.broadcast_to(np.arange(256) / 255, (len(draws.index), 256))
        for number, transform in self.tonal:
            curves = transform.curves(uniform(self.seed, draws, number, transform.numbers))
            place = tables * 255
            low = np.minimum(place.astype(int), 254)
            rows = np.arange(len(tables))[:, None]
            tables = curves[rows, low] + (place - low) * (curves[rows, low + 1] - curves[rows, low])
        return np.rint(tables * 255).astype(np.uint8)

    def _foreign(self, transform: Any, number: int, draws: Draws, row: int, image: np.ndarray) -> np.ndarray:
        key = [self.seed, *(int(part[row]) for part in (draws.epoch, draws.index, draws.repeat)), number]
        sequence = np.random.SeedSequence(key)
        numbers = np.random.Generator(np.random.PCG64(sequence))
        transform.set_random_state(numbers, random.Random(int(sequence.generate_state(1, np.uint64)[0])))
        changed: np.ndarray = transform(image=image)["image"]
        if changed.shape != image.shape or changed.dtype != np.uint8:
            raise CxrError(
                f"{type(transform).__name__} turns {image.shape} uint8 into {changed.shape} {changed.dtype}; use only "
                "transforms that keep shape and kind"
            )
        return changed


def _show(image: np.ndarray, place_of: NDArray[np.float64], shown: np.ndarray) -> None:
    """Fills `shown` (S, S) with the pixels at the mapped places of `image`: a copy, a resize or a warp.

    Places between pixels are interpolated bilinearly, and those outside reflect the image. An image of twice the size
    or more is first brought to S by area, so that no pixel is passed over.
    """
    size, cached = len(shown), len(image)
    (a, b, x), (c, d, y) = place_of[0], place_of[1]
    if abs(b) < _EXACT and abs(c) < _EXACT and abs(abs(a) - d) < _EXACT:  # no turn: a copy or a resize, maybe mirrored
        left = x if a > 0 else x - d * (size - 1)
        column, row = round(left), round(y)
        if (
            abs(d - 1) < _EXACT
            and max(abs(left - column), abs(y - row)) < _EXACT
            and min(column, row) >= 0
            and max(column, row) + size <= cached
        ):
            part = image[row : row + size, column : column + size]
            shown[:] = part if a > 0 else part[:, ::-1]
            return
        if abs(d - cached / size) < _EXACT and max(abs(left - (d - 1) / 2), abs(y - (d - 1) / 2)) < _EXACT:
            _resize(image, shown)
            if a < 0:
                shown[:] = shown[:, ::-1].copy()
            return
    if cached >= 2 * size:
        smaller = np.empty_like(shown)
        _resize(image, smaller)
        ratio = size / cached
        place_of = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]]) @ place_of
        image = smaller
    cv2.warpAffine(
        image,
        place_of[:2],
        (size, size),
        dst=shown,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _resize(image: np.ndarray, shown: np.ndarray) -> None:
    size = len(shown)
    if image.shape == shown.shape:
        shown[:] = image
        return
    method = cv2.INTER_AREA if len(image) >= 2 * size else cv2.INTER_LINEAR
    cv2.resize(image, (size, size), dst=shown, interpolation=method)


def _identity(count: int) -> Matrices:
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
        raise CxrError(f"{name}={value} must lie between 0 and 1")
    return float(value)

"""RandAugment: for each image a few operations, drawn at random, of one strength."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cxr.errors import CxrError

_FILL = 114  # gray of pixels from outside the image: the mean of ImageNet
_LARGEST = 10.0


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_FILL)


def _factor(x: float) -> float:
    return max(0.1, 1 + 0.9 * x)


# By name, from an image and a strength x in [-1, 1], whose sign is random; operations without direction use |x|.
OPERATIONS: Mapping[str, Callable[[Image.Image, float], Image.Image]] = {
    "AutoContrast": lambda image, x: ImageOps.autocontrast(image),
    "Equalize": lambda image, x: ImageOps.equalize(image),
    "Invert": lambda image, x: ImageOps.invert(image),
    "Rotate": lambda image, x: image.rotate(30 * x, Image.Resampling.BILINEAR, fillcolor=_FILL),
    "Posterize": lambda image, x: ImageOps.posterize(image, max(1, 4 - int(4 * abs(x)))),
    "Solarize": lambda image, x: ImageOps.solarize(image, 256 - int(256 * abs(x))),
    "SolarizeAdd": lambda image, x: image.point([min(255, g + int(110 * abs(x)) * (g < 128)) for g in range(256)]),
    "Contrast": lambda image, x: ImageEnhance.Contrast(image).enhance(_factor(x)),
    "Brightness": lambda image, x: ImageEnhance.Brightness(image).enhance(_factor(x)),
    "Sharpness": lambda image, x: ImageEnhance.Sharpness(image).enhance(_factor(x)),
    "ShearX": lambda image, x: _moved(image, 1, 0.3 * x, 0, 0, 1, 0),
    "ShearY": lambda image, x: _moved(image, 1, 0, 0, 0.3 * x, 1, 0),
    "TranslateX": lambda image, x: _moved(image, 1, 0, 0.45 * x * image.width, 0, 1, 0),
    "TranslateY": lambda image, x: _moved(image, 1, 0, 0, 0, 1, 0.45 * x * image.height),
}


class RandAugment:
    """Cubuk et al., CVPR Workshops 2020, as timm's `rand-m9-mstd0.5-inc1` without its operation on color.

    For each image, `operations` of the table above are drawn with replacement. Each is applied with probability 0.5, at
    the strength magnitude + spread * N(0, 1), cut to [0, 10], where 10 is the strongest.

    Args:
        operations: how many are drawn for an image.
        magnitude: mean strength, in [0, 10].
        spread: standard deviation of the strength.

    Raises:
        CxrError: an argument is out of range.
    """

    def __init__(self, operations: int = 2, magnitude: float = 9, spread: float = 0.5) -> None:
        if type(operations) is not int or operations < 1:
            raise CxrError(f"operations={operations} of RandAugment must be a positive whole number")
        if not 0 <= magnitude <= _LARGEST or not 0 <= spread < float("inf"):
            raise CxrError(
                f"magnitude={magnitude} of RandAugment must lie in [0, 10], and spread={spread} be 0 or above"
            )
        self.operations, self.magnitude, self.spread = operations, magnitude, spread
        self._rng = np.random.default_rng(0)

    def set_random_state(self, rng: np.random.Generator, other: random.Random) -> None:
        """Sets the random numbers of the next image."""
        self._rng = rng

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """(H, W) uint8 to `{"image": (H, W) uint8}`."""
        changed, names = Image.fromarray(image), list(OPERATIONS)
        for _ in range(self.operations):
            name = names[self._rng.integers(len(names))]
            applied, negative = self._rng.random(2) < 0.5
            strength = np.clip(self._rng.normal(self.magnitude, self.spread), 0, _LARGEST) / _LARGEST
            if applied:
                changed = OPERATIONS[name](changed, float(-strength if negative else strength))
        return {"image": np.asarray(changed)}

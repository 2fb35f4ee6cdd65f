"""Applies random transforms to training images.

The random numbers of a transform for an image are a function of (seed, epoch, image, repeat, transform) only, so that
neither the number of workers nor resuming changes a pixel. (Seeding `albumentations.Compose` gives all of its
transforms the same stream, so that they are applied together.)

Geometric transforms, and the change from the cache's size to the network's, are composed into a single bilinear
interpolation, which is faster than one per transform and blurs less. Tone curves become one lookup table. Transforms
of albumentations follow.
"""

import os
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.data.augment.draws import Draws, uniform
from cxr.data.augment.transforms import Geometric, Matrices, Tonal, identity
from cxr.errors import CxrError
from cxr.imaging.warp import show

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version at import

_CROP = 0x0C09  # number of the random stream of crops; a transform's number is its position in the list


class Augmentation:
    """Turns images of the cache into training images for the network, with random changes.

    Args:
        transforms: `Geometric`, `Tonal`, or of albumentations; an empty list does not change images.
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

    def __call__(self, images: Sequence[np.ndarray], draws: Draws, size: int, crop: bool = False) -> np.ndarray:
        """Transforms a batch of images.

        Args:
            images: B of (C, C) uint8.
            draws: catalog row, epoch and repeat of each image.
            size: side of the output in pixels.
            crop: cut a random square of `size` pixels out of C; not if a transform crops. Otherwise the whole image is
                resized.

        Returns:
            (B, size, size) uint8.
        """
        shown = np.empty((len(images), size, size), np.uint8)
        if not len(images):
            return shown
        maps = self._maps(draws, len(images[0]), size, crop)
        for image, map_, place in zip(images, maps, shown, strict=True):
            show(image, map_, place)
        if self.tonal:
            for image, table in zip(shown, self._tables(draws), strict=True):
                cv2.LUT(image, table, dst=image)
        for number, transform in self.others:
            for row, image in enumerate(shown):
                shown[row] = self._foreign(transform, number, draws, row, image)
        return shown

    def _maps(self, draws: Draws, cached: int, size: int, crop: bool) -> Matrices:
        """(B, 3, 3) maps from (x, y, 1) of an output pixel to its position in the cache's image."""
        count = len(draws.index)
        moved = identity(count)
        for number, transform in self.geometric:
            drawn = uniform(self.seed, draws, number, transform.numbers)
            moved = transform.matrices(drawn, size) @ moved
        back = np.linalg.inv(moved) if self.geometric else moved
        to_centre, from_centre = np.eye(3), identity(count)
        to_centre[:2, 2] = -(size - 1) / 2
        if crop and not any(transform.crops for _, transform in self.geometric):
            corner = np.floor(uniform(self.seed, draws, _CROP, 2) * (cached - size + 1)).astype(int)
            from_centre[:, :2, 2] = corner + (size - 1) / 2
        else:
            from_centre[:] *= cached / size
            from_centre[:, 2, 2] = 1
            from_centre[:, :2, 2] = (cached - 1) / 2
        return from_centre @ back @ to_centre

    def _tables(self, draws: Draws) -> NDArray[np.uint8]:
        """(B, 256) lookup tables of gray values, rounded once at the end."""
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
                "transforms that keep shape and data type"
            )
        return changed

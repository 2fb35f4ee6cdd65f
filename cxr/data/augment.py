"""Random changes of a training image, each drawn from a stream of its own that only (seed, epoch, image) decides.

Seeding `albumentations.Compose` gives all of its transforms one and the same stream, so that they fire together. Here
each transform gets its own generator for every image and epoch, whatever the number of workers.
"""

import os
import random
from collections.abc import Sequence

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version at import
from albumentations import BasicTransform


class Augmentation:
    """Applies transforms in order, each with randomness of its own.

    Args:
        transforms: albumentations transforms; none leaves images as they are.
        seed: of the run.
    """

    def __init__(self, transforms: Sequence[BasicTransform] = (), seed: int = 0) -> None:
        self.transforms = list(transforms)
        self.seed = seed

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Changes one image, (H, W) uint8; the same (seed, epoch, index) gives the same pixels."""
        for position, transform in enumerate(self.transforms):
            sequence = np.random.SeedSequence([self.seed, epoch, index, position])
            numbers = np.random.Generator(np.random.PCG64(sequence))
            transform.set_random_state(numbers, random.Random(int(sequence.generate_state(1, np.uint64)[0])))
            image = transform(image=image)["image"]
        return image

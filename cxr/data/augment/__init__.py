"""Augmentation: random transforms of training images."""

from cxr.data.augment.augmentation import Augmentation
from cxr.data.augment.draws import Draws, uniform
from cxr.data.augment.randaugment import RandAugment
from cxr.data.augment.transforms import Affine, Flip, Geometric, RandomResizedCrop, Tonal, Tone

__all__ = [
    "Affine",
    "Augmentation",
    "Draws",
    "Flip",
    "Geometric",
    "RandAugment",
    "RandomResizedCrop",
    "Tonal",
    "Tone",
    "uniform",
]

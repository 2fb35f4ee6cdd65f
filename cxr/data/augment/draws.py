"""Random numbers of augmentation: a hash of their purpose, without state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Draws:
    """The images of a batch, each field (B,) int64.

    Attributes:
        epoch: of each image.
        index: row of the catalog.
        repeat: number of earlier occurrences in the epoch, for samplers that repeat images.
    """

    epoch: NDArray[np.int64]
    index: NDArray[np.int64]
    repeat: NDArray[np.int64]

    @classmethod
    def of(cls, index: Sequence[int] | NDArray[np.int64], epoch: int = 0) -> "Draws":
        """The first occurrence of images in an epoch."""
        rows = np.asarray(index, np.int64)
        return cls(np.full_like(rows, epoch), rows, np.zeros_like(rows))


def uniform(seed: int, draws: Draws, stream: int, numbers: int) -> NDArray[np.float64]:
    """(B, numbers) in [0, 1): hashes of (seed, epoch, index, repeat, stream, number).

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

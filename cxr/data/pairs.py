"""Two streams of training images in one batch, for mixing."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from cxr.data.sampling import Batch, EpochBatches


class PairedBatches(Sampler[Batch]):
    """Concatenates the batches of two streams, (2B, 3).

    Both streams have the same number of images, so that filler is in the same rows of each.

    Args:
        first: batches of B rows.
        second: batches of B rows in another order.
    """

    def __init__(self, first: EpochBatches, second: EpochBatches) -> None:
        self.first, self.second = first, second

    @property
    def sampler(self) -> "PairedBatches":
        """Itself, see `EpochBatches`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; Lightning calls it."""
        self.first.set_epoch(epoch)
        self.second.set_epoch(epoch)

    def __len__(self) -> int:
        """Number of batches in a full epoch."""
        return len(self.first)

    def __iter__(self) -> Iterator[Batch]:
        for pair in zip(self.first, self.second, strict=True):
            yield np.concatenate(pair)

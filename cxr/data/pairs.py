"""Two streams of training images read side by side, for mixing."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from cxr.data.sampling import Batch, EpochBatches


class PairedBatches(Sampler[Batch]):
    """Each batch of one stream followed by the same batch of the other, (2B, 3).

    Both streams have as many images, so that filler is in the same rows of each.

    Args:
        first: of B rows a batch.
        second: alike, in another order.
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

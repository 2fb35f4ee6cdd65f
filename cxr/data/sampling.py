"""Which images make which batch: an order that only (seed, epoch) decides, dealt over ranks without loss or repeat."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int]  # (position in the split, epoch); a negative position ~p is filler, see EpochBatches


class EpochBatches(Sampler[list[Draw]]):
    """Batches of one rank for one epoch.

    Ranks take every `ranks`-th image of one common order, so that a window of consecutive batches holds the same
    images whatever the number of ranks. All ranks make the same number of batches, since a rank that stops early
    would leave the others waiting; where images run out, filler takes the place: the position p is given as ~p, and
    the data set delivers that image with index -1 and no known target, so that it counts nowhere. An image that would
    be alone in the last batch gets filler beside it, since batch norm cannot train on one value a channel.

    Args:
        length: images in the split.
        batch_size: images a batch of one rank.
        seed: of the shuffle.
        shuffle: a new order every epoch; otherwise the table's.
        rank: of this process.
        ranks: number of processes.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int = 0, shuffle: bool = False, rank: int = 0, ranks: int = 1
    ) -> None:
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.rank, self.ranks = rank, ranks
        self.epoch = 0

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: Lightning calls `set_epoch` of a batch sampler's `sampler`, and of no batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; Lightning calls it."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """The epoch's positions over all ranks, (length,) int64."""
        if not self.shuffle:
            return np.arange(self.length)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.length)

    def __len__(self) -> int:
        share = -(-self.length // self.ranks)
        return -(-share // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self.order()
        mine = order[self.rank :: self.ranks]
        share = -(-self.length // self.ranks)
        if self.batch_size > 1 and share % self.batch_size == 1:
            share += 1
        filler = ~np.resize(order, share - len(mine))
        mine = np.concatenate([mine, filler])
        for start in range(0, share, self.batch_size):
            yield [(int(position), self.epoch) for position in mine[start : start + self.batch_size]]

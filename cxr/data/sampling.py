"""The order of training images, a function of (seed, epoch), and its distribution over ranks."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from cxr.errors import CxrError

Batch = NDArray[np.int64]  # (B, 3): position in the split, epoch, repeat; a position ~p is filler, see EpochBatches


class Order(Protocol):
    """Chooses the images of an epoch and their order."""

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """Positions in the split, (N,), in the order of training; they may repeat.

        Args:
            target: (N, L) labels of the split, NaN unknown.
            seed: of the run.
            epoch: from 0.
        """
        ...


class Shuffled:
    """Every image once, in a new order every epoch."""

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        return np.random.default_rng([seed, epoch]).permutation(len(target))


class Few:
    """A few images, drawn with `seed` and repeated to the number of images of the split.

    Args:
        images: number of different images.
    """

    def __init__(self, images: int = 16) -> None:
        if not isinstance(images, int) or isinstance(images, bool) or images < 1:
            raise CxrError(f"sampler.images={images} must be a positive whole number")
        self.images = images

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        return np.resize(np.random.default_rng(seed).permutation(len(target))[: self.images], len(target))


class WeightedByFindings:
    """As many images as the split has, drawn with a weight that grows with the number of findings.

    Args:
        weight: added for each finding to an image's weight of 1.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if weight < 0:
            raise CxrError(f"sampler.weight={weight} must be 0 or more")
        self.weight = weight

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        return _draw(1 + self.weight * (target == 1).sum(axis=1), seed, epoch)


class Balanced:
    """As many images as the split has, drawn with the weight prevalence ** -power of their rarest finding.

    Images without a finding are a further class; images without a known label are never drawn. Power 1 weights by
    inverse prevalence, 0.5 by its square root (Mahajan et al., "Exploring the Limits of Weakly Supervised
    Pretraining", ECCV 2018).

    Args:
        power: in [0, 1]; 0 draws uniformly.
    """

    def __init__(self, power: float = 1.0) -> None:
        if not 0 <= power <= 1:
            raise CxrError(f"sampler.power={power} must be between 0 and 1")
        self.power = power

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        member = _classes(target)
        weight = np.maximum(member.sum(axis=0), 1.0) ** -self.power
        return _draw(np.where(member, weight, 0).max(axis=1), seed, epoch)


class ClassAware:
    """As many images as the split has: each draw takes a uniformly random class, then the next image of its list.

    The lists are shuffled. Images without a finding are a further class; images without a known label are in no class
    (Shen, Lin and Huang, "Relay Backpropagation for Effective Learning of Deep Convolutional Neural Networks", ECCV
    2016).
    """

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        rng = np.random.default_rng([seed, epoch])
        lists = [np.flatnonzero(column) for column in _classes(target).T]
        lists = [images for images in lists if len(images)]
        chosen = rng.integers(len(lists), size=len(target))
        order = np.empty(len(target), np.int64)
        for number, images in enumerate(lists):
            places = np.flatnonzero(chosen == number)
            rounds = -(-len(places) // len(images))
            shuffled = [rng.permutation(images) for _ in range(rounds)]
            order[places] = np.concatenate(shuffled)[: len(places)] if rounds else []
        return order


class BalancedSets:
    """As many images as the split has, the same number of every merged set (or one more).

    The images of a set are shuffled and follow one another; a small set begins anew.

    Args:
        source: (N,) names of the images' sets, which `over` gives.
    """

    def __init__(self, source: Sequence[str] | None = None) -> None:
        self.source = source

    def over(self, source: Sequence[str]) -> "BalancedSets":
        """The order for images of these sets; raises CxrError if there are none."""
        if not source:
            raise CxrError("sampler=balanced_sets draws from the sets of data=merged; choose another sampler")
        return BalancedSets(source)

    def __call__(self, target: NDArray[np.float32], seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Order`."""
        rng = np.random.default_rng([seed, epoch])
        names = np.asarray(self.source)
        lists = [np.flatnonzero(names == name) for name in np.unique(names)]
        drawn = []
        for number, images in enumerate(lists):
            count = len(range(number, len(target), len(lists)))
            rounds = [rng.permutation(images) for _ in range(-(-count // len(images)))]
            drawn.append(np.concatenate(rounds)[:count])
        return rng.permutation(np.concatenate(drawn))


class EpochBatches(Sampler[Batch]):
    """Batches of one rank for one epoch.

    Each rank takes every `ranks`-th image of a common order, so that a window of consecutive batches has the same
    images with any number of ranks. All ranks yield the same number of batches, since otherwise ranks would wait for
    one that has ended. Missing images are replaced by filler: position p is given as ~p, and the data set returns that
    image with index -1 and unknown targets, so that losses and metrics ignore it. A last batch of one image gets
    filler, too, because batch normalization needs more than one value per channel.

    Args:
        target: (N, L) labels of the split, for orders that use them.
        batch_size: images per batch and rank.
        seed: of the order.
        order: of an epoch; None for the order of the table.
        rank: of this process.
        ranks: number of processes.
        start: (epoch, batches already used) at which a resumed run continues.
    """

    def __init__(
        self,
        target: NDArray[np.float32],
        batch_size: int,
        seed: int = 0,
        order: Order | None = None,
        rank: int = 0,
        ranks: int = 1,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        self.target, self.batch_size, self.seed, self.order = target, batch_size, seed, order
        self.rank, self.ranks, self.start = rank, ranks, start
        self.epoch = start[0]

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: Lightning calls `set_epoch` of `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches in a full epoch."""
        share = -(-len(self.target) // self.ranks)
        return -(-share // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        length = len(self.target)
        order = np.arange(length) if self.order is None else self.order(self.target, self.seed, self.epoch)
        drawn = np.stack([order, np.full(length, self.epoch), _repeats(order)], axis=1)
        mine = drawn[self.rank :: self.ranks]
        share = -(-length // self.ranks)
        if self.batch_size > 1 and share % self.batch_size == 1:
            share += 1
        filler = np.resize(drawn, (share - len(mine), 3))
        filler[:, 0] = ~filler[:, 0]
        mine = np.concatenate([mine, filler])
        done = self.start[1] if self.epoch == self.start[0] else 0
        for first in range(done * self.batch_size, share, self.batch_size):
            yield mine[first : first + self.batch_size]


def _classes(target: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, L + 1): the findings of each image; the last column marks images without a known finding.

    An image without a known label is in no class, unless all images lack labels: then they are one class.
    """
    present, known = target == 1, ~np.isnan(target).all(axis=1)
    none = ~present.any(axis=1) & (known | ~known.any())
    return np.concatenate([present, none[:, None]], axis=1)


def _draw(weight: NDArray[np.floating], seed: int, epoch: int) -> NDArray[np.int64]:
    """(N,) positions drawn with replacement, by weight (N,)."""
    rng = np.random.default_rng([seed, epoch])
    ends = np.cumsum(weight, dtype=np.float64)
    found = np.searchsorted(ends, rng.random(len(weight)) * ends[-1], side="right")
    return np.minimum(found, len(weight) - 1)


def _repeats(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of earlier occurrences of each entry, (N,)."""
    sorted_places = np.argsort(order, kind="stable")
    ranked = order[sorted_places]
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    lengths = np.diff(np.append(first, len(order)))
    counts = np.empty(len(order), np.int64)
    counts[sorted_places] = np.arange(len(order)) - np.repeat(first, lengths)
    return counts

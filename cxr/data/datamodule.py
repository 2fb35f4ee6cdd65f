"""Batches from a split catalog and its cache: `image` (uint8, not normalised), `target`, `attributes`, `index`."""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from cxr.data.attributes import attributes, hidden
from cxr.data.augment import Augmentation, Draws
from cxr.data.cache.store import Cache, open_array
from cxr.data.catalog import Catalog
from cxr.data.pairs import PairedBatches
from cxr.data.sampling import Batch as Drawn
from cxr.data.sampling import EpochBatches, Order, Shuffled
from cxr.data.soft import soft_targets
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.processes.isolation import serve_parent

cv2.setNumThreads(0)  # images are small and workers are many
_MAPPED = 1 << 28  # bytes read before the pages of the map are released

Batch = dict[str, Tensor]


class Radiographs(Dataset[Batch]):
    """One split, read from the cache one batch at a time.

    It has NumPy arrays and a path only, so that worker processes share memory and no Python object grows with the
    table.

    Args:
        cache: decoded images.
        rows: the split's rows of the catalog.
        findings: target columns.
        preprocessing: from cached images to the network's input.
        augmentation: of training images; None for validation and test.
        soft: replace labels by soft targets where the rows have them, for training.
        attribute_dropout: share of images in which age, sex or view is hidden, drawn from `seed`, epoch and image.
        seed: of `attribute_dropout`.
    """

    def __init__(
        self,
        cache: Cache,
        rows: pd.DataFrame,
        findings: Sequence[str],
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        soft: bool = False,
        attribute_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.attribute_dropout, self.seed = attribute_dropout, seed
        self.array_path, self.shape = str(cache.array_path), (len(cache.names), cache.size, cache.size)
        self.positions = cache.positions(rows["image"])
        self.index = rows.index.to_numpy(np.int64)
        self.target = rows[list(findings)].to_numpy(np.float32)
        if soft:
            given = soft_targets(rows, findings)
            self.target = np.where(np.isnan(given), self.target, given)
        self.attributes = attributes(rows)
        self.preprocessing, self.augmentation = preprocessing, augmentation
        self._stamp = _stamp(os.stat(self.array_path))
        self._file: IO[bytes] | None = None
        self._images: np.memmap | None = None
        self._read = 0

    def __len__(self) -> int:
        return len(self.positions)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_images": None, "_file": None}  # a worker opens the map itself

    def images(self, rows: NDArray[np.int64], epoch: NDArray[np.int64], repeat: NDArray[np.int64]) -> np.ndarray:
        """Images of the split, (B, size, size) uint8, augmented for their epochs; each argument (B,).

        Raises:
            CxrError: the cache has changed since this object was created.
        """
        stored = np.asarray(self._open())
        images = [stored[position] for position in self.positions[rows].tolist()]
        size = self.preprocessing.size
        if self.augmentation is None:
            made = np.empty((len(images), size, size), np.uint8)
            for image, place in zip(images, made, strict=True):
                self.preprocessing.view(image, into=place)
        else:
            draws = Draws(epoch, self.index[rows], repeat)
            made = self.augmentation(images, draws, size, self.preprocessing.crop)
        self._read += len(rows) * stored[0].size
        if self._read >= _MAPPED:  # keeps a worker's memory small; the pages stay in the kernel's cache
            self._read = 0
            mapping = self._open().base
            assert isinstance(mapping, mmap.mmap)
            mapping.madvise(mmap.MADV_DONTNEED)
        return made

    def _open(self) -> np.memmap:
        """The cache's map, after a check that its file is unchanged: reading a truncated map would crash."""
        if self._images is None or self._file is None:
            self._file = Path(self.array_path).open("rb")  # noqa: SIM115  # as long as the map
            self._images = open_array(Path(self.array_path), self.shape)
        _check_unchanged(self.array_path, self._file.fileno(), self._stamp)
        return self._images

    def batch(self, positions: NDArray[np.int64]) -> Batch:
        """The batch of these images of the split in the first epoch."""
        return self.__getitems__(np.stack([positions, *2 * [np.zeros_like(positions)]], axis=1))

    def image(self, position: int) -> np.ndarray:
        """One image of the split in the first epoch, (size, size) uint8."""
        first = np.zeros(1, np.int64)
        return self.images(np.array([position]), first, first)[0]

    def __getitems__(self, drawn: Drawn) -> Batch:
        """The batch of these draws; a negative position is filler: index -1, every target unknown."""
        position, epoch, repeat = np.asarray(drawn).T
        filler = position < 0
        rows = np.where(filler, ~position, position)
        draws = Draws(epoch, self.index[rows], repeat)
        return {
            "image": torch.from_numpy(self.images(rows, epoch, repeat))[:, None],
            "target": torch.from_numpy(np.where(filler[:, None], np.float32(np.nan), self.target[rows])),
            "attributes": torch.from_numpy(hidden(self.attributes[rows], self.attribute_dropout, self.seed, draws)),
            "index": torch.from_numpy(np.where(filler, -1, self.index[rows])),
        }


def _stamp(file: os.stat_result) -> tuple[int, int]:
    """A value that changes with the file's content."""
    return file.st_size, file.st_mtime_ns


def _check_unchanged(path: str, opened: str | int, stamp: tuple[int, int]) -> None:
    if _stamp(os.stat(opened)) != stamp:
        raise CxrError(
            f"{path} has changed while it was read; python -m cxr cache verify=true with the same data options lists "
            "the images"
        )


@dataclass(frozen=True)
class LoaderSettings:
    """Settings of the loaders.

    Attributes:
        batch_size: training images per batch and device; evaluation uses twice as many.
        workers: loader processes per device; 0 loads in the training process.
        seed: of order and augmentation.
        rank: of this process.
        ranks: number of processes.
        pin_memory: for copies to a GPU.
        attribute_dropout: share of training images in which age, sex or view is hidden.
    """

    batch_size: int
    workers: int = 0
    seed: int = 0
    rank: int = 0
    ranks: int = 1
    pin_memory: bool = False
    attribute_dropout: float = 0.0


class RadiographData(pl.LightningDataModule):
    """Loaders of all splits; only training is shuffled and augmented.

    Args:
        catalog: checked and split.
        cache: of the catalog's images.
        preprocessing: from cached images to the network's input.
        settings: batch size, workers, seed, ranks.
        augmentation: of training images, or None.
        order: of training images.
        start: (epoch, batches already used) at which a resumed run continues, since its first batches are fetched
            before Lightning sets the epoch.
        partners: order of a second stream of training images, appended to the batches of the first, for mixing.
    """

    def __init__(
        self,
        catalog: Catalog,
        cache: Cache,
        preprocessing: Preprocessing,
        settings: LoaderSettings,
        augmentation: Augmentation | None = None,
        order: Order | None = None,
        start: tuple[int, int] = (0, 0),
        partners: Order | None = None,
    ) -> None:
        super().__init__()
        if cache.size != preprocessing.cached:
            raise ValueError(f"the cache has {cache.size} px, the preprocessing {preprocessing.cached} px")
        self.catalog, self.cache, self.preprocessing = catalog, cache, preprocessing
        self.settings, self.augmentation = settings, augmentation
        self.order, self.start, self.partners = order or Shuffled(), start, partners
        self._stamp = _stamp(os.stat(cache.array_path))

    def check_cache(self) -> None:
        """Raises CxrError if the cache's images have changed; a process that reads a truncated map gets a bus error."""
        path = str(self.cache.array_path)
        with suppress(OSError):  # a file that is gone can still be read by those that opened it
            _check_unchanged(path, path, self._stamp)

    def dataset(self, split: str, augmentation: Augmentation | None = None) -> Radiographs:
        """The images of one split; training uses soft targets if the catalog has them."""
        rows, findings, soft = self.catalog.rows(split), self.catalog.findings, split == "train"
        share = self.settings.attribute_dropout if split == "train" else 0.0
        seed = self.settings.seed
        return Radiographs(self.cache, rows, findings, self.preprocessing, augmentation, soft, share, seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Ordered and augmented batches, a function of (seed, epoch)."""
        dataset = self.dataset("train", self.augmentation)
        return self._loader("train", dataset, self.settings.batch_size, self.order, self.start)

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every image of a split, in the table's order, without augmentation."""
        return self._loader(split, self.dataset(split), 2 * self.settings.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation image, without augmentation."""
        return self.evaluation_dataloader("val")

    def _loader(
        self,
        split: str,
        dataset: Radiographs,
        batch_size: int,
        order: Order | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> DataLoader[Batch]:
        s, labels = self.settings, self.catalog.targets(split)  # orders use labels, not soft targets
        first = EpochBatches(labels, batch_size, s.seed, order, s.rank, s.ranks, start)
        batches: EpochBatches | PairedBatches = first
        if order is not None and self.partners is not None:
            seed = int(np.random.SeedSequence([s.seed, 1]).generate_state(1)[0])  # independent of the first stream
            second = EpochBatches(labels, batch_size, seed, self.partners, s.rank, s.ranks, start)
            batches = PairedBatches(first, second)
        return DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # yields arrays instead of lists
            collate_fn=_ready,  # type: ignore[arg-type]  # receives a whole batch
            num_workers=s.workers,
            pin_memory=s.pin_memory,
            persistent_workers=order is not None and s.workers > 0,
            worker_init_fn=serve_parent,  # ends them with a killed run, whose lock they would keep
        )


def _ready(batch: Batch) -> Batch:
    """Returns the batch; a worker moves it to shared memory first.

    Full shared memory is an error here. The queue, which would move it later, drops such a batch silently, and training
    would wait for it forever.
    """
    if get_worker_info() is not None:
        for part in batch.values():
            part.share_memory_()  # type: ignore[no-untyped-call]
    return batch

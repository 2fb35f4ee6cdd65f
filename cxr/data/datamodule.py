"""From a split catalog and its cache to batches: `image` uint8, `target`, `attributes`, `index`, never normalised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cxr.data.augment import Augmentation
from cxr.data.cache import Cache, resize
from cxr.data.catalog import Catalog
from cxr.data.sampling import Draw, EpochBatches

cv2.setNumThreads(0)  # images are small and workers are many
ATTRIBUTES = ("age", "male", "female", "pa", "ap")

Batch = dict[str, Tensor]


class Radiographs(Dataset[Batch]):
    """One split, read from the cache a whole batch at a time.

    Holds NumPy arrays and a path alone: worker processes share their pages, and no Python object grows with the table.

    Args:
        cache: decoded images.
        rows: the split's rows of the catalog.
        findings: target columns.
        size: side in pixels of the images that come out.
        augmentation: changes of training images, or none.
    """

    def __init__(
        self,
        cache: Cache,
        rows: pd.DataFrame,
        findings: Sequence[str],
        size: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.array_path = str(cache.array_path)
        self.positions = cache.positions(rows["image"])
        self.index = rows.index.to_numpy(np.int64)
        self.target = rows[list(findings)].to_numpy(np.float32)
        self.attributes = attributes(rows)
        self.size, self.augmentation = size, augmentation
        self._images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_images": None}  # a worker opens the map itself

    def image(self, position: int, epoch: int = 0) -> np.ndarray:
        """One image of the split, (size, size) uint8, as this epoch shows it."""
        if self._images is None:
            self._images = np.load(self.array_path, mmap_mode="r", allow_pickle=False)
        image = np.asarray(self._images[self.positions[position]])
        if self.augmentation is not None:
            image = self.augmentation(image, epoch, int(self.index[position]))
        return resize(image, self.size)

    def __getitems__(self, draws: list[Draw]) -> Batch:
        """The batch of these draws; a negative position is filler: index -1, every target unknown."""
        drawn = np.array([position for position, _ in draws])
        filler = drawn < 0
        rows = np.where(filler, ~drawn, drawn)
        images = np.stack([self.image(int(row), epoch) for row, (_, epoch) in zip(rows, draws, strict=True)])
        return {
            "image": torch.from_numpy(images)[:, None],
            "target": torch.from_numpy(np.where(filler[:, None], np.float32(np.nan), self.target[rows])),
            "attributes": torch.from_numpy(self.attributes[rows]),
            "index": torch.from_numpy(np.where(filler, -1, self.index[rows])),
        }


def attributes(rows: pd.DataFrame) -> np.ndarray:
    """Non-image features, (N, 5) float32, see `ATTRIBUTES`: age in centuries, then indicators; unknown is NaN or 0."""
    sex, view = rows["sex"], rows["view"].str.upper()
    columns = [rows["age"] / 100, sex == "M", sex == "F", view == "PA", view == "AP"]
    return np.stack([column.to_numpy(np.float32) for column in columns], axis=1)


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are made.

    Attributes:
        batch_size: training images a batch of one device; evaluation takes twice as many.
        workers: loader processes of each device's process; 0 loads in the training process.
        seed: of order and augmentation.
        rank: of this process.
        ranks: number of processes.
        pin_memory: for copies to a GPU.
    """

    batch_size: int
    workers: int = 0
    seed: int = 0
    rank: int = 0
    ranks: int = 1
    pin_memory: bool = False


class RadiographData(pl.LightningDataModule):
    """Loaders of the three splits; only training is shuffled and augmented.

    Args:
        catalog: checked and split.
        cache: of the catalog's images.
        image_size: side in pixels of the images that come out.
        settings: batch size, workers, seed, ranks.
        augmentation: of training images.
        first_epoch: that a resumed run goes on with: its first batches are fetched before Lightning tells the epoch.
    """

    def __init__(
        self,
        catalog: Catalog,
        cache: Cache,
        image_size: int,
        settings: LoaderSettings,
        augmentation: Augmentation,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.catalog, self.cache, self.image_size = catalog, cache, image_size
        self.settings, self.augmentation = settings, augmentation
        self.first_epoch = first_epoch

    def dataset(self, split: str, augmentation: Augmentation | None = None) -> Radiographs:
        """The images of one split."""
        return Radiographs(self.cache, self.catalog.rows(split), self.catalog.findings, self.image_size, augmentation)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches; the same order for the same (seed, epoch)."""
        loader = self._loader(self.dataset("train", self.augmentation), self.settings.batch_size, shuffle=True)
        loader.batch_sampler.set_epoch(self.first_epoch)  # type: ignore[union-attr]
        return loader

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every image of a split, in the table's order, as it is."""
        return self._loader(self.dataset(split), 2 * self.settings.batch_size, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation image, as it is."""
        return self.evaluation_dataloader("val")

    def _loader(self, dataset: Radiographs, batch_size: int, shuffle: bool) -> DataLoader[Batch]:
        s = self.settings
        batches = EpochBatches(len(dataset), batch_size, s.seed, shuffle, s.rank, s.ranks)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=_ready,
            num_workers=s.workers,
            pin_memory=s.pin_memory,
            persistent_workers=shuffle and s.workers > 0,
        )


def _ready(batch: Any) -> Any:
    return batch

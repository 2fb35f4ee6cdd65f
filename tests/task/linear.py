"""A network of one linear layer, and images for it: of a batch nothing is known, of the others some."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxr.data.datamodule import LoaderSettings
from cxr.data.sampling import EpochBatches
from cxr.model.network import NetworkOutput

IMAGES, FINDINGS = 16 * 16 + 3 * 16 + 5, 3  # a full window of 256, then three batches and one of five


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(16, FINDINGS, generator=generator) * 0.1)

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        vector = batch["image"].float().flatten(1) / 255
        return NetworkOutput(vector @ self.weight, None, vector)


class Images(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.image = torch.tensor(rng.integers(0, 256, (IMAGES, 1, 4, 4)), dtype=torch.uint8)
        target = rng.integers(0, 2, (IMAGES, FINDINGS)).astype(np.float32)
        target[rng.random(target.shape) < 0.3] = np.nan
        target[:16] = np.nan  # a batch of which nothing is known
        self.target = torch.tensor(target)

    def __len__(self) -> int:
        return IMAGES

    def __getitems__(self, draws: np.ndarray) -> dict[str, Tensor]:
        rows = torch.from_numpy(draws[:, 0])
        return {"image": self.image[rows], "target": self.target[rows], "index": rows}


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.settings = LoaderSettings(batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        batches = EpochBatches(np.zeros((IMAGES, 1), np.float32), self.settings.batch_size)
        return DataLoader(Images(), batch_sampler=batches, collate_fn=lambda batch: batch)

    val_dataloader = train_dataloader

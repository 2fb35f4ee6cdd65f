"""Sixteen batches of sixteen give the step of one batch of 256, also with unknown targets and in a partial window."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxr.data.datamodule import LoaderSettings
from cxr.data.sampling import EpochBatches
from cxr.errors import CxrError
from cxr.loss.bce import BinaryCrossEntropy
from cxr.model.network import NetworkOutput
from cxr.task.multi_label import MultiLabel
from cxr.training.devices import accumulation

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


def trained(batch_size: int, window: int, lr: float = 0.5) -> tuple[Tensor, int]:
    task = MultiLabel().attach(
        Linear(),  # type: ignore[arg-type]
        BinaryCrossEntropy([1] * FINDINGS, [1] * FINDINGS),
        ["a", "b", "c"],
        lambda parameters: torch.optim.SGD(parameters, lr),
        names=[f"{row:03}.png" for row in range(IMAGES)],
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=window,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=Data(batch_size))
    return task.network.weight.detach(), trainer.global_step  # type: ignore[return-value]


def by_hand(windows: list[slice], lr: float = 0.5) -> Tensor:
    """Plain gradient steps over whole windows: the mean cross-entropy over the known targets."""
    data, weight = Images(), Linear().weight
    for window in windows:
        vector = data.image[window].float().flatten(1) / 255
        probability = torch.sigmoid(vector @ weight)
        target = data.target[window]
        known = ~target.isnan()
        loss = nn.functional.binary_cross_entropy(probability[known], target[known])
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = nn.Parameter(weight.detach() - lr * gradient)
    return weight.detach()


def test_accumulated_windows_equal_whole_batches() -> None:
    expected = by_hand([slice(0, 256), slice(256, IMAGES)])
    whole, whole_steps = trained(256, 1)
    parts, part_steps = trained(16, 16)
    assert whole_steps == part_steps == 2
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts, expected, rtol=1e-5, atol=1e-6)


def test_a_window_of_unknown_targets_changes_nothing() -> None:
    weight, steps = trained(16, 1)
    assert steps == 20
    torch.testing.assert_close(
        weight, by_hand([slice(s, min(s + 16, IMAGES)) for s in range(16, IMAGES, 16)]), rtol=1e-4, atol=1e-5
    )


def test_a_loss_that_is_not_finite_stops_with_the_images_of_the_batch() -> None:
    with pytest.raises(CxrError, match=r"not finite at epoch 1, step 1, on the images 016\.png, 017\.png, .*031\.png;"):
        trained(16, 1, lr=float("inf"))


@pytest.mark.parametrize(
    ("batch", "synthetic", "devices", "window"), [(16, 256, 1, 16), (16, 256, 4, 4), (8, None, 3, 1)]
)
def test_the_window_follows_from_the_sizes(batch: int, synthetic: int | None, devices: int, window: int) -> None:
    assert accumulation({"batch_size": batch, "synthetic_batch_size": synthetic}, devices) == window


@pytest.mark.parametrize(("batch", "synthetic", "devices"), [(16, 250, 1), (16, 256, 3)])
def test_sizes_that_do_not_divide_are_refused(batch: int, synthetic: int, devices: int) -> None:
    with pytest.raises(CxrError, match="batch_size"):
        accumulation({"batch_size": batch, "synthetic_batch_size": synthetic}, devices)

"""What every task does: sums that become an epoch's loss, parameters of a loss, and losses that are not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from cxr.data.sampling import EpochBatches
from cxr.errors import CxrError
from cxr.loss.terms import Batch, LossTerms, Scored, over_known
from cxr.run.directory import Run
from cxr.task.multi_label import MultiLabel
from cxr.training.keeping import RunCheckpoints
from cxr.training.saving import WholeFiles
from tests.training.test_accumulation import IMAGES, Data, Images, Linear


class Recorded(nn.Module):
    """Cross-entropy that notes its calls, and is of no number on chosen ones."""

    def __init__(self, broken: int | None = None) -> None:
        super().__init__()
        self.calls: list[tuple[bool, int, int, torch.dtype]] = []
        self.broken = broken

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        self.calls.append((self.training, epoch, len(batch["target"]), output.logits.dtype))
        target = batch["target"]
        values = F.binary_cross_entropy_with_logits(output.logits, target.nan_to_num(0.0), reduction="none")
        if len(self.calls) - 1 == self.broken:
            values = values * torch.nan
        return over_known(values, ~target.isnan())


def fit(
    loss: nn.Module,
    epochs: int = 1,
    lr: float = 0.0,
    batch_size: int = 16,
    task: MultiLabel | None = None,
    callbacks: list[pl.Callback] | None = None,
    run: Run | None = None,
) -> tuple[MultiLabel, pl.Trainer]:
    task = (task or MultiLabel()).attach(
        Linear(),  # type: ignore[arg-type]
        loss,
        ["a", "b", "c"],
        lambda parameters: torch.optim.SGD(parameters, lr),
        names=[f"{row:03}.png" for row in range(IMAGES)],
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=run is not None, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=8, callbacks=callbacks, plugins=[WholeFiles(run)] if run else None,
    )  # fmt: skip
    trainer.fit(task, datamodule=Data(batch_size))
    return task, trainer


def test_the_losses_of_an_epoch_are_the_means_over_all_known_targets() -> None:
    _, trainer = fit(Recorded())  # at a rate of 0: training and validation see the same images and weights
    data, weight = Images(), Linear().weight
    logits = data.image.double().flatten(1) / 255 @ weight.double()
    known = ~data.target.isnan()
    expected = F.binary_cross_entropy_with_logits(logits[known], data.target[known].double())
    for stage in ("train", "val"):
        assert float(trainer.callback_metrics[f"{stage}/loss"]) == pytest.approx(float(expected), rel=1e-6)


def test_each_batch_has_its_loss_computed_once_and_with_the_number_of_the_epoch() -> None:
    loss = Recorded()
    fit(loss, epochs=2)
    sizes = [16] * (IMAGES // 16) + [IMAGES % 16]
    stages = [(training, epoch) for epoch in (0, 1) for training in (True, False)]
    assert loss.calls == [(*stage, size, torch.float32) for stage in stages for size in sizes]


class Scaled(Recorded):
    """With a parameter of its own, which the loss falls by lowering."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        terms = super().forward(output, batch, epoch)
        return LossTerms(terms.total * self.scale.exp(), terms.number)


def test_parameters_of_a_loss_are_optimized_by_the_mean_over_the_window() -> None:
    loss = Scaled()
    task, _ = fit(loss, lr=0.5, batch_size=512)  # one step over all images
    data, weight = Images(), Linear().weight
    known = ~data.target.isnan()
    mean = F.binary_cross_entropy_with_logits((data.image.float().flatten(1) / 255 @ weight)[known], data.target[known])
    assert float(loss.scale.detach()) == pytest.approx(1 - 0.5 * np.e * float(mean.detach()), rel=1e-5)
    assert "loss.scale" in task.state_dict()


class Late(MultiLabel):
    """Looks at losses as on a GPU, at the log interval alone."""

    def looks(self, value: Tensor) -> bool:
        return super().looks(value.to("meta"))


def kept(folder: Path, every_steps: int) -> dict[str, Any]:
    run = Run(folder)
    run.best.parent.mkdir(parents=True)
    return {"run": run, "callbacks": [RunCheckpoints(run, MultiLabel.monitor, every_steps)]}


@pytest.mark.parametrize("make", [MultiLabel, Late])
@pytest.mark.parametrize(("broken", "every"), [(2, 99), (2, 4), (9, 10), (19, 99)])
def test_a_loss_that_is_not_finite_names_its_step_and_images_whenever_it_is_seen_and_is_in_no_checkpoint(
    tmp_path: Path, make: Callable[[], MultiLabel], broken: int, every: int
) -> None:
    images = [f"{row:03}.png" for row in range(16 * broken, min(16 * broken + 16, IMAGES))]
    loss = Recorded(broken)
    with pytest.raises(CxrError, match=f"not finite at epoch 1, step {broken}, on the images {', '.join(images)};"):
        fit(loss, lr=0.1, task=make(), **kept(tmp_path, every))
    seen = {MultiLabel: broken, Late: min(broken // 8 * 8 + 7, every - 1, 19)}[make]  # type: ignore[index]
    assert len(loss.calls) == seen + 1
    assert not list(tmp_path.rglob("best.ckpt")) and not list(tmp_path.rglob("last.ckpt"))


def test_weights_that_are_not_finite_while_the_loss_is_are_in_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"the weights are not finite after step 1; lower optimizer\.lr"):
        fit(Recorded(), lr=float("inf"), **kept(tmp_path, 1))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_validation_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="the validation loss is not finite at epoch 1, after step 20;"):
        fit(Recorded(25), lr=0.1, **kept(tmp_path, 99))
    assert not list(tmp_path.rglob("*.ckpt"))


class Softened(Data):
    """Soft targets, also of images whose labels are unknown; each pass shows some images twice and others never."""

    def __init__(self) -> None:
        super().__init__(16)
        self.soft = torch.rand(IMAGES, 3, generator=torch.Generator().manual_seed(5))
        self.shown = np.random.default_rng(5).integers(0, IMAGES, IMAGES)

    def train_dataloader(self) -> DataLoader[Any]:
        images = Images()
        images.target = self.soft
        batches = EpochBatches(np.zeros((IMAGES, 1), np.float32), 16, order=lambda *arguments: self.shown)
        return DataLoader(images, batch_sampler=batches, collate_fn=lambda batch: batch)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def test_the_loss_goes_by_soft_targets_and_metrics_by_the_labels_of_each_index() -> None:
    data, labels = Softened(), Images().target.numpy()
    task = MultiLabel().attach(
        Linear(), Recorded(), ["a", "b", "c"], lambda parameters: torch.optim.SGD(parameters, 0.0),  # type: ignore[arg-type]
        labels=labels,
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    rows = torch.from_numpy(data.shown)
    logits = Images().image[rows].double().flatten(1) / 255 @ Linear().weight.detach().double()
    loss = F.binary_cross_entropy_with_logits(logits, data.soft[rows].double())
    known = ~np.isnan(labels[rows])
    areas = [roc_auc_score(labels[rows][known[:, k], k], logits[known[:, k], k]) for k in range(3)]
    for stage in ("train", "val"):
        assert float(trainer.callback_metrics[f"{stage}/loss"]) == pytest.approx(float(loss), rel=1e-6)
        assert float(trainer.callback_metrics[f"{stage}/macro_auroc"]) == pytest.approx(np.mean(areas), rel=1e-6)

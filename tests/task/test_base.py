"""What every task does: exact windows, sums that become an epoch's loss, a loss's parameters, what is not finite."""

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
from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.terms import Batch, LossTerms, Scored, over_known
from cxr.run.directory import Run
from cxr.task.multi_label import MultiLabel
from cxr.training.keeping import RunCheckpoints
from cxr.training.saving import CheckpointFiles
from tests.task.linear import FINDINGS, IMAGES, Data, Images, Linear


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
    window: int = 1,
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
        log_every_n_steps=8, accumulate_grad_batches=window, callbacks=callbacks,
        plugins=[CheckpointFiles(run)] if run else None,
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

    def checks_now(self, value: Tensor) -> bool:
        return super().checks_now(value.to("meta"))


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


def test_a_validation_loss_that_is_not_finite_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="the validation loss is not finite at epoch 1, after step 20;"):
        fit(Recorded(25), lr=0.1, **kept(tmp_path, 99))
    assert not list(tmp_path.rglob("*.ckpt"))


def trained(batch_size: int, window: int, lr: float = 0.5) -> tuple[Tensor, int]:
    """The weights after an epoch of binary cross-entropy, and the number of steps."""
    loss = BinaryCrossEntropy([1] * FINDINGS, [1] * FINDINGS)
    task, trainer = fit(loss, lr=lr, batch_size=batch_size, window=window)
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


class Weighed(Recorded):
    """A weighted mean whose weights sum to less than one in a window."""

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        terms = super().forward(output, batch, epoch)
        return LossTerms(1e-4 * terms.total, 1e-4 * terms.number)


def test_a_window_whose_weights_sum_to_less_than_one_is_divided_by_their_sum() -> None:
    task, _ = fit(Weighed(), lr=0.5, window=16)
    expected = by_hand([slice(0, 256), slice(256, IMAGES)])
    torch.testing.assert_close(task.network.weight.detach(), expected, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_with_the_images_of_the_batch() -> None:
    with pytest.raises(CxrError, match=r"not finite at epoch 1, step 1, on the images 016\.png, 017\.png, .*031\.png;"):
        trained(16, 1, lr=float("inf"))


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


def test_random_numbers_of_a_batch_depend_on_it_alone() -> None:
    """Those of dropout; so a run that resumes, or skips a batch, draws as one that does not."""
    task, _ = fit(Recorded())

    def drawn(batch: int, before: int) -> list[float]:
        torch.manual_seed(before)
        task.on_train_batch_start({}, batch)
        return torch.rand(3).tolist()

    assert drawn(4, before=0) == drawn(4, before=1) != drawn(5, before=0)

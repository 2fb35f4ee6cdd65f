"""Tau-normalisation: one tau per epoch, of the initial weights, and what is refused."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.errors import CxrError
from cxr.model.network import NetworkOutput
from cxr.run.directory import Run
from cxr.task.base import Monitor
from cxr.task.multi_label import MultiLabel
from cxr.training.callbacks.tau_norm import TauNormalisation
from cxr.training.keeping import RunCheckpoints
from cxr.training.saving import CheckpointFiles
from tests.training.constant import KNOWN, Data, bce

FIRST = torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.1, 0.1, 0.1, 0.1]])


class OneLayer(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.head = nn.Sequential(*(nn.Linear(4, 2) for _ in range(layers)))
        with torch.no_grad():
            self.head[0].weight.copy_(FIRST)

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        vector = batch["image"].float().flatten(1)
        return NetworkOutput(self.head(vector), None, vector)


class Seen(MultiLabel):
    """Notes the head that each validation has, and prefers the epoch `best`."""

    monitor, logged = Monitor("val/preferred", "max"), ("preferred",)

    def __init__(self, best: int = 2) -> None:
        super().__init__()
        self.best, self.seen = best, []  # type: ignore[var-annotated]

    def metrics(self, target: np.ndarray, score: np.ndarray) -> dict[str, float]:
        layer = self.network.head[0]  # type: ignore[index]
        self.seen.append((layer.weight.detach().clone(), layer.bias.detach().clone()))
        return {"preferred": -abs(self.current_epoch - self.best)}


def fit(folder: Path, epochs: int, task: Seen, layers: int = 1, path: Path | None = None) -> Run:
    run = Run(folder)
    task.attach(OneLayer(layers), bce(), ["a", "b"], lambda weights: torch.optim.SGD(weights, 0.0))  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, plugins=[CheckpointFiles(run)],
        callbacks=[RunCheckpoints(run, task.monitor), TauNormalisation(step=0.5)],
    )  # fmt: skip
    trainer.fit(task, datamodule=Data(KNOWN, KNOWN), ckpt_path=path, weights_only=True)
    return run


def test_each_epoch_validates_the_first_weights_with_a_greater_tau_and_the_best_is_kept(tmp_path: Path) -> None:
    task = Seen()
    run = fit(tmp_path, 4, task)
    weights = [weight for weight, _ in task.seen[::2]]
    assert torch.equal(weights[0], FIRST) and all(not bias.any() for _, bias in task.seen)
    norms = [[5 ** (1 - 0.5 * epoch), 0.2 ** (1 - 0.5 * epoch)] for epoch in range(4)]
    torch.testing.assert_close(torch.stack([weight.norm(dim=1) for weight in weights]), torch.tensor(norms))
    for weight in weights:
        torch.testing.assert_close(weight / weight.norm(dim=1, keepdim=True), FIRST / FIRST.norm(dim=1, keepdim=True))
    best = torch.load(run.best, weights_only=True)["state_dict"]["network.head.0.weight"]
    torch.testing.assert_close(best.norm(dim=1), torch.ones(2))  # tau = 1 in epoch 2


def test_a_resumed_run_normalises_the_same_first_weights(tmp_path: Path) -> None:
    whole, task = Seen(), Seen()
    fit(tmp_path / "a", 4, whole)
    run = fit(tmp_path / "b", 2, Seen())
    fit(tmp_path / "c", 4, task, path=run.last)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(task.seen, whole.seen[-len(task.seen) :], strict=True))
    assert len(task.seen) == 4


def test_other_heads_and_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="normalises one linear layer, and Sequential has 2"):
        fit(tmp_path, 1, Seen(), layers=2)
    with pytest.raises(CxrError, match=r"callbacks\.tau_norm\.step=0 must be a finite number above 0"):
        TauNormalisation(0)

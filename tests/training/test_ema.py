"""The averaged weights against an average by hand over the weights after each step of the same training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from cxr.errors import CxrError
from cxr.loss.bce import BinaryCrossEntropy
from cxr.model.network import NetworkOutput
from cxr.run.directory import Run
from cxr.task.base import Monitor
from cxr.task.multi_label import MultiLabel
from cxr.training.callbacks.ema import WeightAverage
from cxr.training.keeping import RunCheckpoints
from cxr.training.log import EpochLog, StepLog, read_log
from tests.task.linear import FINDINGS, Data, Images

BATCH, WINDOW, EPOCHS, STEPS = 64, 2, 4, 3  # five batches an epoch make two windows and half a window
Weights = dict[str, np.ndarray]


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norm, self.layer = nn.BatchNorm1d(16), nn.Linear(16, FINDINGS)

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        vector = self.norm(batch["image"].float().flatten(1) / 255)
        return NetworkOutput(self.layer(vector), None, vector)


def by_hand(state: dict[str, Tensor]) -> Weights:
    return {name: value.double().numpy().copy() for name, value in state.items()}


class Recorder(Callback):
    """The weights before training and after each step."""

    def __init__(self) -> None:
        self.weights: list[Weights] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights.append(by_hand(pl_module.state_dict()))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *given: Any) -> None:
        if trainer.global_step == len(self.weights):
            self.weights.append(by_hand(pl_module.state_dict()))


def fit(folder: Path, decay: float | None = 0.8) -> tuple[Run, list[Weights]]:
    (folder / "checkpoints").mkdir(parents=True)
    run, recorder = Run(folder), Recorder()
    task = MultiLabel().attach(
        Normed(),  # type: ignore[arg-type]
        BinaryCrossEntropy([1] * FINDINGS, [1] * FINDINGS),
        ["a", "b", "c"],
        lambda parameters: torch.optim.SGD(parameters, 0.5, momentum=0.9),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=WINDOW,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            recorder,
            EpochLog(run.log, show=False),
            StepLog(run.steps, 1),
            *([] if decay is None else [WeightAverage(decay)]),
            RunCheckpoints(run, Monitor("val/loss", "min"), keep_best=EPOCHS),
        ],
    )
    trainer.fit(task, datamodule=Data(BATCH))
    return run, recorder.weights


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Weights]]:
    return fit(tmp_path_factory.mktemp("averaged") / "a")


def expected(weights: list[Weights], decay: float) -> list[Weights]:
    """The average at the start and after each step, from its definition."""
    averages = [weights[0]]
    for step, new in enumerate(weights[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        averages.append({name: share * averages[-1][name] + (1 - share) * new[name] for name in new})
    return averages


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_each_epochs_checkpoint_contains_the_average_after_its_last_step(averaged: tuple[Run, list[Weights]]) -> None:
    run, weights = averaged
    assert len(weights) == EPOCHS * STEPS + 1
    averages = expected(weights, 0.8)
    for epoch in range(EPOCHS):
        state, step = read(run.best.with_name(f"epoch-{epoch}.ckpt"))["state_dict"], (epoch + 1) * STEPS
        for name, value in state.items():
            if name.endswith("num_batches_tracked"):
                assert int(value) == weights[step][name] == 5 * (epoch + 1)  # a counter is not averaged
            else:
                assert value.numpy() == pytest.approx(averages[step][name], rel=1e-4, abs=1e-6), name
                assert np.abs(averages[step][name] - weights[step][name]).max() > 1e-3, "the test sees a difference"


def test_validation_and_selection_are_of_the_average(averaged: tuple[Run, list[Weights]]) -> None:
    run, _ = averaged
    log, data = read_log(run.log), Images()
    network, known = Normed().eval(), ~np.isnan(data.target.numpy())
    for epoch in range(EPOCHS):
        state = read(run.best.with_name(f"epoch-{epoch}.ckpt"))["state_dict"]
        network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
        with torch.no_grad():
            logits = network({"image": data.image}).logits.double().numpy()
        target = data.target.double().numpy()
        loss = np.logaddexp(0, logits) - target * logits
        assert log["val/loss"][epoch] == pytest.approx(loss[known].mean(), rel=1e-5)
    assert read(run.best)["epoch"] == int(log["val/loss"].argmin())


def test_training_resumes_with_the_raw_weights(averaged: tuple[Run, list[Weights]], tmp_path: Path) -> None:
    run, weights = averaged
    plain, alone = fit(tmp_path / "plain", decay=None)
    assert all(
        np.array_equal(one[name], other[name]) for one, other in zip(weights, alone, strict=True) for name in one
    )
    assert run.steps.read_text() == plain.steps.read_text()
    assert list(read_log(run.log)["train/loss"]) == list(read_log(plain.log)["train/loss"])
    assert list(read_log(run.log)["val/loss"]) != list(read_log(plain.log)["val/loss"])


def test_the_last_checkpoint_contains_the_raw_weights_and_the_average(averaged: tuple[Run, list[Weights]]) -> None:
    run, weights = averaged
    last = read(run.last)
    assert all(np.array_equal(last["state_dict"][name].double(), value) for name, value in weights[-1].items())
    average = last["callbacks"]["WeightAverage"]["average"]
    assert set(average) == {name for name in weights[0] if not name.endswith("num_batches_tracked")}
    for name, value in average.items():
        assert value.numpy() == pytest.approx(expected(weights, 0.8)[-1][name], rel=1e-4, abs=1e-6)


def test_a_decay_of_zero_is_no_average(tmp_path: Path) -> None:
    run, weights = fit(tmp_path / "a", decay=0.0)
    state = read(run.best.with_name("epoch-1.ckpt"))["state_dict"]
    assert all(np.array_equal(value.double(), weights[2 * STEPS][name]) for name, value in state.items())


def test_small_steps_of_half_precision_weights_are_not_lost() -> None:
    module = pl.LightningModule()
    module.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    average, trainer = WeightAverage(0.999), SimpleNamespace(global_step=10_000)
    average.on_train_start(trainer, module)  # type: ignore[arg-type]
    with torch.no_grad():
        module.weight += 1
    for step in range(10_001, 10_101):
        trainer.global_step = step
        average.on_train_batch_end(trainer, module, None, None, 0)  # type: ignore[arg-type]
    assert float(average.average["weight"]) == pytest.approx(2 - 0.999**100)
    average.on_validation_start(trainer, module)  # type: ignore[arg-type]
    assert module.weight.dtype == torch.bfloat16 and float(module.weight) == pytest.approx(2 - 0.999**100, rel=4e-3)
    average.on_validation_end(trainer, module)  # type: ignore[arg-type]
    assert float(module.weight) == 2


@pytest.mark.parametrize(
    "state",
    [{}, {"weight": torch.ones(2)}, {"weight": torch.ones(1), "more": torch.ones(1)}, {"weight": 1.0}, None, [1]],
)
def test_an_average_of_another_network_is_refused(state: Any) -> None:
    module = pl.LightningModule()
    module.weight = nn.Parameter(torch.ones(1))
    average = WeightAverage()
    average.load_state_dict({"average": state})
    with pytest.raises(CxrError, match=r"average in last\.ckpt does not fit the network"):
        average.on_train_start(SimpleNamespace(global_step=1), module)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, "0.9", None, True, float("nan")])
def test_a_decay_that_averages_nothing_is_refused(decay: Any) -> None:
    with pytest.raises(CxrError, match=r"callbacks\.ema\.decay=.* must be 0 or more and below 1"):
        WeightAverage(decay)

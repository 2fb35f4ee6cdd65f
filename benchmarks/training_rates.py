"""Rows `step` and `checkpointing` of input_path.py: whole trainings beside a bare loop, a step of each in turn.

systems.py measures its rows with the same functions.

Two sides take turns step by step in one process, so that whatever else the machine does slows both alike. A side's rate
is its images over the time of its own turns: fetching the batch, the step, and every callback.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "2"

import lightning.pytorch as pl
import numpy as np
import timm
import torch
from torch import nn

import cxr.training.run as training
from benchmarks.made import cache_of, configured, row, say, table_of
from cxr.data.catalog import Catalog
from cxr.findings import NIH14
from cxr.run.directory import Run
from cxr.training.assemble import assemble
from cxr.training.devices import resolve_devices
from cxr.training.prepare import Prepared

THREADS, BATCH, PIXELS, WARM_UP = 2, 32, 128, 5
STEPS = {"step": 70, "checkpointing": 180}  # of each of two rounds
EVERY_SECONDS = 60

Side = Callable[[str, int], Callable[["Turns", int], None]]


class Turns:
    """Lets two threads go one after the other, and notes how long each turn took."""

    def __init__(self) -> None:
        self.free = (threading.Semaphore(1), threading.Semaphore(0))
        self.times: tuple[list[float], list[float]] = ([], [])
        self._began = 0.0

    def begin(self, side: int) -> None:
        self.free[side].acquire()
        self._began = time.perf_counter()

    def over(self, side: int) -> None:
        self.times[side].append(time.perf_counter() - self._began)
        self.free[1 - side].release()


class Turn(pl.Callback):
    """A turn ends when the other callbacks have seen the batch; the next begins with fetching the next one."""

    def __init__(self, turns: Turns, side: int) -> None:
        self.turns, self.side = turns, side

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.turns.begin(self.side)

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self.turns.over(self.side)
        self.turns.begin(self.side)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.turns.free[1 - self.side].release()


def trained(
    scratch: Path, name: str, steps: int, every_seconds: int | None, *options: str
) -> Callable[[Turns, int], None]:
    """A run as `train.py` does it, MobileNetV2 from a cache that is there."""
    config = configured(
            "backbone=mobilenet_v2", "attention=none", "optimizer=adam", f"image_size={PIXELS}", f"batch_size={BATCH}",
            "trainer=cpu", "trainer.max_epochs=1", f"trainer.limit_train_batches={steps}",
            f"checkpoint.every_seconds={every_seconds or 'null'}", *options,
    )  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 256, (64, PIXELS, PIXELS), np.uint8)
    images = (steps + 2) * BATCH
    cache = cache_of(scratch / f"cache-{name}", images, PIXELS, pictures)
    catalog = Catalog(table_of(images), NIH14, "bench")
    prepared = Prepared(catalog, cache, "none", "none")
    run = Run(scratch / name)

    def go(turns: Turns, side: int) -> None:
        parts = assemble(config, run, resolve_devices(config["trainer"]), None, prepared)
        parts.trainer.callbacks.append(Turn(*current.side))
        run.create(config)
        training.work(parts, None)

    return go


def bare(steps: int) -> Callable[[Turns, int], None]:
    """The least that trains the same network: tensors in memory, channels last, no framework."""

    def go(turns: Turns, side: int) -> None:
        network = timm.create_model("mobilenetv2_100", in_chans=1, num_classes=len(NIH14))
        network = network.to(memory_format=torch.channels_last).train()
        optimizer, loss = torch.optim.Adam(network.parameters()), nn.BCEWithLogitsLoss()
        images = torch.randn(64 * BATCH, 1, PIXELS, PIXELS).contiguous(memory_format=torch.channels_last)
        targets = (torch.rand(len(images), len(NIH14)) < 0.05).float()
        for step in range(steps):
            turns.begin(side)
            start = step % 64 * BATCH
            optimizer.zero_grad()
            loss(network(images[start : start + BATCH]), targets[start : start + BATCH]).backward()
            optimizer.step()
            turns.over(side)

    return go


def in_turns(*sides: Callable[[Turns, int], None]) -> Turns:
    """Runs both to their end; an error of one ends the process, since the other would wait for it."""
    turns = Turns()

    def guarded(side: int) -> None:
        torch.set_num_threads(THREADS)
        current.side = (turns, side)
        try:
            sides[side](turns, side)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        turns.free[1 - side].release()

    threads = [threading.Thread(target=guarded, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return turns


def both_ways(name: str, ours: Side, reference: Side, steps: int) -> None:
    """The row, from two rounds: each side goes first once, since threads are not quite alike."""
    first, second = in_turns(ours("a", steps), reference("b", steps)), in_turns(reference("c", steps), ours("d", steps))
    rates = []
    for side, who in enumerate(("ours", "reference")):
        times = first.times[side][WARM_UP:] + second.times[1 - side][WARM_UP:]
        rates.append(BATCH * len(times) / sum(times))
        slow = ", ".join(f"{seconds:.2f}" for seconds in sorted(times)[-4:])
        middle, mean = np.median(times), np.mean(times)
        say(f"{name}: {who} {len(times)} steps, median {middle:.3f} s, mean {mean:.3f} s, slowest {slow}")
    row(name, rates[0], rates[1], rates[0] / rates[1], "images/s")


current = threading.local()


def main(scratch: Path, rows: list[str]) -> None:
    training.finish = lambda *_: None  # type: ignore[assignment]
    torch.set_num_threads(THREADS)

    def run(every_seconds: int | None) -> Side:
        return lambda name, steps: trained(scratch, f"{every_seconds}-{steps}-{name}", steps, every_seconds)

    if "step" in rows:
        both_ways("step", run(300), lambda _, steps: bare(steps), STEPS["step"])
    if "checkpointing" in rows:
        say(f"checkpointing: with two sides in turn, a checkpoint comes every {EVERY_SECONDS // 2} s of training")
        both_ways("checkpointing", run(EVERY_SECONDS), run(None), STEPS["checkpointing"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

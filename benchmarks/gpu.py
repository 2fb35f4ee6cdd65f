"""Training on a GPU beside a bare PyTorch loop: `python benchmarks/gpu.py [ROW ...]`.

A row is the backbone of one member of the paper, as `experiment=paper` trains it from a cache: 224 px, batches of 16,
augmentation, bf16 mixed precision. The bare loop trains the same network on tensors that lie in the GPU's memory.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tempfile
import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn

import cxr.training.run as training
from benchmarks.made import cache_of, configured, row, say, table_of
from cxr.data.catalog import Catalog
from cxr.findings import NIH14
from cxr.run.directory import Run
from cxr.training.assemble import assemble
from cxr.training.build import build_network
from cxr.training.devices import resolve_devices
from cxr.training.prepare import Prepared

ROWS = {"mobilenet": "mobilenet", "resnet": "resnet50", "vgg": "vgg19"}
BATCH, PIXELS, WARM_UP, STEPS, ROUNDS = 16, 224, 30, 200, 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock(pl.Callback):
    """Seconds between the end of the warm-up and the last batch."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.began = now()
        elif trainer.global_step == STEPS:
            self.seconds = now() - self.began


def trained(scratch: Path, backbone: str, *options: str) -> float:
    """Images per second of a run as `train.py` does it."""
    config = configured(
        "experiment=paper", f"backbone={backbone}", "backbone.pretrained=false", "trainer.max_epochs=1",
        "synthetic_batch_size=null", f"trainer.limit_train_batches={STEPS}", *options,
    )  # fmt: skip
    batch, images = int(config["batch_size"]), (STEPS + 2) * int(config["batch_size"])
    pictures = np.random.default_rng(0).integers(0, 256, (64, PIXELS, PIXELS), np.uint8)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        cache = cache_of(Path(folder) / "cache", images, PIXELS, pictures)
        run, clock = Run(Path(folder) / "run"), Clock()
        prepared = Prepared(Catalog(table_of(images), NIH14, "bench"), cache, "none", "none")
        parts = assemble(config, run, resolve_devices(config["trainer"]), None, prepared)
        parts.trainer.callbacks.append(clock)
        run.create(config)
        training.work(parts, None)
    return batch * (STEPS - WARM_UP) / clock.seconds


def bare(backbone: str, batch: int = BATCH) -> float:
    """Images per second of the least that trains the same network."""
    config = configured("experiment=paper", f"backbone={backbone}", "backbone.pretrained=false")
    network = build_network(config, len(NIH14)).to(DEVICE).train()
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=5e-4), nn.BCEWithLogitsLoss()
    images = torch.randint(0, 256, (8 * batch, 1, PIXELS, PIXELS), dtype=torch.uint8, device=DEVICE)
    targets = (torch.rand(8 * batch, len(NIH14), device=DEVICE) < 0.05).float()
    attributes = torch.zeros(batch, 5, device=DEVICE)
    for step in range(STEPS):
        if step == WARM_UP:
            began = now()
        part = slice(step % 8 * batch, (step % 8 + 1) * batch)
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            logits = network({"image": images[part], "attributes": attributes}).logits
        loss(logits.float(), targets[part]).backward()
        optimizer.step()
    return batch * (STEPS - WARM_UP) / (now() - began)


def main() -> None:
    training.finish = lambda *_: None  # type: ignore[assignment]
    if DEVICE.type == "cpu":
        raise SystemExit("this benchmark needs a GPU")
    say(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory() as scratch:
        for name in sys.argv[1:] or ROWS:
            rates = [(trained(Path(scratch), ROWS[name]), bare(ROWS[name])) for _ in range(1 + ROUNDS)]
            ours, reference = np.median(rates[1:], axis=0).tolist()  # CUDA loads kernels in the first round
            row(f"gpu_{name}", ours, reference, ours / reference, "images/s")


if __name__ == "__main__":
    main()

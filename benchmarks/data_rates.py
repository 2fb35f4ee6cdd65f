"""What bounds training on this machine, in a minute: `python benchmarks/data_rates.py DIR [key=value ...]`.

DIR holds images, in folders or not. Options are those of train.py: `backbone=resnet50 image_size=224 batch_size=16`.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import numpy as np
import pandas as pd
import torch

from benchmarks.made import cache_of, configured, table_of
from cxr.configuration.targets import build
from cxr.data.augment import Augmentation
from cxr.data.cache import Cache, CacheSettings, open_or_build
from cxr.data.catalog import Catalog
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.errors import CxrError
from cxr.findings import NIH14
from cxr.imaging.preprocessing import Preprocessing
from cxr.training.build import build_augmentation, build_loss, build_network
from cxr.training.devices import loader_processes, resolve_devices

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DECODED, SECONDS = 300, 8.0  # images; time for each of the others
CACHED = 4096  # images of the cache that is read: more than a processor holds


def per_second(work: Callable[[], int]) -> float:
    """Images a second of wall time, after a first round that warms up."""
    work()
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        images += work()
    return images / (time.perf_counter() - began)


def decoded(paths: list[str], size: int, scratch: Path) -> tuple[Cache, float]:
    chosen = np.resize(np.random.default_rng(0).permutation(paths), DECODED).tolist()
    table = pd.DataFrame({"image": [str(k) for k in range(len(chosen))], "path": chosen})
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        cache, _ = open_or_build(Catalog(table, (), "DIR"), scratch, CacheSettings(size, str(scratch / "one"), "skip"))
    return cache, len(chosen) / (time.perf_counter() - began)


def loading(data: RadiographData) -> Callable[[], int]:
    loader = data.train_dataloader()

    def some() -> int:
        images = 0
        for _, batch in zip(range(20), loader, strict=False):
            images += len(batch["index"])
        return images

    return some


def stepping(config: dict[str, Any], device: torch.device) -> Callable[[], int]:
    network = build_network(config, len(NIH14)).to(device).train()
    loss = build_loss(config, np.eye(len(NIH14), dtype=np.float32), NIH14).to(device)
    optimizer = build(config["optimizer"])(network.parameters())
    size, batch = int(config["image_size"]), int(config["batch_size"])
    image = torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, device=device)
    made = {"image": image, "target": torch.zeros(batch, len(NIH14), device=device)}

    def step() -> int:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = network(made)
            terms = loss(output._replace(logits=output.logits.float()), made, 0)
        (terms.total / terms.number).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return batch

    return step


def main(folder: Path, overrides: list[str]) -> None:
    paths = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        raise CxrError(f"DATA={folder} holds no images ({', '.join(IMAGES)}); give the folder that does")
    config = configured(*overrides)
    settings = CacheSettings.of(config)
    devices = resolve_devices(config["trainer"])
    device = torch.device("cuda" if devices.accelerator == "gpu" else "cpu")
    with tempfile.TemporaryDirectory(prefix="cxr-rates-") as place:
        scratch = Path(place)
        small, decode = decoded(paths, settings.size, scratch)
        processes = settings.processes or os.cpu_count() or 1
        say("decoding", decode, f"{processes} processes, once: {len(paths)} images take {minutes(len(paths) / decode)}")
        cache = cache_of(scratch / "many", CACHED, settings.size, np.array(small.open()))
        catalog = Catalog(table_of(CACHED), NIH14, "DIR")
        preprocessing = Preprocessing(int(config["image_size"]), settings.size, bool(config["crop"]))
        batches = LoaderSettings(int(config["batch_size"]), seed=int(config["seed"]))
        plain = RadiographData(catalog, cache, preprocessing, batches, Augmentation())
        changed = RadiographData(catalog, cache, preprocessing, batches, build_augmentation(config)[0])
        read = per_second(loading(plain))
        say("cache", read, f"one process, batches of {settings.size} px resized to {config['image_size']} px")
        load = per_second(loading(changed))
        say("augmentation", load, "one process, the same with augment's changes")
        train = per_second(stepping(config, device))
        say("network", train, f"{device.type}, batches of {config['batch_size']} at {config['image_size']} px")
        workers = loader_processes(config["data"]["workers"], devices.accelerator)
    cores = os.cpu_count() or 1
    feed = load * min(workers, max(1, cores - 1)) if workers else load
    whole = min(feed, train) if workers else 1 / (1 / feed + 1 / train)
    what = "network" if train < feed else "loading"
    by = f"{workers} loader processes" if workers else "the training process itself"
    print(
        f"the {what} bounds training: {by} can load {feed:,.0f} images/s, the network trains {train:,.0f}; about "
        f"{whole:,.0f} images/s in all, an epoch of {len(paths)} images takes {minutes(len(paths) / whole)}"
    )


def say(name: str, rate: float, how: str) -> None:
    print(f"{name:<13} {rate:>9,.0f} images/s  {how}", flush=True)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(str(__doc__).splitlines()[0])
    try:
        main(Path(sys.argv[1]).expanduser(), sys.argv[2:])
    except CxrError as error:
        sys.exit(f"error: {error}")

"""The way from files to batches beside its peers: `python benchmarks/input_path.py [DIR] [ROW ...]`.

DIR holds published PNGs (default `$CXR_SHARED/nih_native`). Both sides of a row are measured in one run; a row
is one JSON line on standard output, what lies behind it goes to standard error. Rates "per core" are images a
CPU-second of all processes. docs/benchmarks.md says what each row measures.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.input_building import building, rate
from benchmarks.input_catalog import SHARED, WHOLE, catalog_row
from benchmarks.made import cache_of, configured, row, say, table_of
from cxr.data.augment import Augmentation
from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.catalog import Catalog
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.findings import NIH14
from cxr.imaging.decode import FORMATS
from cxr.imaging.preprocessing import Preprocessing
from cxr.training.build import build_augmentation

BATCH = 64


class Files:
    """The PNGs, and a cache of them long enough not to stay in the processor's own."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.scratch = scratch
        self.paths = sorted(str(path) for path in folder.rglob("*.png"))
        if not self.paths:
            raise SystemExit(f"error: {folder} holds no PNG; give a folder of published radiographs")
        table = pd.DataFrame({"image": [str(k) for k in range(len(self.paths))], "path": self.paths})
        with contextlib.redirect_stdout(sys.stderr):
            small, _ = open_or_build(Catalog(table, (), "DIR"), folder, CacheSettings(256, str(scratch / "c"), "skip"))
        self.pictures = np.array(small.open())
        self.cache = cache_of(scratch / "long", 4096, 256, self.pictures)
        self.table = table_of(4096)

    def data(self, preprocessing: Preprocessing, augmentation: Augmentation, workers: int = 0) -> RadiographData:
        catalog = Catalog(self.table, NIH14, "bench")
        return RadiographData(catalog, self.cache, preprocessing, LoaderSettings(BATCH, workers), augmentation)


# The field's path


class FieldPath(Dataset[tuple[torch.Tensor, int]]):
    """Open, RGB, resize, to tensor, normalise: every epoch anew."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.transform = torchvision.transforms.Compose(
            [
                torchvision.transforms.Resize((224, 224)),
                torchvision.transforms.ToTensor(),
                torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.paths[index], formats=FORMATS).convert("RGB")), index


def consume(loader: "DataLoader[Any]") -> int:
    return sum(len(batch["image"] if isinstance(batch, dict) else batch[0]) for batch in loader)


def batches(files: Files) -> None:
    """Rows `augmented`, `cropped` and `resized`."""
    loader = DataLoader(FieldPath(files.paths), batch_size=BATCH, shuffle=True)
    field = rate(lambda: consume(loader), rounds=2)
    augmentation, _ = build_augmentation(configured("augment=paper"))
    for name, preprocessing, changes in (
        ("augmented", Preprocessing(224, 256), augmentation),
        ("cropped", Preprocessing(224, 256, crop=True), Augmentation()),
        ("resized", Preprocessing(224, 256), Augmentation()),
    ):
        ours = files.data(preprocessing, changes).train_dataloader()
        reached = rate(lambda ours=ours: consume(ours))  # type: ignore[misc]
        row(name, reached, field, reached / field, "images per CPU-second")


class TorchvisionAugmented(Dataset[torch.Tensor]):
    """The paper's augmentation as torchvision v2 has it, on the same cached array."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.transform = v2.Compose(
            [
                v2.RandomAffine(5, (0.05, 0.05), (0.9, 1.15), interpolation=v2.InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(0.5),
                v2.Resize((224, 224), antialias=False),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(torch.from_numpy(np.array(self.images[index]))[None])


def beside_torchvision(files: Files) -> None:
    augmentation, _ = build_augmentation(configured("augment=paper"))
    ours = files.data(Preprocessing(224, 256), augmentation).train_dataloader()
    theirs = DataLoader(TorchvisionAugmented(files.cache.open()), batch_size=BATCH, shuffle=True)
    reached = rate(lambda: consume(ours))
    reference = rate(lambda: sum(len(batch) for batch in theirs), rounds=2)
    row("torchvision", reached, reference, reached / reference, "images per CPU-second")


def beside_warps(files: Files) -> None:
    """Row `warp`: the interpolations alone, of the same images by maps of the same distribution, without a loader."""
    augmentation, _ = build_augmentation(configured("augment=paper"))
    ours = files.data(Preprocessing(224, 256), augmentation).train_dataloader()
    stored, rng = files.cache.open(), np.random.default_rng(0)
    angle, scale = np.deg2rad(rng.uniform(-5, 5, len(stored))), 256 / 224 / rng.uniform(0.9, 1.15, len(stored))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    turn *= scale[:, None, None] * np.stack([rng.choice([-1, 1], len(stored)), np.ones(len(stored))], 1)[:, None]
    shift = rng.uniform(-0.05, 0.05, (len(stored), 2)) * 256
    maps = np.concatenate([turn, (127.5 + shift - turn @ np.array([111.5, 111.5]))[..., None]], axis=2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def bare() -> int:
        order = rng.permutation(len(stored))
        for start in range(0, len(order), BATCH):
            made = np.empty((BATCH, 224, 224), np.uint8)
            for place, image in zip(made, order[start : start + BATCH].tolist(), strict=True):
                cv2.warpAffine(
                    stored[image], maps[image], (224, 224), dst=place, flags=flags, borderMode=cv2.BORDER_REFLECT_101
                )
        return len(order)

    reached, reference = rate(lambda: consume(ours), rounds=5), rate(bare, rounds=5)
    row("warp", reached, reference, reached / reference, "images per CPU-second")


# Training, see training_rates.py: it runs in processes of its own, so that threads and memory are those of a training


def training(scratch: Path, names: set[str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("training_rates.py")), str(scratch), *sorted(names)]
    subprocess.run(command, check=True)


def own_memory(process: int | str) -> float:
    """MB that no other process shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def worker_rows(scratch: Path, names: set[str]) -> None:
    cache = cache_of(scratch / "sparse", WHOLE, 256)
    catalog = Catalog(table_of(WHOLE), NIH14, "bench")
    augmentation, _ = build_augmentation(configured("augment=paper"))

    def data(workers: int) -> RadiographData:
        return RadiographData(catalog, cache, Preprocessing(224, 256), LoaderSettings(BATCH, workers), augmentation)

    if "first_batch" in names:
        slowest = 0.0
        for workers in (0, 2):
            began = time.perf_counter()
            batch = next(iter(data(workers).train_dataloader()))
            took = time.perf_counter() - began
            assert len(batch["index"]) == BATCH
            say(f"first_batch: {took:.3f} s with {workers} workers")
            slowest = max(slowest, took)
        row("first_batch", slowest, 2.0, 2.0 / slowest, "s")
    if "worker_memory" in names:
        bare = subprocess.run(
            [sys.executable, __file__, "--bare"], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        found = {}
        for method in ("fork", "spawn"):
            loader = data(2).train_dataloader()
            loader.multiprocessing_context = method  # type: ignore[assignment]
            batches_ = iter(loader)
            for _ in range(200):
                next(batches_)
            workers = batches_._workers  # type: ignore[attr-defined]
            own = max(own_memory(worker.pid) for worker in workers)
            found[method] = own - (float(bare) if method == "spawn" else 0.0)
            del batches_, loader
        say(f"worker_memory: {found} MB; a spawned worker's is beyond the {bare} MB of a bare interpreter")
        worst = max(found.values())
        row("worker_memory", worst, 150.0, 150.0 / worst, "MB")
    shutil.rmtree(cache.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED / "nih_native", metavar="DIR")
    every = (
        "augmented", "cropped", "resized", "torchvision", "warp", "build", "step", "checkpointing", "catalog",
        "worker_memory", "first_batch",
    )  # fmt: skip
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(every)}; default all")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        print(own_memory("self"))
        return
    names = set(chosen.rows or every)
    if names - set(every):
        parser.error(f"unknown row {', '.join(sorted(names - set(every)))}; rows are {', '.join(every)}")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as scratch:
        place = Path(scratch)
        if names & {"augmented", "cropped", "resized", "torchvision", "warp", "build"}:
            files = Files(chosen.folder, place)
            if names & {"augmented", "cropped", "resized"}:
                batches(files)
            if "torchvision" in names:
                beside_torchvision(files)
            if "warp" in names:
                beside_warps(files)
            if "build" in names:
                building(files.paths, place)
        if "catalog" in names:
            catalog_row(place)
        if names & {"first_batch", "worker_memory"}:
            worker_rows(place, names)
        if names & {"step", "checkpointing"}:
            training(place, names & {"step", "checkpointing"})


if __name__ == "__main__":
    main()

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
import resource
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
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

from benchmarks.made import cache_of, configured, row, say, table_of
from cxr.data.augment import Augmentation
from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.cache.manifest import state_of
from cxr.data.catalog import Catalog, check_images_exist, choose_findings
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.data.sources.nih import read_nih
from cxr.data.split import split_catalog, split_fingerprint
from cxr.findings import NIH14
from cxr.imaging.decode import FORMATS
from cxr.imaging.preprocessing import Preprocessing
from cxr.training.build import build_augmentation

WHOLE = 112_120  # images of ChestX-ray14
SHARED = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")
BATCH = 64


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rate(work: Callable[[], int], rounds: int = 3) -> float:
    """Images a CPU-second, the best of several rounds."""
    best = 0.0
    for _ in range(rounds):
        began = cpu_seconds()
        images = work()
        best = max(best, images / (cpu_seconds() - began))
    return best


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


# Building


def shortened(content: bytes, rows: int) -> bytes:
    """A PNG that shows `rows` rows fewer, so that copies of one file differ; decoding costs what it did."""
    height = int.from_bytes(content[20:24], "big") - rows
    header = content[12:20] + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def copies(files: Files, wanted: int) -> list[str]:
    folder = files.scratch / "copies"
    folder.mkdir()
    made: list[str] = []
    for k in range(max(1, round(wanted / len(files.paths)))):
        for path in files.paths:
            made.append(str(folder / f"{len(made):06d}.png"))
            Path(made[-1]).write_bytes(shortened(Path(path).read_bytes(), k))
    return made


def with_pillow(path: str) -> np.ndarray:
    with Image.open(path, formats=FORMATS) as image:
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def with_opencv(path: str) -> np.ndarray:
    pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])


def with_torchvision(path: str) -> np.ndarray:
    return np.ascontiguousarray(torchvision.io.decode_image(path).numpy()[0])


BUILD = """
import shutil, sys, time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
import pandas as pd
from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.catalog import Catalog
folder, where = Path(sys.argv[1]), Path(sys.argv[2])
paths = sorted(map(str, folder.glob("*.png")))
table = pd.DataFrame({"image": [Path(path).name for path in paths], "path": paths})
began = time.process_time()
_, kept = open_or_build(Catalog(table, (), "copies"), folder, CacheSettings(256, str(where)))
workers = getrusage(RUSAGE_CHILDREN)
shutil.rmtree(where)
print(len(kept) / (time.process_time() - began + workers.ru_utime + workers.ru_stime))
"""


def building(files: Files) -> None:
    paths = copies(files, 1200)
    some = paths[:: max(1, len(paths) // 300)]

    def bare(decoder: Callable[[str], np.ndarray]) -> int:
        for path in some:
            cv2.resize(decoder(path), (256, 256), interpolation=cv2.INTER_AREA)
        return len(some)

    with silent():
        rates = {d.__name__: rate(lambda d=d: bare(d), rounds=2) for d in (with_pillow, with_opencv, with_torchvision)}  # type: ignore[misc]
    say(f"build: bare loops { ({name: round(value, 1) for name, value in rates.items()}) } images per CPU-second")
    # Without a main module that PyTorch is imported by: the workers of a pool import their parent's.
    command = [sys.executable, "-c", BUILD, str(files.scratch / "copies"), str(files.scratch / "built")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    built = [subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    reached, best = max(float(one.stdout.split()[-1]) for one in built), max(rates.values())
    row("build", reached, best, reached / best, "images per CPU-second")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what C libraries write to standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Training, see training_rates.py: it runs in processes of its own, so that threads and memory are those of a training


def training(scratch: Path, names: set[str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("training_rates.py")), str(scratch), *sorted(names)]
    subprocess.run(command, check=True)


# The whole of ChestX-ray14


def whole_folder(scratch: Path) -> Path:
    """The published table with as many files, which are empty; without the table, one of the same length."""
    folder = scratch / "nih"
    (folder / "images").mkdir(parents=True)
    source = SHARED / "nih_metadata"
    if source.is_dir():
        for path in source.glob("*.*"):
            shutil.copy(path, folder / path.name)
        names = pd.read_csv(next(folder.glob("Data_Entry_2017*.csv")), usecols=["Image Index"])["Image Index"].tolist()
    else:
        say("catalog: no published table here; one of the same length is made")
        names = [f"{k // 4:08d}_{k % 4:03d}.png" for k in range(WHOLE)]
        labels = np.random.default_rng(0).choice([*NIH14, "No Finding", "Effusion|Mass"], WHOLE)
        table = pd.DataFrame({"Image Index": names, "Finding Labels": labels})
        table["Follow-up #"], table["Patient ID"], table["Patient Age"] = 0, [name[:8] for name in names], 50
        table["Patient Gender"], table["View Position"] = "F", "PA"
        table.to_csv(folder / "Data_Entry_2017.csv", index=False)
        (folder / "train_val_list.txt").write_text("\n".join(names[:86_524]))
        (folder / "test_list.txt").write_text("\n".join(names[86_524:]))
    for name in names:
        (folder / "images" / name).touch()
    return folder


def catalog_row(scratch: Path) -> None:
    folder = whole_folder(scratch)

    def whole() -> tuple[float, str]:
        began = time.perf_counter()
        catalog = check_images_exist(choose_findings(read_nih(str(folder)), None, [], 0), "fail")
        catalog = split_catalog(catalog, folder, "train_val_list.txt", None, "test_list.txt", 0.1, 0)
        state = state_of(list(catalog.table["image"]), list(catalog.table["path"]), 256)
        fingerprints = split_fingerprint(catalog) + catalog.labels_sha256 + state.fingerprint
        assert len(catalog) == WHOLE
        return time.perf_counter() - began, fingerprints

    times = [whole()[0] for _ in range(2)]
    row("catalog", min(times), 4.0, 4.0 / min(times), "s")
    shutil.rmtree(folder)


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
                building(files)
        if "catalog" in names:
            catalog_row(place)
        if names & {"first_batch", "worker_memory"}:
            worker_rows(place, names)
        if names & {"step", "checkpointing"}:
            training(place, names & {"step", "checkpointing"})


if __name__ == "__main__":
    main()

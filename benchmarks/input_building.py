"""Row `build` of input_path.py: the cache of 1,200 PNGs beside bare loops over other decoders."""

import contextlib
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torchvision
from PIL import Image

from benchmarks.made import row, say
from cxr.imaging.decode import FORMATS


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


def shortened(content: bytes, rows: int) -> bytes:
    """A PNG that shows `rows` rows fewer, so that copies of one file differ; decoding costs what it did."""
    height = int.from_bytes(content[20:24], "big") - rows
    header = content[12:20] + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def copies(files: list[str], folder: Path, wanted: int) -> list[str]:
    folder.mkdir()
    made: list[str] = []
    for k in range(max(1, round(wanted / len(files)))):
        for path in files:
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


def building(files: list[str], scratch: Path) -> None:
    paths = copies(files, scratch / "copies", 1200)
    some = paths[:: max(1, len(paths) // 300)]

    def bare(decoder: Callable[[str], np.ndarray]) -> int:
        for path in some:
            cv2.resize(decoder(path), (256, 256), interpolation=cv2.INTER_AREA)
        return len(some)

    with silent():
        rates = {d.__name__: rate(lambda d=d: bare(d), rounds=2) for d in (with_pillow, with_opencv, with_torchvision)}  # type: ignore[misc]
    say(f"build: bare loops { ({name: round(value, 1) for name, value in rates.items()}) } images per CPU-second")
    # Without a main module that PyTorch is imported by: the workers of a pool import their parent's.
    command = [sys.executable, "-c", BUILD, str(scratch / "copies"), str(scratch / "built")]
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

"""What the benchmarks of the input path are made of: rows of results, catalogs and caches of any length."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir

from cxr.cli import conf_dir
from cxr.cli.options import plain
from cxr.configuration.schema import Train
from cxr.data.cache import Cache
from cxr.findings import NIH14


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def row(name: str, ours: float, reference: float, ratio: float, unit: str) -> None:
    line = {"row": name, "ours": ours, "reference": reference, "ratio": ratio, "unit": unit}
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


def configured(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return plain(compose("train", ["data.root=unused", *overrides]), Train)


def table_of(images: int) -> pd.DataFrame:
    """A catalog's table of any length; all images train, but for two that validate and two that test."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": [f"{k:08d}_000.png" for k in range(images)]})
    table["path"], table["patient"], table["followup"] = "", table["image"].str[:8], 0
    table["age"], table["sex"], table["view"] = 50.0, "F", "PA"
    for name in NIH14:
        table[name] = (rng.random(images) < 0.05).astype(np.float32)
    split = np.full(images, "train", object)
    split[-4:] = ["val", "val", "test", "test"]
    table.loc[table.index[[-4, -2]], list(NIH14)] = 1
    table.loc[table.index[[-3, -1]], list(NIH14)] = 0
    return table.assign(split=split)


def cache_of(folder: Path, images: int, size: int, pictures: np.ndarray | None = None) -> Cache:
    """A cache of any length: `pictures` over and over, or a file with holes."""
    folder.mkdir(parents=True)
    header = io.BytesIO()
    shape = (images, size, size)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with (folder / "images.npy").open("wb") as file:
        file.write(header.getvalue())
        for k in range(images if pictures is not None else 0):
            file.write(pictures[k % len(pictures)].tobytes())  # type: ignore[index]
        file.truncate(len(header.getvalue()) + images * size * size)
    return Cache(folder, tuple(f"{k:08d}_000.png" for k in range(images)), size)

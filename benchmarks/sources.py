"""Reading a table of half a million radiographs, a line of JSON a row: `python benchmarks/sources.py [ROW ...]`.

table: read, checked, split and fingerprinted, against `pandas.read_csv` of the same file. memory: what a process that
has done so held at most, against 1,000 MB.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contextlib
import io
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir

from cxr.cli import conf_dir
from cxr.cli.options import plain
from cxr.configuration.schema import Inspect
from cxr.data.split import split_fingerprint
from cxr.findings import NIH14
from cxr.training.catalog import read_source, split_source

ROWS, PATIENTS, FOLDERS, ROUNDS = 500_000, 130_000, 500, 3
MEGABYTE = 1_000_000


def write_films(root: Path) -> Path:
    """A table of 14 findings with an empty file for each of its images, in folders, as no more is read of them."""
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(0, PATIENTS, ROWS))
    table = pd.DataFrame({"image": [f"p{patient % FOLDERS:03d}/{k:08d}.png" for k, patient in enumerate(patients)]})
    table["patient"] = [f"{patient:06d}" for patient in patients]
    table["age"] = rng.integers(0, 95, ROWS)
    table["sex"], table["view"] = rng.choice(["F", "M"], ROWS), rng.choice(["PA", "AP"], ROWS)
    for name in NIH14:
        table[name] = rng.choice(["0", "1", "", "-1"], ROWS, p=[0.55, 0.08, 0.35, 0.02])
    for number in range(FOLDERS):
        (root / f"p{number:03d}").mkdir()
    for image in table["image"]:
        (root / image).touch()
    table.to_csv(root / "films.csv", index=False)
    return root / "films.csv"


def read_and_split(root: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["data=table", f"data.root={root}", "data.file=films.csv"]
        config = plain(compose("inspect", words), Inspect)
    with contextlib.redirect_stdout(io.StringIO()):
        catalog = split_source(read_source(config), config)
    assert len(catalog) == ROWS and len(split_fingerprint(catalog)) == len(catalog.labels_sha256)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row(name: str, ours: float, reference: float, unit: str) -> None:
    line = {"row": name, "ours": round(ours, 3), "reference": round(reference, 3), "ratio": round(ours / reference, 3)}
    print(json.dumps({**line, "unit": unit}), flush=True)


def table(root: Path) -> None:
    rounds = [
        (seconds(lambda: read_and_split(root)), seconds(lambda: pd.read_csv(root / "films.csv"))) for _ in range(ROUNDS)
    ]
    ours, reference = map(min, zip(*rounds, strict=True))
    row("table", ours, reference, "s")


def memory(root: Path) -> None:
    done = subprocess.run([sys.executable, __file__, "--read", str(root)], check=True, capture_output=True, text=True)
    row("memory", float(done.stdout), 1000, "MB")


def main(names: list[str]) -> None:
    if names[:1] == ["--read"]:
        read_and_split(Path(names[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE)
        return
    rows = {"table": table, "memory": memory}
    with tempfile.TemporaryDirectory() as folder:
        write_films(Path(folder))
        for name in names or rows:
            rows[name](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])

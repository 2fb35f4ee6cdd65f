"""Reading tables, DICOM files and archives, a line of JSON a row: `python benchmarks/sources.py [ROW ...]`.

table: CPU seconds in which 500,000 rows are read, checked, split and fingerprinted, against `pandas.read_csv`. memory:
what a process that has done so held at most, against 1,000 MB. dicom, dicom_j2k: images per CPU second of a cache build
from uncompressed and JPEG 2000 DICOM, against a bare loop of pydicom's decoding and windowing and OpenCV's resize.
archive: the same of a `.tar` of PNGs, against its folder.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contextlib
import io
import json
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable

import cv2
import numpy as np

if __name__ == "__main__":  # processes that decode import this file too
    import pandas as pd
    from hydra import compose, initialize_config_dir

    from cxr.cli import conf_dir
    from cxr.cli.options import plain
    from cxr.configuration.schema import Inspect
    from cxr.data.cache import CacheSettings, open_or_build
    from cxr.data.catalog import Catalog
    from cxr.data.split import split_fingerprint
    from cxr.findings import NIH14
    from cxr.training.catalog import read_source, split_source

ROWS, PATIENTS, FOLDERS, ROUNDS = 500_000, 130_000, 500, 3
DICOMS, J2KS, PNGS, SIDE, SIZE = 120, 20, 200, 1600, 224
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


def row(name: str, ours: float, reference: float, unit: str) -> None:
    line = {"row": name, "ours": round(ours, 3), "reference": round(reference, 3), "ratio": round(ours / reference, 3)}
    print(json.dumps({**line, "unit": unit}), flush=True)


def table(root: Path) -> None:
    rounds = [
        (cpu_seconds(lambda: read_and_split(root)), cpu_seconds(lambda: pd.read_csv(root / "films.csv")))
        for _ in range(ROUNDS)
    ]
    ours, reference = map(min, zip(*rounds, strict=True))
    row("table", ours, reference, "CPU s")


def memory(root: Path) -> None:
    done = subprocess.run([sys.executable, __file__, "--read", str(root)], check=True, capture_output=True, text=True)
    row("memory", float(done.stdout), 1000, "MB")


def radiograph(number: int, side: int) -> np.ndarray:
    """(side, side) uint16 of 12 bits: smooth, with noise in its lowest bits, as a detector has it."""
    rng = np.random.default_rng(number)
    smooth = cv2.resize(rng.random((12, 12), np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth * 3000 + 500 + rng.normal(0, 8, (side, side)), 0, 4095).astype(np.uint16)


def write_dicom(path: Path, number: int, jpeg_2000: bool) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    film.set_pixel_data(radiograph(number, SIDE), "MONOCHROME1", 12)
    film.WindowCenter, film.WindowWidth = 2000, 3600
    if jpeg_2000:
        film.compress(JPEG2000Lossless)
    film.save_as(path, enforce_file_format=True)


def bare_loop(paths: list[Path]) -> None:
    import pydicom
    from pydicom.pixels import apply_windowing

    rows = np.empty((len(paths), SIZE, SIZE), np.uint8)
    for row_, path in zip(rows, paths, strict=True):
        film = pydicom.dcmread(path)
        shown = 4095 - apply_windowing(film.pixel_array, film)
        row_[:] = np.rint(cv2.resize(shown * (255 / 4095), (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def cpu_seconds(work: Callable[[], object]) -> float:
    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    began = used()
    work()
    return used() - began


def build(images: dict[str, str], root: Path) -> float:
    """CPU seconds of a cache build."""
    films = Catalog(pd.DataFrame({"image": list(images), "path": list(images.values())}), (), "table")
    shutil.rmtree(root / "caches", ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        return cpu_seconds(lambda: open_or_build(films, root, CacheSettings(SIZE, str(root / "caches"), processes=1)))


def dicom(root: Path, jpeg_2000: bool = False) -> None:
    paths = [root / f"{jpeg_2000}-{number}.dcm" for number in range(J2KS if jpeg_2000 else DICOMS)]
    for number, path in enumerate(paths):
        write_dicom(path, number, jpeg_2000)
    images = {path.name: str(path) for path in paths}
    rounds = [(build(images, root), cpu_seconds(lambda: bare_loop(paths))) for _ in range(ROUNDS)]
    ours, reference = map(min, zip(*rounds, strict=True))
    row("dicom_j2k" if jpeg_2000 else "dicom", len(paths) / ours, len(paths) / reference, "images/CPU s")


def archive(root: Path) -> None:
    (root / "pngs").mkdir()
    paths = [root / "pngs" / f"{number}.png" for number in range(PNGS)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), (radiograph(number, 1024) // 16).astype(np.uint8))
    with tarfile.open(root / "pngs.tar", "w") as file:
        file.add(root / "pngs", "pngs")
    inside = {path.name: f"{root}/pngs.tar/pngs/{path.name}" for path in paths}
    rounds = [(build(inside, root), build({path.name: str(path) for path in paths}, root)) for _ in range(ROUNDS)]
    ours, reference = map(min, zip(*rounds, strict=True))
    row("archive", PNGS / ours, PNGS / reference, "images/CPU s")


def main(names: list[str]) -> None:
    if names[:1] == ["--read"]:
        read_and_split(Path(names[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE)
        return
    cv2.setNumThreads(0)
    rows = {
        "table": table, "memory": memory, "dicom": dicom, "dicom_j2k": lambda root: dicom(root, jpeg_2000=True),
        "archive": archive,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        if not names or {"table", "memory"} & set(names):
            write_films(Path(folder))
        for name in names or rows:
            rows[name](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])

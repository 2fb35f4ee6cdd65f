"""Fixtures for all rooms: the folder of real data, and tiny data sets in the NIH layout."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_nih
from cxr.processes.stopping import SIGNALS, requests

settings.register_profile("cxr", deadline=None, derandomize=True, database=None)
settings.load_profile("cxr")

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = ("Mass", "No Finding", "Effusion|Mass", "Nodule", "No Finding", "Pneumonia|Effusion")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data: `CXR_SHARED`, or `shared` beside the checkout."""
    folder = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "nih_mini").is_dir():
        pytest.skip(f"real data are absent: {folder} has no nih_mini; set CXR_SHARED to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def published(shared: Path) -> Catalog:
    """The full table of 112,120 images, read once for all tests; nobody changes it."""
    return read_nih(str(shared / "nih_metadata"))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A program that a test runs in this process installs handlers of signals, and remembers signals."""
    numbers = (signal.SIGINT, *SIGNALS, signal.SIGUSR2)
    kept, state = [signal.getsignal(number) for number in numbers], vars(requests).copy()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    yield
    for number, handler in zip(numbers, kept, strict=True):
        signal.signal(number, handler)
    vars(requests).update(state)


def default_rows() -> list[dict[str, str]]:
    """24 images: 12 patients with two each."""
    rows = []
    for patient in range(1, 13):
        for followup in range(2):
            position = 2 * (patient - 1) + followup
            rows.append(
                {
                    "image": f"{patient:08d}_{followup:03d}.png",
                    "labels": LABELS[position % len(LABELS)],
                    "followup": str(followup),
                    "patient": str(patient),
                    "age": str(30 + patient),
                    "sex": "MF"[patient % 2],
                    "view": ("PA", "AP")[followup],
                }
            )
    return rows


def picture(position: int, size: int) -> np.ndarray:
    """(size, size) uint8, another one for every position."""
    return np.random.default_rng([position, size]).integers(0, 256, (size, size), np.uint8)


@pytest.fixture
def nih_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tiny folder in the NIH layout and returns it.

    Arguments of the function, all optional:
        rows: mappings with `image`, `labels`, `patient` and, if not the default, `followup`, `age`, `sex`, `view`;
            by default 24 images of 12 patients.
        images: names to draw as PNG; by default those of all rows. The image of row i shows `picture(i, size)`.
        lists: file name to image names; by default `train_val_list.txt` (patients 1 to 9) and `test_list.txt` (10 to
            12) for the default rows, and none for given rows.
        size: side of the PNGs in pixels.
        name: of the folder below `tmp_path`.
        header: first line of the table; table: its file name; folder: where images lie, below the root.
        line: of a row, a format string.
    """

    def write(
        rows: Sequence[Mapping[str, str]] | None = None,
        images: Sequence[str] | None = None,
        lists: Mapping[str, Sequence[str]] | None = None,
        size: int = 24,
        name: str = "nih",
        header: str = HEADER,
        table: str = "Data_Entry_2017.csv",
        folder: str = "images",
        line: str = "{image},{labels},{followup},{patient},{age},{sex},{view},2500,2048,0.168,0.168",
    ) -> Path:
        if rows is None and lists is None:
            names = [row["image"] for row in default_rows()]
            lists = {"train_val_list.txt": names[:18], "test_list.txt": names[18:]}
        usual = {"followup": "0", "age": "50", "sex": "F", "view": "PA"}
        full = [usual | dict(row) for row in (default_rows() if rows is None else rows)]
        root = tmp_path / name
        (root / folder).mkdir(parents=True)
        (root / table).write_text("\n".join([header, *(line.format(**row) for row in full)]) + "\n", encoding="utf-8")
        drawn = {row["image"] for row in full} if images is None else set(images)
        for position, row in enumerate(full):
            if row["image"] in drawn:
                Image.fromarray(picture(position, size)).save(root / folder / row["image"])
        for file, listed in (lists or {}).items():
            (root / file).write_text("\n".join(listed), encoding="utf-8")  # no newline at the end, as published
        return root

    return write

"""Untrusted folders: names that lead elsewhere, links under a build, pipes without end, images too large."""

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.cache.manifest import read_manifest
from cxr.data.cache.store import open_array
from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_boxes, read_nih
from cxr.data.split import read_list
from cxr.errors import CxrError
from cxr.imaging.decode import MOST_PIXELS, BadImage, gray
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.training.checkpoint import read_checkpoint


@pytest.fixture
def films(tmp_path: Path) -> Catalog:
    """Three images and their catalog; no cache yet."""
    (tmp_path / "films").mkdir()
    paths = [tmp_path / "films" / f"{name}.png" for name in "abc"]
    for number, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)).save(path)
    table = pd.DataFrame({"image": [path.name for path in paths], "path": [str(path) for path in paths]})
    return Catalog(table, (), "table")


def cached(films: Catalog, root: Path) -> Path:
    return open_or_build(films, root, CacheSettings(8, str(root / "cache"), "skip", 1))[0].folder


def change(folder: Path, **parts: Any) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | parts))


def rows(folder: Path, row: int, column: int, value: object) -> list[list[Any]]:
    images = json.loads((folder / "manifest.json").read_text())["images"]
    images[row][column] = value
    return images


SPOILED: list[tuple[int, object]] = [
    (0, "../../x.png"), (0, "/etc/passwd"), (0, "b.png"), (0, "a\nb.png"), (0, "\ud800"), (0, 7), (1, "1"), (1, True),
    (4, -1), (6, ""), (7, "=cmd|' /C calc'!A0"), (7, "\x1b[2J"), (7, "fine but it has pixels"), (5, None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), SPOILED, ids=str)
def test_manifest_that_no_build_wrote_is_refused(films: Catalog, tmp_path: Path, column: int, value: object) -> None:
    folder = cached(films, tmp_path)
    change(folder, images=rows(folder, 0, column, value))
    with pytest.raises(CxrError, match=r"is not a valid manifest|is a cache of other images"):
        cached(films, tmp_path)


def test_rows_of_a_manifest_in_another_order_are_refused(films: Catalog, tmp_path: Path) -> None:
    folder = cached(films, tmp_path)
    change(folder, images=json.loads((folder / "manifest.json").read_text())["images"][::-1])
    with pytest.raises(CxrError, match="is a cache of other images"):
        cached(films, tmp_path)


@pytest.mark.parametrize(
    "parts",
    [
        {"duplicates": [["a.png", "../../x"]]}, {"duplicates": [["a.png", "a.png"]]}, {"duplicates": 3},
        {"duplicates": [["a.png"], ["a.png"]]}, {"duplicates": [[]]}, {"duplicates": [["a.png"]]},
        {"size": True}, {"size": 1e300}, {"images": []}, {"columns": []},
        {"images": {"a": 1}}, {"format": "2"},
    ],
    ids=str,
)  # fmt: skip
def test_head_of_a_manifest_that_no_build_wrote_is_refused(
    films: Catalog, tmp_path: Path, parts: dict[str, object]
) -> None:
    change(cached(films, tmp_path), **parts)
    with pytest.raises(CxrError, match=r"is not a valid manifest|is a cache of other images"):
        cached(films, tmp_path)


@pytest.mark.parametrize("place", [".lock-{}", ".building-{}", ".building-{}/images.npy", ".building-{}/journal.jsonl"])
def test_nothing_is_written_through_a_link_in_the_cache_folder(films: Catalog, tmp_path: Path, place: str) -> None:
    folder = cached(films, tmp_path)
    folder.rename(tmp_path / "away")
    mine = tmp_path / "mine"
    if place == ".building-{}":
        mine.mkdir()
    else:
        mine.write_text("my thesis " * 100)
    link = folder.parent / place.format(folder.name)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(mine)
    before = list(mine.iterdir()) if mine.is_dir() else mine.read_text()
    with pytest.raises(CxrError, match="is a link, through which a cache is not written"):
        cached(films, tmp_path)
    assert (list(mine.iterdir()) if mine.is_dir() else mine.read_text()) == before


def test_report_takes_the_place_of_a_link_and_leaves_its_target(films: Catalog, tmp_path: Path) -> None:
    folder = cached(films, tmp_path)
    (tmp_path / "mine").write_text("my thesis")
    (folder / "report.csv").unlink()
    (folder / "report.csv").symlink_to(tmp_path / "mine")
    cached(films, tmp_path)
    assert (tmp_path / "mine").read_text() == "my thesis"


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a pipe that nobody writes to: opening it to read would wait for ever."""

    def make(name: str) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    yield make


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("manifest.json", lambda path: read_manifest(path.parent)),
        ("images.npy", lambda path: open_array(path, (1,))),
        ("Data_Entry_2017.csv", lambda path: read_nih(str(path.parent))),
        ("list.txt", lambda path: read_list(path.parent, path.name)),
        ("test.parquet", read_predictions),
        ("best.ckpt", read_checkpoint),
        ("config.yaml", lambda path: Run(path.parent).config()),
        ("metrics.json", lambda path: Run(path.parent).metrics()),
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(
    pipe: Callable[[str], Path], name: str, read: Callable[[Path], object]
) -> None:
    with pytest.raises(CxrError):
        read(pipe(name))


def test_a_pipe_in_place_of_the_boxes_is_no_box(pipe: Callable[[str], Path]) -> None:
    assert read_boxes(pipe("BBox_List_2017.csv").parent).empty


def test_a_pipe_in_place_of_the_report_is_not_waited_for(films: Catalog, tmp_path: Path) -> None:
    report = cached(films, tmp_path) / "report.csv"
    report.unlink()
    os.mkfifo(report)
    with pytest.raises(CxrError, match=r"report\.csv cannot be read: it is not a regular file"):
        cached(films, tmp_path)


def png(width: int, height: int, colour: int = 0, bits: int = 8) -> bytes:
    """A whole PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def of_pillow(kind: str) -> bytes:
    """A file of another format whose header says 60000 x 60000."""
    buffer = BytesIO()
    Image.new("L", (258, 772)).save(buffer, kind)
    content, side = buffer.getvalue(), struct.pack(">H", 60000)
    if kind == "JPEG":
        return content.replace(struct.pack(">HH", 772, 258), 2 * side)
    return content.replace(struct.pack("<H", 258), struct.pack("<H", 60000)).replace(
        struct.pack("<H", 772), struct.pack("<H", 60000)
    )


LARGE = {
    "gray png": png(60000, 60000), "colour png": png(60000, 60000, 2), "deep png": png(1 << 30, 1 << 30, 6, 16),
    "one row more": png(MOST_PIXELS // 8000, 8001), "gif": of_pillow("GIF"), "bmp": bmp(60000, 60000),
    "jpeg": of_pillow("JPEG"), "tiff": of_pillow("TIFF"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LARGE)
def test_image_that_would_not_fit_memory_is_refused_before_it_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **options: object) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr("cv2.imdecode", never)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(BadImage, match="too large"):
        gray(LARGE[kind])

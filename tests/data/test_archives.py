"""Archives: a cache built from them is that of a folder, and hostile ones are one sentence."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr.data import archives
from cxr.data.archives import contents, members
from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.cache.verify import verify
from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_nih
from cxr.data.sources.table import read_table
from cxr.errors import CxrError
from cxr.imaging.limits import BadImage
from tests.conftest import picture

Folder = Callable[..., Path]


def png(number: int, size: int = 24) -> bytes:
    return cv2.imencode(".png", picture(number, size))[1].tobytes()


def pack(archive: Path, files: dict[str, bytes]) -> Path:
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return archive
    with tarfile.open(archive, "w" if archive.suffix.lower() == ".tar" else "w:gz") as file:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return archive


def cached(root: Path, paths: dict[str, str], **options: Any) -> tuple[Any, Catalog]:
    films = Catalog(pd.DataFrame({"image": list(paths), "path": list(paths.values())}), (), "table.csv")
    return open_or_build(films, root, CacheSettings(16, str(root / "c"), options.get("on_error", "fail"), 1))


@pytest.mark.parametrize("kind", [".tar.gz", ".ZIP"])
def test_nih_images_in_archives_give_the_cache_of_the_folder(kind: str, nih_folder: Folder) -> None:
    plain, root = nih_folder(), nih_folder(name="packed")
    names = sorted(path.name for path in (root / "images").iterdir())
    for number, part in enumerate((names[:10], names[10:23]), start=1):
        files = {f"images/{name}": (root / "images" / name).read_bytes() for name in reversed(part)}
        pack(root / f"images_{number:03d}{kind}", files | {"__MACOSX/._x": b"x", "images/.DS_Store": b"x"})
        for name in part:
            (root / "images" / name).unlink()  # the last stays beside the archives
    before = {path: path.stat().st_mtime_ns for path in root.glob("images*")}
    packed, unpacked = read_nih(str(root)), read_nih(str(plain))
    arrays = [
        open_or_build(c, r, CacheSettings(16, processes=1))[0].open() for c, r in ((packed, root), (unpacked, plain))
    ]
    np.testing.assert_array_equal(*arrays)
    assert before == {path: path.stat().st_mtime_ns for path in root.glob("images*")}  # nothing is unpacked there
    assert len(list((root / "images").iterdir())) == 1
    assert verify(packed, root, CacheSettings(16))[1] == {}


def test_a_changed_archive_is_read_again_and_verified(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", {"x/1.png": png(1), "x/2.png": png(2)})
    paths = {f"{k}.png": f"{archive}/x/{k}.png" for k in (1, 2)}
    first = cached(tmp_path, paths)[0].open().copy()
    films = Catalog(pd.DataFrame({"image": list(paths), "path": list(paths.values())}), (), "table.csv")
    pack(archive, {"x/1.png": png(1), "x/2.png": png(9)})
    os.utime(archive, (1, 1))
    differences = verify(films, tmp_path, CacheSettings(16, str(tmp_path / "c")))[1]
    assert differences == {"2.png": "its file has changed"}
    second = cached(tmp_path, paths)[0].open()
    assert (first[0] == second[0]).all() and (first[1] != second[1]).any()


def test_duplicates_are_found_across_archives_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    archive = pack(tmp_path / "a.zip", {"b.png": png(1), "c.png": png(2)})
    paths = {"a.png": str(tmp_path / "a.png"), "b.png": f"{archive}/b.png", "c.png": f"{archive}/c.png"}
    table = pd.DataFrame({"image": list(paths), "path": list(paths.values()), "patient": ["1", "2", "3"]})
    with pytest.raises(CxrError, match=r"b\.png \(duplicate: same pixels as a\.png, which is of patient 1, not 2"):
        open_or_build(Catalog(table, (), "table.csv"), tmp_path, CacheSettings(16, processes=1))


def test_tables_name_images_in_archives(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    pack(tmp_path / "films" / "a.TAR", {"p1/1.png": png(1), "2.png": png(2)})
    (tmp_path / "t.csv").write_text("image,patient,Mass\nfilms/p1/1.png,1,0\n2,2,1\n")
    table = read_table(str(tmp_path), "t.csv").table
    assert table["path"].tolist() == [f"{tmp_path}/films/a.TAR/p1/1.png", f"{tmp_path}/films/a.TAR/2.png"]
    assert table["image"].tolist() == ["films/p1/1.png", "2"]


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tgz", ".zip", ".TAR", ".TAR.GZ", ".Tgz", ".ZIP"])
def test_every_kind_of_archive_is_read_in_its_own_order(kind: str, tmp_path: Path) -> None:
    files = {f"{name}.bin": bytes([number]) * (number * 300) for number, name in enumerate("cabd")}
    archive = pack(tmp_path / f"a{kind}", {f"./x/{name}": content for name, content in files.items()})
    assert members(str(archive)) == {f"x/{name}": len(content) for name, content in files.items()}
    read = list(contents([f"{archive}/x/{name}.bin" for name in "abcd"] + [str(tmp_path / "e.png")]))
    assert read == [(k, files["abcd"[k] + ".bin"]) for k in (2, 0, 1, 3)]


def test_a_compressed_tar_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.tar.gz", {"1.png": png(1)})
    assert members(str(archive)) == {"1.png": len(png(1))}
    monkeypatch.setattr("cxr.data.archives._listed", pytest.fail)
    archives._members.cache_clear()
    assert members(str(archive)) == {"1.png": len(png(1))}
    kept = tmp_path / "cxr-cache" / "a.tar.gz.json"
    kept.write_text(kept.read_text().replace('"1.png"', '"../1.png"'))
    archives._members.cache_clear()
    with pytest.raises(pytest.fail.Exception):
        members(str(archive))  # a list that was tampered with is made again


# Hostile archives


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, link
    return made


def zip_of(name: str, content: bytes = b"x", mode: int = 0, **changes: int) -> bytes:
    file = io.BytesIO()
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = changes.pop("compress_type", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, content)
    return file.getvalue()


GOOD = tar_of((entry("1.png", len(png(1))), png(1)), (entry("2.png", len(png(2))), png(2)))
NEGATIVE = bytearray(GOOD)
NEGATIVE[124:136] = b"\xff" * 12  # a length of -1, as GNU tar writes numbers
NEGATIVE[148:156] = f"{sum(NEGATIVE[:148]) + sum(NEGATIVE[156:512]) + 256:06o}\0 ".encode()
LONG_NAME = bytearray(tar_of((entry("a" * 200, 1), b"x")))
LONG_NAME[124:136] = b"77777777777\0"  # the header of the name has eight gigabytes
LONG_NAME[148:156] = f"{sum(LONG_NAME[:148]) + sum(LONG_NAME[156:512]) + 256:06o}\0 ".encode()
LYING_ZIP = zip_of("a.png", b"x" * 1000)
BIG_ZIP = (
    LYING_ZIP[: LYING_ZIP.rindex(b"PK\1\2") + 24]
    + struct.pack("<I", 1 << 31)
    + LYING_ZIP[LYING_ZIP.rindex(b"PK\1\2") + 28 :]
)
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "tar above": ("a.tar", tar_of((entry("../x.png", 1), b"x")), "no path inside"),
    "tar absolute": ("a.tar", tar_of((entry("/etc/x.png", 1), b"x")), "no path inside"),
    "tar in the middle": ("a.tar", tar_of((entry("a/../../x.png", 1), b"x")), "no path inside"),
    "tar control characters": ("a.tar", tar_of((entry("a\n.png", 1), b"x")), "no path inside"),
    "tar link": ("a.tar", tar_of((entry("x.png", 0, tarfile.SYMTYPE, "/etc/passwd"), b"")), "link or device 'x.png'"),
    "tar hard link": ("a.tar", tar_of((entry("x.png", 0, tarfile.LNKTYPE, "y.png"), b"")), "link or device"),
    "tar pipe": ("a.tar", tar_of((entry("x.png", 0, tarfile.FIFOTYPE), b"")), "link or device"),
    "tar device": ("a.tar", tar_of((entry("x.png", 0, tarfile.CHRTYPE), b"")), "link or device"),
    "tar twice": ("a.tar", tar_of((entry("x.png", 1), b"x"), (entry("x.png", 1), b"y")), "'x.png' twice"),
    "tar negative": ("a.tar", bytes(NEGATIVE), "link or device|damaged"),
    "tar long name": ("a.tar", bytes(LONG_NAME), "damaged or cut short"),
    "tar truncated in a file": ("a.tar", GOOD[:700], "damaged or cut short"),
    "tar truncated between files": ("a.tar", GOOD[: 512 + -(-len(png(1)) // 512) * 512], "damaged or cut short"),
    "tar damaged header": ("a.tar", GOOD[:1540] + b"\xff" * 512 + GOOD[2052:], "damaged or cut short"),
    "tar of nothing": ("a.tar", b"", "damaged or cut short"),
    "tar of text": ("a.tar", b"hello" * 300, "damaged or cut short"),
    "gzip truncated": ("a.tar.gz", gzip.compress(GOOD)[:-30], "damaged or cut short"),
    "gzip checksum": ("a.tar.gz", gzip.compress(GOOD)[:-8] + bytes(8), "damaged or cut short"),
    "gzip of text": ("a.tgz", gzip.compress(b"hello"), "damaged or cut short"),
    "gzip that is none": ("a.tgz", GOOD, "damaged or cut short"),
    "gzip bomb": ("a.tar.gz", gzip.compress(tar_of((entry("x.png", 24 << 20), bytes(24 << 20)))), "holds more than"),
    "gzip bomb behind the end": ("a.tar.gz", gzip.compress(GOOD + bytes(24 << 20)), "holds more than"),
    "zip above": ("a.zip", zip_of("../x.png"), "no path inside"),
    "zip absolute": ("a.zip", zip_of("/etc/x.png"), "no path inside"),
    "zip backslash": ("a.zip", zip_of("..\\x.png"), "no path inside"),
    "zip link": ("a.zip", zip_of("x.png", b"/etc/passwd", 0o120777), "link or device"),
    "zip bomb": ("a.zip", zip_of("x.png", bytes(24 << 20)), "holds more than"),
    "zip that claims two gigabytes": ("a.zip", BIG_ZIP, "holds more than"),
    "zip rare compression": ("a.zip", zip_of("x.png", compress_type=zipfile.ZIP_LZMA), "rare compression"),
    "zip truncated": ("a.zip", zip_of("x.png")[:-10], "damaged or cut short"),
    "zip of text": ("a.zip", b"hello" * 100, "damaged or cut short"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    name, content, message = HOSTILE[case]
    root = tmp_path / "data"
    root.mkdir()
    (root / name).write_bytes(content)
    (root / "t.csv").write_text("image,patient,Mass\nx.png,1,0\n1.png,2,1\n")
    with pytest.raises(CxrError, match=message) as raised:
        read_table(str(root), "t.csv")
    assert str(root / name) in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["data", name, "t.csv"])


def test_a_pipe_that_is_called_like_an_archive_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    os.mkfifo(tmp_path / "a.tar")
    (tmp_path / "t.csv").write_text("image,patient,Mass\n1.png,1,0\n2.png,2,1\n")
    assert read_table(str(tmp_path), "t.csv").table["path"].tolist() == [f"{tmp_path}/1.png", ""]


def test_damaged_files_in_a_good_archive_are_bad_images(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2)})
    content = bytearray(whole.read_bytes())
    content[60] ^= 0xFF
    whole.write_bytes(content)
    (tmp_path / "b.tar").write_bytes(tar_of((entry("3.png", 20), png(3)[:20]), (entry("4.png", 3), b"abc")))
    paths = {f"{k}.png": f"{tmp_path}/{'a.zip' if k < 3 else 'b.tar'}/{k}.png" for k in (1, 2, 3, 4, 5)}
    cache, kept = cached(tmp_path, paths, on_error="skip")
    assert kept.table["image"].tolist() == ["2.png"]
    report = pd.read_csv(cache.folder / "report.csv", index_col="image")["reason"]
    starts = {"1.png": "damaged", "3.png": "truncated", "4.png": "not an image", "5.png": "cannot be opened"}
    assert all(report[image].startswith(start) for image, start in starts.items()) and len(report) == 4


def test_a_file_of_an_archive_larger_than_any_image_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.data.archives.MOST_BYTES", 1000)
    for kind in (".tar", ".zip"):
        archive = pack(tmp_path / f"a{kind}", {"1.png": bytes(2000), "2.png": bytes(900)})
        read = dict(contents([f"{archive}/1.png", f"{archive}/2.png"]))
        assert isinstance(read[0], BadImage) and read[1] == bytes(900)

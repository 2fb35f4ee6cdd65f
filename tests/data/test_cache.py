"""The cache: found by what its files are, rid of every bad image in one pass, published whole."""

import csv
import hashlib
import json
import os
import resource
import shutil
import stat
import zlib
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.cache import Cache, CacheSettings, build, default_directory, open_or_build, read_gray
from cxr.data.catalog import Catalog, check_images_exist
from cxr.data.decoder import SAME, Result, Task
from cxr.data.sources.nih import read_nih
from cxr.errors import CxrError
from cxr.imaging.decode import BadImage, gray

Folder = Callable[..., Path]


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def of_images(folder: Path, images: dict[str, np.ndarray]) -> Catalog:
    """A catalog of PNGs written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / name)
    table = pd.DataFrame({"image": list(images), "path": [str(folder / name) for name in images]})
    return Catalog(table, (), "table.csv")


def opened(
    catalog: Catalog, root: Path | str, size: int, directory: str | None = None, on_error: str = "fail"
) -> Cache:
    return open_or_build(catalog, root, CacheSettings(size, directory, on_error, processes=2))[0]


def several(folder: Path, count: int = 6, size: int = 16) -> Catalog:
    rng = np.random.default_rng(0)
    return of_images(folder, {f"{i}.png": rng.integers(0, 256, (size, size), np.uint8) for i in range(count)})


# Finding


def test_cache_contains_every_image_in_the_catalogs_order(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data")
    cache = opened(catalog, tmp_path / "data", 16)
    array = cache.open()
    assert array.shape == (6, 16, 16) and array.dtype == np.uint8 and not array.flags.writeable
    for position, path in enumerate(catalog.table["path"]):
        with Image.open(path) as image:
            np.testing.assert_array_equal(array[position], np.asarray(image))
    assert cache.folder.parent == tmp_path / "data" / "cxr-cache"
    assert entries(cache.folder.parent) == [
        cache.folder.name, *(f"{cache.folder.name}/{part}" for part in ("images.npy", "manifest.json", "report.csv"))
    ]  # fmt: skip


def test_manifest_contains_what_the_cache_was_made_from(tmp_path: Path) -> None:
    catalog = several(tmp_path, 3)
    cache = opened(catalog, tmp_path, 8)
    manifest = json.loads((cache.folder / "manifest.json").read_text())
    assert manifest["size"] == 8 and manifest["decoders"]["opencv"] == cv2.__version__
    assert "area" in manifest["resize"] and manifest["fingerprint"].startswith(cache.folder.name.split("-")[1])
    rows = [dict(zip(manifest["columns"], row, strict=True)) for row in manifest["images"]]
    for row, path, pixels in zip(rows, map(Path, catalog.table["path"]), cache.open(), strict=True):
        assert row["image"] == path.name and row["reason"] == "" and (row["width"], row["height"]) == (16, 16)
        assert row["bytes"] == path.stat().st_size and row["modified"] == path.stat().st_mtime_ns
        assert row["source"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["pixels"] == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_images_of_all_shapes_come_out_square(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shapes = {"a.png": (40, 20), "b.png": (3, 5), "c.png": (10, 10)}
    catalog = of_images(tmp_path, {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()})
    assert opened(catalog, tmp_path, 10).open().shape == (3, 10, 10)


def test_positions_are_found_by_name() -> None:
    cache = Cache(Path("/x"), ("c.png", "a.png", "b.png"), 8)
    positions = cache.positions(["a.png", "b.png", "c.png", "a.png"])
    assert positions.tolist() == [1, 2, 0, 1] and positions.dtype == np.int64


def test_finished_cache_is_not_built_again(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    first = opened(catalog, tmp_path, 8)
    pixels = first.open().copy()
    for path in map(Path, catalog.table["path"]):
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))  # a change that only decoding notices
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = opened(catalog, tmp_path, 8)
    assert again == first and np.array_equal(again.open(), pixels)


def test_another_size_or_other_images_make_another_cache(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    fewer = Catalog(catalog.table.iloc[:5], (), "table.csv")
    turned = Catalog(catalog.table.iloc[::-1], (), "table.csv")
    folders = {opened(c, tmp_path, s).folder for c, s in [(catalog, 8), (catalog, 9), (fewer, 8)]}
    reverse = opened(turned, tmp_path, 16)
    assert len({*folders, reverse.folder}) == 4
    np.testing.assert_array_equal(reverse.open()[0], read_gray(tmp_path / "5.png"))


def test_files_of_one_size_and_time_are_distinguished_by_name(tmp_path: Path) -> None:
    noise = {name: np.random.default_rng(k).integers(0, 256, (8, 8), np.uint8) for k, name in enumerate("ab")}
    for name, pixels in noise.items():
        Image.fromarray(pixels).save(tmp_path / name, format="BMP")  # all of one length
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    table = pd.DataFrame({"image": ["a", "b"], "path": [str(tmp_path / n) for n in ("a", "b")]})
    for order in (table, table.iloc[::-1]):
        array = opened(Catalog(order, (), "table.csv"), tmp_path, 8).open()
        for name, pixels in zip(order["image"], array, strict=True):
            np.testing.assert_array_equal(pixels, noise[name])


def test_directory_of_choice_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path / "data")
    assert opened(catalog, tmp_path / "data", 8, str(tmp_path / "fast")).folder.parent == tmp_path / "fast"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened(catalog, tmp_path / "data", 8, "~/faster").folder.parent == tmp_path / "faster"
    assert not (tmp_path / "data" / "cxr-cache").exists()


@pytest.mark.parametrize("change", ["shorter", "another shape", "another manifest", "no json", "another edition"])
def test_a_cache_with_another_content_than_its_name_is_refused(tmp_path: Path, change: str) -> None:
    catalog = several(tmp_path)
    folder = opened(catalog, tmp_path, 8).folder
    array, manifest = folder / "images.npy", folder / "manifest.json"
    if change == "shorter":
        array.write_bytes(array.read_bytes()[:-1])
    elif change == "another shape":
        np.save(array, np.zeros((6, 9, 9), np.uint8))
    elif change == "another manifest":
        manifest.write_text((opened(catalog, tmp_path, 9).folder / "manifest.json").read_text())
    elif change == "no json":
        manifest.write_text("{" * 100_000)
    else:
        manifest.write_text(manifest.read_text().replace('"decoder": 3', '"decoder": 1'))
    with pytest.raises(CxrError, match=r"build (the cache|it) again"):
        opened(catalog, tmp_path, 8)


def test_an_array_that_needs_unpickling_is_refused(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    folder = opened(catalog, tmp_path, 8).folder
    np.save(folder / "images.npy", np.array([{}] * 6, object), allow_pickle=True)
    with pytest.raises(CxrError, match="cannot be read"):
        opened(catalog, tmp_path, 8)


# Only what changed


def test_changed_file_makes_another_cache_that_takes_over_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = several(tmp_path)
    first = opened(catalog, tmp_path, 16)
    before = first.open().copy()
    new = np.random.default_rng(9).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(new).save(tmp_path / "3.png")
    decoded = spied(monkeypatch)
    second = opened(catalog, tmp_path, 16)
    assert decoded == ["3.png"], "only what changed is decoded"
    assert second.folder != first.folder
    np.testing.assert_array_equal(second.open()[3], new)
    np.testing.assert_array_equal(np.delete(second.open(), 3, 0), np.delete(before, 3, 0))
    np.testing.assert_array_equal(first.open(), before)  # who reads the old one goes on reading it


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are given to decoding processes, without those that they know already."""
    decoded: list[str] = []
    real = build.decode_all

    def spy(tasks: list[Task], *more: Any) -> Iterator[Result]:
        results = {result.position: result for result in real(tasks, *more)}
        decoded.extend(Path(task.path).name for task in tasks if results[task.position].reason != SAME)
        yield from results.values()

    monkeypatch.setattr(build, "decode_all", spy)
    return decoded


def test_touched_files_are_read_and_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path)
    first = opened(catalog, tmp_path, 16)
    for path in map(Path, catalog.table["path"]):
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    decoded = spied(monkeypatch)
    second = opened(catalog, tmp_path, 16)
    assert decoded == [] and second.folder != first.folder
    np.testing.assert_array_equal(second.open(), first.open())


def test_more_images_take_over_those_of_a_smaller_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path, 8)
    opened(Catalog(catalog.table.iloc[[5, 2, 3]], (), "t"), tmp_path, 16)
    decoded = spied(monkeypatch)
    array = opened(catalog, tmp_path, 16).open()
    assert sorted(decoded) == ["0.png", "1.png", "4.png", "6.png", "7.png"]
    for pixels, path in zip(array, catalog.table["path"], strict=True):
        np.testing.assert_array_equal(pixels, read_gray(path))


def test_rows_that_lost_their_checksum_are_not_taken_over(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    first = opened(catalog, tmp_path, 16)
    for row in (0, 1):
        damage(first.folder / "images.npy", row * 256 + 5, 6 * 256)
    old = os.stat(tmp_path / "0.png")
    os.utime(tmp_path / "0.png", ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    array = opened(catalog, tmp_path, 16).open()
    for pixels, path in zip(array, catalog.table["path"], strict=True):
        np.testing.assert_array_equal(pixels, read_gray(path))


def damage(array: Path, offset: int, data: int) -> None:
    """Flips a bit of a byte of the pixels, which are the last `data` bytes of the file."""
    content = bytearray(array.read_bytes())
    content[len(content) - data + offset] ^= 1
    array.write_bytes(content)


# Bad images


def with_damage(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut in the pixels":
        path.write_bytes(content[: place + 40])
    elif kind == "cut before the end":
        path.write_bytes(content[:-12])
    elif kind == "cut in the header":
        path.write_bytes(content[:20])
    elif kind == "no image":
        path.write_bytes(b"<html>404 Not Found</html>")
    elif kind == "flipped bit":
        content[place + 20] ^= 4
        path.write_bytes(content)
    elif kind == "zeroed block":
        content[place + 30 : place + 60] = bytes(30)
        path.write_bytes(content)
    elif kind == "black":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    elif kind == "white with a speck":
        pixels = np.full((1024, 1024), 255, np.uint8)
        pixels[3, 3] = 0
        Image.fromarray(pixels).save(path)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "missing":
        path.unlink()
    elif kind == "link to nowhere":
        path.unlink()
        path.symlink_to(folder / "moved" / name)
    elif kind in LINKS:
        path.unlink()
        path.symlink_to(LINKS[kind] or name)
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif kind == "bomb":
        header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
        pixels = b"IDAT" + zlib.compress(bytes(1000))
        chunks = [header, pixels, b"IEND"]
        parts = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    elif kind == "too few pixels":
        header = b"IHDR" + (16).to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
        chunks = [header, b"IDAT" + zlib.compress(bytes(range(100))), b"IEND"]
        parts = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    elif kind == "truncated JPEG":
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)).save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[:-300])
    else:
        raise AssertionError(kind)


DAMAGE = {
    "empty": "the file is empty", "cut in the pixels": "truncated", "cut before the end": "truncated",
    "cut in the header": "truncated", "no image": "not an image", "flipped bit": "damaged", "zeroed block": "damaged",
    "black": "blank: all its pixels are near 0", "white with a speck": "blank: all its pixels are near 255",
    "folder": "cannot be opened: is a directory", "missing": "cannot be opened: no such file",
    "link to nowhere": "cannot be opened", "bomb": "too large: 60000x60000", "too few pixels": "damaged",
    "truncated JPEG": "truncated", "link to itself": "cannot be opened: too many levels",
    "failing disk": "cannot be opened: input/output error", "pipe": "cannot be opened: not a regular file",
}  # fmt: skip
LINKS = {"link to itself": "", "failing disk": "/proc/self/mem"}  # which gives EIO to whoever reads it


def reported(folder: Path) -> dict[str, str]:
    with (folder / "report.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "reason"]
    return dict(rows[1:])


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_kind_of_damage_is_found_and_named(tmp_path: Path, kind: str) -> None:
    catalog = several(tmp_path / "data", 3)
    with_damage(tmp_path / "data", "1.png", kind)
    with pytest.raises(CxrError, match=r"1 of 3 images cannot be used: 1\.png \(") as caught:
        opened(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))
    assert DAMAGE[kind] in str(caught.value) and "cache.on_error=skip" in str(caught.value)
    assert str(tmp_path / "data") not in str(caught.value)
    (folder,) = (tmp_path / "cache").glob("16px-*")
    assert list(reported(folder)) == ["1.png"] and DAMAGE[kind] in reported(folder)["1.png"]
    assert not (folder / "images.npy").read_bytes()[-512:-256].strip(b"\0"), "its row is zeros"


def test_all_bad_images_are_listed_in_one_pass_and_left_out_on_request(tmp_path: Path, capsys: Any) -> None:
    catalog = several(tmp_path / "data", 3 * len(DAMAGE))
    bad = {f"{3 * k}.png": kind for k, kind in enumerate(DAMAGE)}
    for name, kind in bad.items():
        with_damage(tmp_path / "data", name, kind)
    settings = CacheSettings(16, str(tmp_path / "cache"), "skip", 2)
    cache, kept = open_or_build(catalog, tmp_path / "data", settings)
    assert f"{len(bad)} of {len(catalog)} images cannot be used and are left out" in capsys.readouterr().out
    assert sorted(reported(cache.folder)) == sorted(bad)
    assert kept.table["image"].tolist() == [n for n in catalog.table["image"] if n not in bad]
    assert kept.table.index.tolist() == list(range(len(kept)))
    array = cache.open()
    for name, position in zip(kept.table["image"], cache.positions(kept.table["image"]), strict=True):
        np.testing.assert_array_equal(array[position], read_gray(tmp_path / "data" / name))
    with pytest.raises(CxrError, match=f"{len(bad)} of {len(catalog)} images"):
        opened(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))


def test_mended_images_are_cached_and_the_others_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path)
    whole = (tmp_path / "2.png").read_bytes()
    with_damage(tmp_path, "2.png", "empty")
    with pytest.raises(CxrError, match=r"1 of 6 images cannot be used: 2.png"):
        opened(catalog, tmp_path, 16)
    (tmp_path / "2.png").write_bytes(whole)
    decoded = spied(monkeypatch)
    assert len(opened(catalog, tmp_path, 16).open()) == 6 and decoded == ["2.png"]


@pytest.mark.parametrize("cut", [1, 7, 8, 30, 45, 60, 100, -13, -12, -4, -1])
def test_png_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    catalog = several(tmp_path, 2)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:cut])
    with pytest.raises(CxrError, match=r"1 of 2 images cannot be used: 1.png"):
        opened(catalog, tmp_path, 16)


def test_no_flipped_bit_of_a_png_goes_unseen(tmp_path: Path) -> None:
    several(tmp_path, 1, size=8)
    whole = (tmp_path / "0.png").read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        with pytest.raises(BadImage):
            gray(bytes(content))


def test_all_bad_is_refused_even_where_bad_ones_are_skipped(tmp_path: Path) -> None:
    catalog = several(tmp_path, 2)
    for name in catalog.table["image"]:
        with_damage(tmp_path, name, "empty")
    with pytest.raises(CxrError, match=r"no image of table\.csv is left"):
        opened(catalog, tmp_path, 16, None, "skip")


def test_image_that_vanished_after_the_table_was_read_is_named(nih_folder: Folder) -> None:
    root = nih_folder()
    (root / "images" / "00000003_001.png").unlink()
    (root / "images" / "00000003_001.png").symlink_to(root / "moved" / "00000003_001.png")
    with pytest.raises(CxrError, match=r"00000003_001\.png"):
        opened(check_images_exist(read_nih(str(root)), "fail"), root, 16)


# Duplicates and sizes


def judged(
    folder: Path,
    patients: str,
    splits: str,
    on_error: str = "fail",
    tests: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Catalog, dict[str, str]]:
    """Six images of which 1, 3 and 5 have the same pixels; patients and splits are a letter an image."""
    catalog = several(folder)
    for name in ("3.png", "5.png"):
        Image.open(folder / "1.png").save(folder / name, compress_level=1 if name == "3.png" else 9)
    names = {"r": "train", "v": "val", "t": "test", "-": ""}
    table = catalog.table.assign(patient=list(patients), split=[names[letter] for letter in splits])
    catalog = Catalog(table, (), "t", tests=tests or {})
    cache, kept = open_or_build(catalog, folder, CacheSettings(16, None, on_error, 1))
    return kept, reported(cache.folder)


def test_duplicates_of_one_patient_in_one_split_are_only_reported(tmp_path: Path) -> None:
    kept, report = judged(tmp_path, "abcbeb", "rrrrrr")
    assert len(kept) == 6
    assert report == {name: "duplicate: same pixels as 1.png" for name in ("3.png", "5.png")}


@pytest.mark.parametrize(
    ("patients", "splits", "lost", "said"),
    [
        ("abcdef", "rrrrrr", ["3.png", "5.png"], "which is of patient b, not d"),
        ("abcbef", "rrrrrr", ["5.png"], "which is of patient b, not f"),
        ("abcbeb", "rrrtrr", ["1.png", "5.png"], "same pixels as 3.png, which is in test, not train"),
        ("abcbeb", "rrrvrr", ["1.png", "5.png"], "which is in val, not train"),
        ("abcbeb", "rrrrrt", ["1.png", "3.png"], "same pixels as 5.png, which is in test, not train"),
        ("abcdeb", "rr-rr-", ["3.png"], "which is of patient b, not d"),
    ],
)
def test_duplicates_across_patients_or_splits_are_errors_that_keep_the_most_guarded(
    tmp_path: Path, patients: str, splits: str, lost: list[str], said: str
) -> None:
    with pytest.raises(CxrError, match=f"{len(lost)} of 6 images cannot be used"):
        judged(tmp_path, patients, splits)
    kept, report = judged(tmp_path, patients, splits, "skip")
    assert sorted(set(map("{}.png".format, range(6))) - set(kept.table["image"])) == lost
    assert any(said in report[name] for name in lost), report


@pytest.mark.parametrize(
    ("patients", "splits", "lost"),
    [
        ("abcdef", "-r----", ["1.png"]),  # 3 is of the further test split and of another patient than 1
        ("abcbef", "-r----", ["1.png"]),  # of the same patient, and in train
        ("abcbef", "-t----", []),  # further test splits may share with test
        ("abcdef", "-----r", ["5.png"]),
    ],
)
def test_pixels_of_a_further_test_split_are_guarded_like_those_of_test(
    tmp_path: Path, patients: str, splits: str, lost: list[str]
) -> None:
    kept, report = judged(tmp_path, patients, splits, "skip", {"other": ("3.png", "2.png")})
    assert [name for name in (f"{k}.png" for k in range(6)) if name not in set(kept.table["image"])] == lost
    assert kept.tests == {"other": ("3.png", "2.png")}
    assert all("which is of patient" in report[name] or "in test, not train" in report[name] for name in lost)


def test_a_bad_image_leaves_its_further_test_split_too(tmp_path: Path) -> None:
    kept, _ = judged(tmp_path, "abcdef", "-r----", "skip", {"other": ("1.png", "2.png"), "more": ("1.png",)})
    assert kept.tests == {"other": ("1.png", "2.png"), "more": ("1.png",)}
    with_damage(tmp_path, "2.png", "empty")
    table = kept.table.assign(patient="a")
    _, kept = open_or_build(Catalog(table, (), "t", tests=kept.tests), tmp_path, CacheSettings(16, None, "skip", 1))
    assert kept.tests == {"other": ("1.png",), "more": ("1.png",)} and "2.png" not in set(kept.table["image"])


def test_images_in_folders_are_cached_and_reported_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "p1" / "s1").mkdir(parents=True)
    (tmp_path / "p2").mkdir()
    rng = np.random.default_rng(0)
    names = ["p1/s1/view.png", "p2/view.png", "p1/view.png"]  # one file name in three folders
    catalog = of_images(tmp_path, {name: rng.integers(0, 256, (16, 16), np.uint8) for name in names})
    cache = opened(catalog, tmp_path, 16)
    assert cache.names == tuple(names)
    for name, position in zip(names, cache.positions(names), strict=True):
        np.testing.assert_array_equal(cache.open()[position], read_gray(tmp_path / name))
    with_damage(tmp_path, "p2/view.png", "empty")
    cache = opened(catalog, tmp_path, 16, None, "skip")
    assert list(reported(cache.folder)) == ["p2/view.png"]


def test_images_in_no_split_cross_nothing(tmp_path: Path) -> None:
    kept, report = judged(tmp_path, "abcdef", "rrr-r-")
    assert len(kept) == 6 and all(reason == "duplicate: same pixels as 1.png" for reason in report.values())


def test_another_split_of_one_cache_is_audited_again(tmp_path: Path) -> None:
    assert len(judged(tmp_path, "abcbeb", "rrrrrr")[0]) == 6
    table = several(tmp_path / "others").table.assign(patient=list("abcbeb"))
    table["path"] = [str(tmp_path / name) for name in table["image"]]
    table["split"] = ["train", "train", "train", "test", "train", "train"]
    with pytest.raises(CxrError, match="2 of 6 images"):
        opened(Catalog(table, (), "t"), tmp_path, 16)
    assert len(list((tmp_path / "cxr-cache").glob("16px-*"))) == 1


def test_images_alike_at_the_caches_size_alone_are_no_duplicates(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(20, 235, (8, 8)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    fine = coarse.copy()
    fine[0, 0] += 1
    fine[1, 1] -= 1
    catalog = of_images(tmp_path, {"a.png": coarse, "b.png": fine})
    cache = opened(catalog, tmp_path, 8)
    assert np.array_equal(*cache.open()) and reported(cache.folder) == {}


def test_unusual_sizes_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [(32, 32)] * 5 + [(40, 32), (16, 16)]
    images = {f"{k}.png": rng.integers(0, 256, shape, np.uint8) for k, shape in enumerate(shapes)}
    cache = opened(of_images(tmp_path / "a", images), tmp_path / "a", 16)
    assert reported(cache.folder) == {
        "5.png": "unusual size: 32x40, most are 32x32", "6.png": "unusual size: 16x16, most are 32x32",
    }  # fmt: skip
    mixed = [(30 + k, 40) for k in range(5)] + [(20, 90), (8, 12)]
    images = {f"{k}.png": rng.integers(0, 256, shape, np.uint8) for k, shape in enumerate(mixed)}
    cache = opened(of_images(tmp_path / "b", images), tmp_path / "b", 16)
    assert reported(cache.folder) == {
        "5.png": "unusual size: 90x20 is very long", "6.png": "unusual size: 12x8 is smaller than the cache",
    }  # fmt: skip


# Disks


Usage = namedtuple("Usage", "total used free")


def test_disk_without_room_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = several(tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1535, 1535))
    with pytest.raises(CxrError, match=r"cache of 6 images at 16 px needs .*cache.dir=DIR"):
        opened(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.npy"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**6))
    assert len(opened(catalog, tmp_path / "data", 16, str(tmp_path / "cache")).open()) == 6


def test_disk_that_refuses_the_array_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))  # no file may grow beyond this, as on a full disk
    try:
        with pytest.raises(CxrError, match="cannot write"):
            opened(catalog, tmp_path / "data", 256, str(tmp_path / "cache"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").rglob("*.npy"))


# Where caches lie


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    several(root)
    root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield root
    root.chmod(stat.S_IRWXU)


def test_read_only_data_are_cached_in_the_users_folder(
    tmp_path: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    images = {path.name: str(path) for path in read_only.iterdir()}
    table = pd.DataFrame({"image": list(images), "path": list(images.values())})
    cache = opened(Catalog(table, (), "t"), read_only, 8)
    assert cache.folder.is_relative_to(tmp_path / "xdg" / "cxr") and len(cache.open()) == 6
    assert not (read_only / "cxr-cache").exists()


def test_users_folder_is_dot_cache_by_default(tmp_path: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory(read_only).parent == tmp_path / "home" / ".cache" / "cxr"


def test_data_sets_of_one_name_do_not_share_the_users_folder(tmp_path: Path) -> None:
    roots = [tmp_path / "a" / "nih", tmp_path / "b" / "nih"]
    for root in roots:
        root.mkdir(parents=True)
        root.chmod(0o555)
    assert len({default_directory(root) for root in roots}) == 2


def test_writable_data_are_cached_beside_them(tmp_path: Path) -> None:
    assert default_directory(tmp_path) == tmp_path / "cxr-cache"


def test_cache_lies_beside_data_whose_root_begins_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    catalog = several(tmp_path / "nih")
    assert opened(catalog, "~/nih", 8).folder.parent == tmp_path / "nih" / "cxr-cache"


def test_report_lists_every_image_that_is_not_on_disk(nih_folder: Folder) -> None:
    root = nih_folder()
    gone = sorted(path.name for path in (root / "images").iterdir())[:7]
    for name in gone:
        (root / "images" / name).unlink()
    cache = opened(check_images_exist(read_nih(str(root)), "skip"), root, 16)
    with (cache.folder / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == gone and {row["reason"].split(":")[0] for row in rows} == {"not on disk"}

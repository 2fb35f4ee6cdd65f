"""The cache: every kind of file is decoded right, bad files are named, and only whole caches are ever published."""

import os
import re
import resource
import shutil
import stat
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data import cache as cache_module
from cxr.data.cache import Cache, default_directory, open_or_build, read_gray
from cxr.data.catalog import Catalog, check_images_exist
from cxr.data.sources.nih import read_nih
from cxr.errors import CxrError

RNG = np.random.default_rng(7)
GRAY = RNG.integers(0, 256, (9, 13), np.uint8)
COLOUR = RNG.integers(0, 256, (9, 13, 3), np.uint8)
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


def several(folder: Path, count: int = 6, size: int = 16) -> Catalog:
    rng = np.random.default_rng(0)
    return of_images(folder, {f"{i}.png": rng.integers(0, 256, (size, size), np.uint8) for i in range(count)})


# Decoding


def test_cache_holds_every_image_in_the_catalogs_order(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data")
    cache = open_or_build(catalog, tmp_path / "data", 16, None)
    array = cache.open()
    assert array.shape == (6, 16, 16) and array.dtype == np.uint8 and not array.flags.writeable
    for position, path in enumerate(catalog.table["path"]):
        np.testing.assert_array_equal(array[position], cv2.imread(path, cv2.IMREAD_UNCHANGED))
    assert cache.folder.parent == tmp_path / "data" / "cxr-cache"
    assert entries(cache.folder) == ["images.npy", "manifest.json"]


def test_images_of_all_shapes_come_out_square(tmp_path: Path) -> None:
    catalog = of_images(tmp_path, {"a.png": np.full((40, 20), 9, np.uint8), "b.png": np.full((3, 5), 77, np.uint8)})
    array = open_or_build(catalog, tmp_path, 10, None).open()
    assert (array[0] == 9).all() and (array[1] == 77).all() and array.shape == (2, 10, 10)


def test_positions_are_found_by_name() -> None:
    cache = Cache(Path("/x"), ("c.png", "a.png", "b.png"))
    positions = cache.positions(["a.png", "b.png", "c.png", "a.png"])
    assert positions.tolist() == [1, 2, 0, 1] and positions.dtype == np.int64


def test_finished_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path)
    first = open_or_build(catalog, tmp_path, 8, None)
    monkeypatch.setattr(cache_module, "read_gray", lambda path: pytest.fail(f"{path} was decoded again"))
    second = open_or_build(catalog, tmp_path, 8, None)
    assert second == first and len(entries(tmp_path / "cxr-cache")) == 3


def test_changed_file_makes_another_cache(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    first = open_or_build(catalog, tmp_path, 16, None)
    before = first.open().copy()
    Image.fromarray(np.full((16, 16), 5, np.uint8)).save(tmp_path / "3.png")
    second = open_or_build(catalog, tmp_path, 16, None)
    assert second.folder != first.folder
    assert (second.open()[3] == 5).all()
    np.testing.assert_array_equal(np.delete(second.open(), 3, 0), np.delete(before, 3, 0))
    np.testing.assert_array_equal(first.open(), before)  # who reads the old one goes on reading it


def test_file_that_was_rewritten_at_the_same_length_makes_another_cache(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    first = open_or_build(catalog, tmp_path, 16, None)
    old = os.stat(tmp_path / "3.png")
    os.utime(tmp_path / "3.png", ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert open_or_build(catalog, tmp_path, 16, None).folder != first.folder


def test_another_size_or_other_images_make_another_cache(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    fewer = Catalog(catalog.table.iloc[:5], (), "table.csv")
    turned = Catalog(catalog.table.iloc[::-1], (), "table.csv")
    folders = {open_or_build(c, tmp_path, s, None).folder for c, s in [(catalog, 8), (catalog, 9), (fewer, 8)]}
    reverse = open_or_build(turned, tmp_path, 16, None)
    assert len({*folders, reverse.folder}) == 4
    np.testing.assert_array_equal(reverse.open()[0], read_gray(tmp_path / "5.png"))


def test_files_of_one_size_and_time_are_told_apart_by_name(tmp_path: Path) -> None:
    for name, value in (("a.png", 1), ("b.png", 2)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / name, format="BMP")  # all of one length
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    table = pd.DataFrame({"image": ["a.png", "b.png"], "path": [str(tmp_path / n) for n in ("a.png", "b.png")]})
    for order in (table, table.iloc[::-1]):
        array = open_or_build(Catalog(order, (), "table.csv"), tmp_path, 8, None).open()
        assert [int(image[0, 0]) for image in array] == [{"a.png": 1, "b.png": 2}[name] for name in order["image"]]


def test_directory_of_choice_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path / "data")
    assert open_or_build(catalog, tmp_path / "data", 8, str(tmp_path / "fast")).folder.parent == tmp_path / "fast"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_or_build(catalog, tmp_path / "data", 8, "~/faster").folder.parent == tmp_path / "faster"
    assert not (tmp_path / "data" / "cxr-cache").exists()


def break_files(folder: Path, names: list[str]) -> None:
    """Cuts the first file in the middle of its pixels, empties the second, and so on."""
    for turn, name in enumerate(names):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes([content[: len(content) // 2], b"", b"no image at all"][turn % 3])


def test_bad_images_are_counted_and_named_and_leave_nothing_behind(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data")
    break_files(tmp_path / "data", ["1.png", "4.png", "5.png"])
    with pytest.raises(CxrError, match="3 of 6 images cannot be read") as caught:
        open_or_build(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))
    message = str(caught.value)
    assert all(f"{name}.png (" in message for name in (1, 4, 5)) and "0.png" not in message
    assert entries(tmp_path / "cache") == []


def test_all_bad_images_are_named_in_one_report(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data", 8)
    bad = ["0.png", "2.png", "3.png", "5.png", "6.png", "7.png"]
    break_files(tmp_path / "data", bad)
    with pytest.raises(CxrError, match="6 of 8 images cannot be read") as caught:
        open_or_build(catalog, tmp_path / "data", 16, None)
    assert [name for name in bad if name not in str(caught.value)] == []


def test_mended_images_are_cached(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    whole = (tmp_path / "2.png").read_bytes()
    break_files(tmp_path, ["2.png"])
    with pytest.raises(CxrError, match=r"1 of 6 images cannot be read: 2.png"):
        open_or_build(catalog, tmp_path, 16, None)
    (tmp_path / "2.png").write_bytes(whole)
    assert len(open_or_build(catalog, tmp_path, 16, None).open()) == 6


@pytest.mark.parametrize("cut", [1, 30, 45, 60, 100])
def test_png_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    catalog = several(tmp_path, 2)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:cut])
    with pytest.raises(CxrError, match=r"1 of 2 images cannot be read: 1.png"):
        open_or_build(catalog, tmp_path, 16, None)


def test_flipped_bit_in_the_pixels_is_refused(tmp_path: Path) -> None:
    catalog = several(tmp_path, 2)
    content = bytearray((tmp_path / "1.png").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(CxrError, match=r"1 of 2 images cannot be read: 1.png"):
        open_or_build(catalog, tmp_path, 16, None)


def test_image_that_vanished_after_the_table_was_read_is_named(tmp_path: Path) -> None:
    catalog = several(tmp_path)
    (tmp_path / "4.png").unlink()
    with pytest.raises(CxrError, match=r"4\.png"):
        open_or_build(catalog, tmp_path, 16, None)


def test_link_that_leads_nowhere_is_a_missing_image(nih_folder: Folder) -> None:
    root = nih_folder()
    (root / "images" / "00000003_001.png").unlink()
    (root / "images" / "00000003_001.png").symlink_to(root / "moved" / "00000003_001.png")
    with pytest.raises(CxrError, match=r"00000003_001\.png"):
        open_or_build(check_images_exist(read_nih(str(root)), "fail"), root, 16, None)


def test_interrupted_build_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path / "data")

    def interrupt(path: str) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "read_gray", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_or_build(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))
    assert entries(tmp_path / "cache") == []


def test_two_that_build_at_once_get_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path / "data")
    both, real, found = threading.Barrier(2, timeout=20), cache_module._fill, []

    def together(*arguments: object) -> object:
        both.wait()  # neither has published before both have begun
        return real(*arguments)  # type: ignore[arg-type]

    def build() -> None:
        found.append(open_or_build(catalog, tmp_path / "data", 16, str(tmp_path / "cache")))

    monkeypatch.setattr(cache_module, "_fill", together)
    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1]
    assert len(entries(tmp_path / "cache")) == 3 and len(found[0].open()) == 6


Usage = namedtuple("Usage", "total used free")


def test_disk_without_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = several(tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1535, 1535))
    with pytest.raises(CxrError, match=r"cache of 6 images at 16 px needs .*cache.dir=DIR"):
        open_or_build(catalog, tmp_path / "data", 16, str(tmp_path / "cache"))
    assert entries(tmp_path / "cache") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**6))
    assert len(open_or_build(catalog, tmp_path / "data", 16, str(tmp_path / "cache")).open()) == 6


def test_disk_that_refuses_the_array_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    catalog = several(tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))  # no file may grow beyond this, as on a full disk
    try:
        with pytest.raises(CxrError, match="cannot write"):
            open_or_build(catalog, tmp_path / "data", 256, str(tmp_path / "cache"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(tmp_path / "cache") == []


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
    cache = open_or_build(Catalog(table, (), "t"), read_only, 8, None)
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
    assert open_or_build(catalog, "~/nih", 8, None).folder.parent == tmp_path / "nih" / "cxr-cache"


def test_bad_file_is_told_once_by_its_name(tmp_path: Path) -> None:
    catalog = several(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no image at all")
    with pytest.raises(CxrError, match=re.escape("1 of 3 images cannot be read: 1.png (")) as caught:
        open_or_build(catalog, tmp_path, 16, None)
    assert str(tmp_path) not in str(caught.value)

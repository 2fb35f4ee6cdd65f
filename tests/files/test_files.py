"""Files appear whole or not at all, and a refusal of the disk is a sentence."""

import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxr.errors import CxrError
from cxr.files.writing import replacing, write_text


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_written_text_is_read_back_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "note.txt", "Ångström\n")
    assert (tmp_path / "note.txt").read_bytes() == "Ångström\n".encode()
    assert os.listdir(tmp_path) == ["note.txt"]


def test_old_content_stays_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent and temporary.suffix == ".csv" and temporary != path
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_interrupted_write_leaves_old_content_and_no_temporary_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_interrupted_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_full_disk_in_the_block_is_a_sentence_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.write_text("old")
    with pytest.raises(CxrError, match="the disk is full") as caught, replacing(path):
        full()
    assert str(path) in str(caught.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["best.ckpt"]


def test_full_disk_at_the_sync_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CxrError, match="the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    path = tmp_path / "a.txt"
    real = os.fsync

    def watch(handle: int) -> None:
        seen.append((os.fstat(handle).st_size, path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    write_text(path, "new")
    assert (3, False) in seen


def test_folder_is_made_where_it_is_missing(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_file_in_the_place_of_the_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(CxrError, match="cannot write"):
        write_text(tmp_path / "a" / "b.txt", "x")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_mode_is_that_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(mask) == mask  # the mask of the process is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_threads_that_write_at_once_leave_the_mask_of_the_process_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.umask

    def slow(mask: int) -> int:
        found = real(mask)
        time.sleep(0.002)  # other threads go on
        return found

    before = real(0o022)
    monkeypatch.setattr(os, "umask", slow)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: write_text(tmp_path / "new" / f"{number}.txt", "x"), range(16)))
        assert real(0o022) == 0o022
    finally:
        real(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*.txt")} == {0o644}

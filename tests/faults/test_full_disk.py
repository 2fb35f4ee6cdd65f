"""A disk that fills: at every file of a run, an ensemble, an evaluation and a cache; then there is space again."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.sources import nih
from cxr.errors import CxrError
from tests.end_to_end.test_resume import FILES

RUN = ("image_size=32", "batch_size=8", "trainer.max_epochs=1", "checkpoint.every_steps=2", "name=a")


class Disk:
    """Counts what reaches the disk, and refuses it from one call on until there is space again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.full_from = 0, -1
        real = os.fsync

        def fsync(file: int) -> None:
            self.calls += 1
            if 0 <= self.full_from < self.calls:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def half_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file() and path.suffix in (".ckpt", ".parquet", ".json")]


def filled_up(result: Any) -> bool:
    """Whether that is what it says, in one sentence."""
    assert result.code == 1, result.out + result.err
    assert "the disk is full; free some space or choose another folder" in result.err
    assert "Traceback" not in result.err and result.err.count("error: ") == 1
    return True


def test_a_training_that_met_a_full_disk_at_every_file_ends_as_one_that_did_not(
    train: Callable[..., Any], here: Path, disk: Disk
) -> None:
    """The disk fills after one file more than the last time, over and over, until the run is finished."""
    assert train(*RUN, "runs_dir=straight").code == 0
    files, deaths, room, command = disk.calls, 0, 1, [*RUN, "resume=auto"]
    while not (here / "runs" / "a" / "metrics.json").exists():
        disk.calls, disk.full_from = 0, room
        result = train(*command)
        if result.code == 0:
            break
        deaths += filled_up(result)
        assert not half_files(here / "runs")
        room += 1
        assert room < 4 * files, "it never ends"
    disk.full_from = -1
    assert deaths >= 10
    for part in FILES:
        assert (here / "runs" / "a" / part).read_bytes() == (here / "straight" / "a" / part).read_bytes(), part


@pytest.mark.slow
def test_an_ensemble_that_met_a_full_disk_is_made_when_there_is_space(
    train: Callable[..., Any], ensemble: Callable[..., Any], here: Path, disk: Disk
) -> None:
    for seed in (1, 2):
        assert train(*RUN, f"name=m{seed}", f"seed={seed}").code == 0
    arguments = ("method=weighted", "runs=runs/m*", "name=e")
    disk.calls = 0
    assert ensemble(*arguments, "runs_dir=other").code == 0
    files = disk.calls
    for room in range(0, files, 2):
        disk.calls, disk.full_from = 0, room
        assert filled_up(ensemble(*arguments))
        assert not (here / "runs" / "e" / "metrics.json").exists() and not half_files(here / "runs" / "e")
    disk.full_from = -1
    again = ensemble(*arguments)
    if again.code:  # its folder is there
        assert "exists" in again.err
        assert ensemble("method=weighted", "runs=runs/m*", "name=e2").code == 0
    assert files > 5


def test_a_cache_build_that_met_a_full_disk_resumes(phantoms: Path, tmp_path: Path, disk: Disk) -> None:
    catalog, settings = nih.read_nih(str(phantoms)), CacheSettings(40, str(tmp_path), "fail", 1)
    for room in range(20):
        disk.calls, disk.full_from = 0, room
        try:
            cache, _ = open_or_build(catalog, phantoms, settings)
            break
        except CxrError as error:
            assert "the disk is full" in str(error) or "free space" in str(error), error
            assert all((folder / "manifest.json").exists() for folder in tmp_path.glob("40px-*"))
    assert room > 0 and len(cache.names) == 90
    disk.full_from = -1
    assert len(open_or_build(catalog, phantoms, settings)[0].names) == 90

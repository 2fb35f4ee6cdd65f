"""A cache that is killed, raced for or changed: nothing whole is lost, nothing half is used, memory is bounded."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.cache.verify import verify
from cxr.data.catalog import Catalog
from cxr.errors import CxrError

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from pathlib import Path
import pandas as pd
from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.catalog import Catalog
data, where = sys.argv[1:3]
paths = sorted(map(str, Path(data).iterdir()))
table = pd.DataFrame({"image": [Path(p).name for p in paths], "path": paths})
cache, kept = open_or_build(Catalog(table, (), "t"), data, CacheSettings(64, where, "skip", 2))
print("done", len(kept), cache.folder)
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 images, of which some are damaged and two are the same."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    for number in range(400):
        pixels = rng.integers(0, 256, (320, 320), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png", compress_level=1)
    for number in range(7, 400, 40):
        path = folder / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[: 100 * number])
    shutil.copyfile(folder / "001.png", folder / "002.png")
    return folder


def catalog_of(folder: Path) -> Catalog:
    paths = sorted(map(str, folder.iterdir()))
    return Catalog(pd.DataFrame({"image": [Path(p).name for p in paths], "path": paths}), (), "t")


def start(films: Path, where: Path, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILD, str(films), str(where)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def content(where: Path) -> dict[str, bytes]:
    return {str(path.relative_to(where)): path.read_bytes() for path in sorted(where.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of the cache that was built in one go."""
    where = tmp_path_factory.mktemp("whole")
    out, _ = start(films, where).communicate(timeout=120)
    assert "done 390" in out
    return content(where)


def children_of(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def resident(process: int) -> int:
    """Bytes of memory; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def rows_of(where: Path) -> int:
    """Rows that the journal of the build there has; none once it is published."""
    try:
        return sum(path.read_bytes().count(b"\n") for path in where.glob(".building-*/journal.jsonl"))
    except FileNotFoundError:
        return 0


def kill_and_build(films: Path, where: Path, kills: int, seed: int) -> list[int]:
    """Kills a build at random moments, then lets it end; returns the rows that were finished at each death.

    A life is killed a random moment after a random number of rows.
    """
    rng, rows = random.Random(seed), [0]
    for left in range(kills, 0, -1):
        process = start(films, where)
        goal = rows[-1] + rng.randint(0, 2 * max(0, 380 - rows[-1]) // (left + 1))
        deadline = time.monotonic() + 60
        while process.poll() is None and rows_of(where) < goal:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        assert process.poll() is None, "it ended before it could be killed"
        children = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        rows.append(rows_of(where))
        deadline = time.monotonic() + 20
        while any(resident(child) for child in children):
            assert time.monotonic() < deadline, "a decoding process has outlived its parent"
            time.sleep(0.01)
    out, _ = start(films, where).communicate(timeout=120)
    assert "done 390" in out
    return rows[1:]


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_build_killed_at_random_moments_equals_one_that_was_not(
    films: Path, whole: dict[str, bytes], tmp_path: Path, kills: int
) -> None:
    rows = kill_and_build(films, tmp_path, kills, seed=kills)
    assert rows == sorted(rows), "what was finished stays so"
    assert sum(0 < row < 400 for row in rows) > kills // 2, "most deaths were in the middle of the work"
    assert content(tmp_path) == whole, "the same bytes, and nothing else is left"


def killed_build(films: Path, where: Path) -> list[int]:
    """Kills a build after 100 rows; returns the rows in its journal, which then ends in an incomplete line."""
    process = start(films, where)
    while rows_of(where) < 100:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    (journal,) = where.glob(".building-*/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    finished = [line for line in lines if line.endswith("\n")]
    journal.write_text("".join(finished) + finished[0][:20])
    return [json.loads(line)[0] for line in finished]


def test_finished_rows_are_not_decoded_again(films: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    data, where = Path(shutil.copytree(films, tmp_path / "films")), tmp_path / "cache"
    for row in killed_build(data, where):
        if row not in (1, 2):  # the duplicates, which are compared at the end
            path = data / f"{row:03d}.png"
            stat = path.stat()
            path.write_bytes(bytes(stat.st_size))  # a change that only decoding notices
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    out, _ = start(data, where).communicate(timeout=120)
    assert "done 390" in out and content(where) == whole


def test_a_row_that_did_not_reach_the_disk_is_decoded_again(
    films: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    finished = killed_build(films, tmp_path)
    (array,) = tmp_path.glob(".building-*/images.npy")
    with array.open("rb+") as file:
        for row in finished[20:40]:
            file.seek((row - 400) * 64 * 64, os.SEEK_END)
            file.write(bytes(64 * 64))
    out, _ = start(films, tmp_path).communicate(timeout=120)
    assert "done 390" in out and content(tmp_path) == whole


def test_three_builders_at_once_make_one_cache(films: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    builders = [start(films, tmp_path) for _ in range(3)]
    said = [builder.communicate(timeout=120)[0] for builder in builders]
    assert all("done 390" in text for text in said)
    assert sum("caching 400 images" in text for text in said) == 1
    assert content(tmp_path) == whole


def test_a_waiting_builder_takes_over_when_the_first_is_killed(
    films: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    first = start(films, tmp_path)
    while not list(tmp_path.glob(".building-*/journal.jsonl")):
        time.sleep(0.002)
    second = start(films, tmp_path)
    time.sleep(0.3)
    first.kill()
    assert "done 390" in second.communicate(timeout=120)[0]
    assert content(tmp_path) == whole


def test_a_killed_worker_is_reported_and_its_work_kept(films: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    process = start(films, tmp_path, stderr=subprocess.PIPE)
    while not rows_of(tmp_path):
        assert process.poll() is None
        time.sleep(0.001)
    workers = [c for c in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "CxrError: a process that decodes images was killed" in errors and "run the same command again" in errors
    out, _ = start(films, tmp_path).communicate(timeout=120)
    assert "done 390" in out and content(tmp_path) == whole


def test_ctrl_c_ends_a_build_and_its_workers(films: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job of a shell ignores it
    process = start(films, tmp_path, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=default)
    while not rows_of(tmp_path) and process.poll() is None:
        time.sleep(0.001)
    children = children_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and errors.count("Traceback") == 1, errors
    assert not any(map(resident, children))
    out, _ = start(films, tmp_path).communicate(timeout=120)
    assert "done 390" in out and content(tmp_path) == whole


def test_memory_of_a_build_does_not_grow_with_the_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    peaks = {}
    for count in (50, 600):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (96, 96), np.uint8)).save(folder / f"{number}.png", compress_level=1)
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD.replace("64, where", "512, where"), str(folder), str(tmp_path / f"c{count}")],
            cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(resident, [process.pid, *children_of(process.pid)])))
            time.sleep(0.005)
        assert process.returncode == 0
        peaks[count] = peak / 2**20
    assert peaks[600] - peaks[50] < 60, peaks  # the larger cache has 144 MiB more


# Verifying


@pytest.fixture
def copied(films: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in sorted(films.iterdir())[:20]:
        shutil.copy2(path, folder / path.name)
    return folder


def test_a_cache_verifies_against_its_files_and_names_what_changed(copied: Path) -> None:
    cache, _ = open_or_build(catalog_of(copied), copied, CacheSettings(64, None, "skip", 1))
    shutil.move(copied / "cxr-cache", copied.parent / "cxr-cache")  # so that the folder holds images alone

    def compared() -> dict[str, str]:
        settings = CacheSettings(64, str(copied.parent / "cxr-cache"), "skip", 1)
        return verify(catalog_of(copied), copied, settings)[1]

    assert compared() == {}
    stat = (copied / "003.png").stat()
    content = bytearray((copied / "003.png").read_bytes())
    content[500] ^= 1
    (copied / "003.png").write_bytes(content)
    os.utime(copied / "003.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # behind everybody's back
    assert compared() == {"003.png": "its file has changed"}
    array = copied.parent / "cxr-cache" / cache.folder.name / "images.npy"
    with array.open("rb+") as file:
        file.seek(-64 * 64 * 10 + 7, os.SEEK_END)  # in the row of 010.png
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 16]))
    assert compared() == {"003.png": "its file has changed", "010.png": "its row of the cache has changed"}
    (copied / "005.png").unlink()
    shutil.copy(copied / "006.png", copied / "900.png")
    assert compared() == {
        "003.png": "its file has changed", "010.png": "its row of the cache has changed",
        "005.png": "is no longer in the table", "900.png": "is not in the cache",
    }  # fmt: skip


def test_verifying_without_a_cache_is_an_error(copied: Path) -> None:
    with pytest.raises(CxrError, match="has no cache of these images at 32 px"):
        verify(catalog_of(copied), copied, CacheSettings(32))


def test_the_command_line_builds_verifies_and_refuses(shared: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "cxr", "cache", "data=nih", f"data.root={shared / 'nih_mini'}",
                   f"cache.dir={tmp_path / 'c'}", "cache.size=32", *arguments]  # fmt: skip
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )

    missing = run("verify=true")
    assert missing.returncode == 1 and "has no cache of these images at 32 px" in missing.stderr
    built = run()
    assert built.returncode == 0, built.stderr
    assert "caching 2,352 images at 32 px: 2.4 MB in" in built.stdout and "256 px 154.1 MB" in built.stdout
    assert "2,352 of them usable" in built.stdout
    (folder,) = (tmp_path / "c").iterdir()
    assert "00002658_002.png,duplicate: same pixels as 00002658_001.png" in (folder / "report.csv").read_text()
    assert run("verify=true").returncode == 0
    with (folder / "images.npy").open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    changed = run("verify=true")
    assert changed.returncode == 1 and "its row of the cache has changed" in changed.stdout
    assert "differs in 1 image; build again" in changed.stderr and "Traceback" not in changed.stderr
    for bad, said in (("cache.size=0", "cache.size=0 must be a positive"), ("verify=perhaps", "verify=perhaps"),
                      ("cache.on_error=ignore", "choose fail or skip"), ("cache.sise=3", "cache.size")):  # fmt: skip
        refused = run(bad)
        assert refused.returncode == 1 and said in refused.stderr and "Traceback" not in refused.stderr, refused.stderr

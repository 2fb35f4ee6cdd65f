"""Builds a cache in several processes; a killed build resumes.

During a build the cache is in `.building-<name>`, next to its final folder. The journal records a row and its checksum
after the row is written, so that a killed build resumes with the complete rows. Rows of earlier caches are copied. A
lock file allows one builder; other processes wait until the cache is finished.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from cxr.data.cache.audit import find_duplicates
from cxr.data.cache.manifest import ARRAY, MANIFEST, Entry, Manifest, State, read_manifest
from cxr.data.decoder import SAME, Result, Task, decode_all, write_row
from cxr.errors import CxrError, counted
from cxr.files.locking import locked
from cxr.files.writing import unwritable

_JOURNAL = "journal.jsonl"
_SIZES = (128, 224, 256, 299, 512)  # suggested if the disk is too small, and before a long build


def build_cache(folder: Path, state: State, processes: int | None = None) -> None:
    """Builds `folder`, resumes an interrupted build, or waits for another process that builds it.

    Args:
        folder: of the finished cache.
        state: of the files.
        processes: number of decoding processes; by default one per core.

    Raises:
        CxrError: the disk is full or fails, or a decoding process died.
    """
    building = folder.parent / f".building-{folder.name}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"another process is building {folder.name}; waiting for it"
        with locked(folder.parent / f".lock-{folder.name}", waiting, wait=math.inf):
            if (folder / MANIFEST).exists():
                return
            if not (building / MANIFEST).exists():
                _fill(building, state, processes or os.cpu_count() or 1)
            with suppress(FileNotFoundError):
                (building / _JOURNAL).unlink()
            os.rename(building, folder)
            _sync(folder.parent)
    except OSError as error:
        raise unwritable(folder, error) from error


def _fill(building: Path, state: State, processes: int) -> None:
    building.mkdir(exist_ok=True)
    array = building / ARRAY
    start = _make_array(array, state)
    with array.open("rb+") as file, (building / _JOURNAL).open("a+", encoding="utf-8") as journal:
        done = _read_journal(journal, file, start, state)
        if not done:
            _announce(building.parent, state)
        tasks = [Task(position, path) for position, path in enumerate(state.paths) if position not in done]
        bar = tqdm(
            total=len(state.names), initial=len(done), desc=f"caching at {state.size} px", unit="image",
            disable=not sys.stderr.isatty(), leave=False,
        )  # fmt: skip
        with bar:
            for result in _results(tasks, state, array, start, processes):
                journal.write(json.dumps(result) + "\n")
                journal.flush()
                done[result.position] = result
                bar.update()
        os.fsync(file.fileno())
    images = tuple(
        Entry(name, length, modified, *done[position][1:])
        for position, (name, length, modified) in enumerate(zip(state.names, state.sizes, state.times, strict=True))
    )
    duplicates = find_duplicates(images, state.paths)
    decoders = {"opencv": cv2.__version__, "pillow": PIL.__version__}
    Manifest(state.size, state.fingerprint, images, duplicates).write(building / MANIFEST, decoders)


def _make_array(path: Path, state: State) -> int:
    """Creates the array file with its space on the disk allocated; returns the offset of its first row."""
    shape = (len(state.names), state.size, state.size)
    if not path.exists():
        temporary = path.with_suffix(".new")
        try:
            _check_room(path.parent, state)
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()
            with temporary.open("rb+") as file:  # a full disk is an error here, and a crash in a map
                if hasattr(os, "posix_fallocate"):  # not on macOS
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except (CxrError, OSError):
            temporary.unlink(missing_ok=True)
            path.parent.rmdir()
            raise
        temporary.rename(path)
    return path.stat().st_size - state.bytes


def _check_room(folder: Path, state: State) -> None:
    free = shutil.disk_usage(folder).free
    if state.bytes > free:
        smaller = [size for size in _SIZES if len(state.names) * size**2 <= free]
        fits = f"; {smaller[-1]} px would fit (cache.size={smaller[-1]})" if smaller else ""
        raise CxrError(
            f"the cache of {counted(len(state.names), 'image')} at {state.size} px needs {in_bytes(state.bytes)} and "
            f"{folder.parent} has {in_bytes(free)} free; choose another disk with cache.dir=DIR or a smaller "
            f"cache.size{fits}"
        )


def _announce(folder: Path, state: State) -> None:
    others = ", ".join(f"{size} px {in_bytes(len(state.names) * size**2)}" for size in _SIZES if size != state.size)
    print(
        f"caching {counted(len(state.names), 'image')} at {state.size} px: {in_bytes(state.bytes)} in {folder} "
        f"(cache.size=... for others: {others})",
        flush=True,
    )


def in_bytes(number: int) -> str:
    """A number of bytes as text, in MB or GB (powers of ten)."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _read_journal(journal: IO[str], array: IO[bytes], start: int, state: State) -> dict[int, Result]:
    """The finished rows of a killed build: complete journal lines whose row matches its checksum."""
    journal.seek(0)
    done: dict[int, Result] = {}
    row = state.size * state.size
    text = journal.read()
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            result = Result(*json.loads(line))
            if not 0 <= result.position < len(state.names):
                continue
            if result.pixels:
                written = os.pread(array.fileno(), row, start + result.position * row)
                if sha256(written).hexdigest() != result.pixels:
                    continue
            done[result.position] = result
    if text and not text.endswith("\n"):
        journal.write("\n")  # ends an incomplete line
    return done


def _results(tasks: list[Task], state: State, array: Path, start: int, processes: int) -> Iterator[Result]:
    """Copies rows that an earlier cache has, and decodes the rest."""
    known = _known(array.parents[1], state)

    def copy(position: int) -> Result | None:
        row = known[position].read(state.size)
        if row is None:
            del known[position]
            return None
        write_row(array, start + position * len(row), row)
        return Result(position, *known[position].entry[3:])

    changed, again = [], []
    for task in tasks:
        earlier = known.get(task.position)
        unchanged = earlier is not None and earlier.entry.modified == state.times[task.position]
        copied = copy(task.position) if unchanged else None
        if copied is not None:
            yield copied
        else:
            earlier = known.get(task.position)  # without a row that `copy` found damaged
            changed.append(task._replace(known=earlier.entry.source if earlier else None))
    for result in decode_all(changed, array, start, state.size, processes):
        copied = copy(result.position) if result.reason == SAME else result
        if copied is None:
            again.append(Task(result.position, state.paths[result.position]))
        else:
            yield copied
    yield from decode_all(again, array, start, state.size, processes)


class _Row(NamedTuple):
    """A row of an earlier cache: array file, offset in bytes, and manifest entry."""

    array: Path
    offset: int
    entry: Entry

    def read(self, size: int) -> bytes | None:
        """The row, or None if it does not match its checksum."""
        with suppress(OSError), self.array.open("rb") as file:
            row = os.pread(file.fileno(), size * size, self.offset)
            if sha256(row).hexdigest() == self.entry.pixels:
                return row
        return None


def _known(folder: Path, state: State) -> dict[int, _Row]:
    """Rows of earlier caches of the same size for files of the same name and length, by position; newest first."""
    missing = {name: position for position, name in enumerate(state.names)}
    found: dict[int, _Row] = {}
    for path in sorted(folder.glob(f"{state.size}px-*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime):
        with suppress(CxrError, OSError):
            manifest, array = read_manifest(path.parent), path.parent / ARRAY
            start = array.stat().st_size - len(manifest.images) * state.size**2
            for row, entry in enumerate(manifest.images):
                position = missing.get(entry.image)
                if position is not None and entry.pixels and entry.bytes == state.sizes[position]:
                    found[position] = _Row(array, start + row * state.size**2, entry)
                    del missing[entry.image]
        if not missing:
            break
    return found


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

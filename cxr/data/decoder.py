"""Decodes images in a process pool. Outside `cxr.data.cache`, so that workers import neither pandas nor PyTorch."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2

from cxr.data.archives import contents, split_path
from cxr.errors import CxrError
from cxr.imaging.decode import BadImage, decode, read_file

SAME = "same"
_CHUNK = 16  # images per task of the pool
_CHUNK_BYTES = 1 << 24  # of contents that are sent to it
# M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h: getting memory anew is 40% of the time of a DICOM file.
_MALLOC = {-1: 1 << 29, -3: 1 << 25}


class Task(NamedTuple):
    """An image to decode.

    Attributes:
        position: in the array.
        path: of the file.
        known: SHA-256 of content that an earlier cache has decoded, or None.
        content: of the file, if it is already read, or why it cannot be.
    """

    position: int
    path: str
    known: str | None = None
    content: bytes | BadImage | None = None


class Result(NamedTuple):
    """The outcome of a task.

    Attributes:
        position: in the array.
        source: SHA-256 of the file; empty if it could not be read.
        width: of the file in pixels, 0 if unknown.
        height: of the file in pixels, 0 if unknown.
        pixels: SHA-256 of the row of the array; empty if no row was written.
        reason: why the image is bad; empty for a good image; `same` if the file has the known content.
        remark: see `cxr.imaging.decode.Decoded`.
    """

    position: int
    source: str = ""
    width: int = 0
    height: int = 0
    pixels: str = ""
    reason: str = ""
    remark: str = ""


def decode_all(tasks: Sequence[Task], array: Path, start: int, size: int, processes: int) -> Iterator[Result]:
    """Decodes images into their rows of the array file, and yields the results.

    Files come first, in the order of the tasks, then images in archives, in the order of the archives.

    Args:
        tasks: images and rows.
        array: file of the rows.
        start: offset of its first row in bytes.
        size: side of a row's image in pixels.
        processes: maximum number of processes.

    Raises:
        CxrError: reading a file failed, or a worker was killed.
        OSError: writing the array file failed.
    """
    if not tasks:
        return
    workers = min(processes, -(-len(tasks) // _CHUNK))
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
            yield from _in_order(pool, tasks, partial(_decode_rows, array=array, start=start, size=size), 3 * workers)
    except BrokenProcessPool:
        raise CxrError(
            "a process that decodes images was killed (out of memory?); finished images are kept: run the same command "
            "again to continue, with cache.processes=1 if memory is short"
        ) from None
    except OSError as error:
        if not error.filename or error.filename == str(array):
            raise
        raise CxrError(
            f"{error.filename} cannot be read: {str(error.strerror).lower()}; finished images are kept: run the same "
            "command again to continue"
        ) from None


def _in_order(
    pool: ProcessPoolExecutor, tasks: Sequence[Task], work: Callable[[list[Task]], list[Result]], most: int
) -> Iterator[Result]:
    """Results in the order of `_with_contents`; at most `most` chunks of it wait in the pool."""
    waiting = deque[Future[list[Result]]]()
    try:
        for chunk in _chunks(_with_contents(tasks)):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a worker that starts inherits it
            try:
                waiting.append(pool.submit(work, chunk))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if len(waiting) == most:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _with_contents(tasks: Sequence[Task]) -> Iterator[Task]:
    """Files, which the workers read, then images in archives with their content: an archive has one reader."""
    yield from (task for task in tasks if split_path(task.path) is None)
    for position, content in contents([task.path for task in tasks]):
        yield tasks[position]._replace(content=content)


def _chunks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    chunk, length = list[Task](), 0
    for task in tasks:
        chunk.append(task)
        length += len(task.content) if isinstance(task.content, bytes) else 0
        if len(chunk) == _CHUNK or length > _CHUNK_BYTES:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def _decode_rows(tasks: list[Task], array: Path, start: int, size: int) -> list[Result]:
    return [decode_row(task, array, start, size) for task in tasks]


def decode_row(task: Task, array: Path, start: int, size: int) -> Result:
    """Decodes one file into its row; see `decode_all`."""
    content = b""
    try:
        if isinstance(task.content, BadImage):
            raise task.content
        content = read_file(task.path) if task.content is None else task.content
        if task.known and sha256(content).hexdigest() == task.known:
            return Result(task.position, task.known, reason=SAME)
        decoded = decode(content, size)
    except BadImage as error:
        reason = " ".join("".join(s if s.isprintable() else " " for s in str(error).replace(task.path, "it")).split())
        return Result(task.position, sha256(content).hexdigest() if content else "", reason=reason)
    row = decoded.pixels.tobytes()
    write_row(array, start + task.position * len(row), row)
    shown = sha256(row).hexdigest()
    return Result(task.position, decoded.source, decoded.width, decoded.height, shown, remark=decoded.remark)


def write_row(array: Path, offset: int, row: bytes) -> None:
    """Writes `row` at `offset` of the file."""
    with array.open("rb+") as file:
        file.seek(offset)
        file.write(row)


def _start_worker() -> None:
    """Initializes a worker: it exits with its parent, keeps its memory, and discards warnings of libpng."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    with suppress(AttributeError):  # other than glibc
        for threshold, value in _MALLOC.items():
            ctypes.CDLL(None).mallopt(threshold, value)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _exit_with_parent() -> None:
    """Exits when the parent dies, also if it died before the worker was ready, which a kernel death signal misses."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

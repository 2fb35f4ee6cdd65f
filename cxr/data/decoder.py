"""Decoding in a process pool. Outside `cxr.data.cache`, so that a worker imports neither pandas nor PyTorch."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2

from cxr.errors import CxrError
from cxr.imaging.decode import BadImage, decode, read_file

SAME = "same"
_CHUNK = 16  # images per task of the pool


class Task(NamedTuple):
    """Attributes: position in the array; path of the file; SHA-256 of content that needs no decoding, or None."""

    position: int
    path: str
    known: str | None = None


class Result(NamedTuple):
    """The outcome of a task.

    Attributes:
        position: in the array.
        source: SHA-256 of the file; empty if it could not be read.
        width: of the file in pixels, 0 if unknown.
        height: of the file in pixels, 0 if unknown.
        pixels: SHA-256 of the row of the array; empty if none was written.
        reason: why the image is bad; empty if it is not; `same` if the file has the known content.
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
    """Decodes all files into their rows of the array file, and yields the results in the order of the tasks.

    Args:
        tasks: which files, to which rows.
        array: file that holds the rows.
        start: offset of its first row in bytes.
        size: side of a row's image in pixels.
        processes: at most.

    Raises:
        CxrError: a file's disk failed, or a worker was killed.
        OSError: the array file's disk failed.
    """
    if not tasks:
        return
    workers = min(processes, -(-len(tasks) // _CHUNK))
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # workers inherit it, also at start
            try:
                work = partial(decode_row, array=array, start=start, size=size)
                results = pool.map(work, tasks, chunksize=_CHUNK)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield from results
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


def decode_row(task: Task, array: Path, start: int, size: int) -> Result:
    """Decodes one file into its row; see `decode_all`."""
    content = b""
    try:
        content = read_file(task.path)
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
    """A worker exits with its parent, and discards the warnings of libpng."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _exit_with_parent() -> None:
    """Unlike a death signal of the kernel, this notices a parent that died before the worker was ready."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""One decoding process: `python -m cxr.data.decoder`, fed over its input by `cxr.data.cache.pool`, gone when that ends.

A line in is a JSON list of tasks `[position, path, known]`, a line out the list of their results, see `Result`. The
pixels go straight into the array file, so that memory stays that of one image whatever their number.
"""

import json
import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import cv2

from cxr.imaging.decode import BadImage, decode, read_file


class Task(NamedTuple):
    """Attributes: position in the array; path of the file; SHA-256 of the content that needs no decoding, or none."""

    position: int
    path: str
    known: str | None = None


class Result(NamedTuple):
    """What became of a task.

    Attributes:
        position: in the array.
        source: SHA-256 of the file; empty if it could not be read.
        width: of the file in pixels, 0 if unknown.
        height: of the file in pixels, 0 if unknown.
        pixels: SHA-256 of the row of the array; empty if none was written.
        reason: why the image is bad; empty if it is not; `same` if the file has the content that was known.
    """

    position: int
    source: str = ""
    width: int = 0
    height: int = 0
    pixels: str = ""
    reason: str = ""


SAME = "same"


def work(task: Task, array: int, start: int, size: int) -> Result:
    """Decodes one file into its row.

    Args:
        task: which.
        array: descriptor of the array file.
        start: where its first row begins, in bytes.
        size: side of a row's image in pixels.
    """
    content = b""
    try:
        content = read_file(task.path)
        if task.known and sha256(content).hexdigest() == task.known:
            return Result(task.position, task.known, reason=SAME)
        made = decode(content, size)
    except BadImage as error:
        reason = " ".join(str(error).replace(task.path, "it").split())
        return Result(task.position, sha256(content).hexdigest() if content else "", reason=reason)
    row = made.pixels.tobytes()
    write_row(array, start + task.position * len(row), row)
    return Result(task.position, made.source, made.width, made.height, sha256(row).hexdigest())


def write_row(array: int, offset: int, row: bytes) -> None:
    """Writes all of `row` at `offset`."""
    view = memoryview(row)
    while view:
        written = os.pwrite(array, view, offset)
        view, offset = view[written:], offset + written


def main(arguments: Sequence[str]) -> None:
    """Does what comes in until the input ends. Arguments: array file, first row's offset, size."""
    cv2.setNumThreads(0)
    path, start, size = arguments[0], int(arguments[1]), int(arguments[2])
    array = os.open(path, os.O_RDWR)
    for line in sys.stdin:
        try:
            results = [work(Task(*task), array, start, size) for task in json.loads(line)]
            answer = json.dumps(results)
        except OSError as error:  # of the machine or the array's disk, not of an image
            answer = json.dumps({"failed": error.strerror or str(error), "errno": error.errno, "file": error.filename})
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

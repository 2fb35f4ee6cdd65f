"""Decoding processes: fed over pipes, a bundle at a time, and gone when their parent is."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr.data.decoder import Result, Task
from cxr.errors import CxrError

_BUNDLE = 16  # images a process is handed at once
_AHEAD = 2  # bundles a process has, so that it never waits for the next
# The C library keeps what an image took for the next one, rather than hand a megabyte back and fault it in again.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}


def decode_all(tasks: Sequence[Task], array: Path, start: int, size: int, processes: int) -> Iterator[Result]:
    """Decodes all tasks into the array file; results come as they are ready.

    Args:
        tasks: which files, to which rows.
        array: file that holds the rows.
        start: where its first row begins, in bytes.
        size: side of a row's image in pixels.
        processes: at most.

    Raises:
        CxrError: the disk failed, or a process died.
    """
    bundles = iter([tasks[i : i + _BUNDLE] for i in range(0, len(tasks), _BUNDLE)])
    workers = [_Worker(array, start, size) for _ in range(min(processes, -(-len(tasks) // _BUNDLE)))]
    try:
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
                for _ in range(_AHEAD):
                    worker.send(next(bundles, ()))
            while any(worker.waiting for worker in workers):
                for key, _ in selector.select():
                    worker = key.data
                    for results in worker.receive():
                        worker.send(next(bundles, ()))
                        yield from results
    finally:
        for worker in workers:
            worker.close()


class _Worker:
    """One process, and what it has been asked and has not answered."""

    def __init__(self, array: Path, start: int, size: int) -> None:
        package = str(Path(__file__).parents[3])  # found wherever the parent was started
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cxr.data.decoder", str(array.absolute()), str(start), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libpng's remarks on colour profiles
            bufsize=0,
            env=os.environ | {"PYTHONPATH": path} | _KEEP_MEMORY,
            start_new_session=True,  # ctrl-C ends the parent, whose end it sees
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.waiting, self._text = 0, b""

    def send(self, tasks: Sequence[Task]) -> None:
        """Hands it a bundle."""
        if tasks:
            self.waiting += 1
            try:
                self.input.write(json.dumps(tasks).encode() + b"\n")
            except BrokenPipeError:
                raise self._death() from None

    def receive(self) -> Iterator[list[Result]]:
        """The bundles that it has answered."""
        read = os.read(self.output.fileno(), 1 << 16)
        if not read:
            raise self._death()
        *lines, self._text = (self._text + read).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if isinstance(answer, dict) and answer["file"]:
                raise CxrError(
                    f"{answer['file']} cannot be read: {answer['failed'].lower()}; what is decoded is kept: run again "
                    "to go on"
                )
            if isinstance(answer, dict):
                raise OSError(answer["errno"], answer["failed"])
            self.waiting -= 1
            yield [Result(*result) for result in answer]

    def close(self) -> None:
        """Ends it."""
        self.input.close()
        if self.waiting:
            self.process.kill()
        self.process.wait()
        self.output.close()

    def _death(self) -> CxrError:
        code = self.process.wait()
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return CxrError(
            f"a process that decodes images ended with {ended} (out of memory?); what is decoded is kept: run again to "
            "go on, with fewer processes by cache.processes=1 if need be"
        )

"""Checkpoint files: written whole, each with its SHA-256 beside it, the one before kept; damage is found before use.

`<name>.sha256` is what `sha256sum -c` reads. During the rename it lists the hashes of both files, so that whichever
is there when the process dies has its hash.
"""

import errno
import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins import CheckpointIO

from cxr.errors import CxrError
from cxr.files.reading import open_regular, read_text
from cxr.files.writing import replacing, write_text
from cxr.run.directory import Run

_CHUNK, _LONGEST_SUMS = 1 << 22, 1 << 16  # bytes


class WholeFiles(CheckpointIO):
    """How Lightning writes checkpoints of a run.

    Args:
        run: whose `last.ckpt` becomes `previous.ckpt` when there is a new one.

    Attributes:
        restored: a file that was read already, and its content; Lightning gets it once in place of reading the file.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.restored: tuple[Path, dict[str, Any]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint and its sum."""
        write_checkpoint(checkpoint, Path(path), self.run.previous if Path(path) == self.run.last else None)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads it without unpickling objects, unless it is the one that was read already."""
        if self.restored is not None and self.restored[0] == Path(path):
            content, self.restored = self.restored[1], None
            return content
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes it and its sum."""
        for file in (Path(path), _sums_path(Path(path))):
            file.unlink(missing_ok=True)


class _Summed:
    """A file that is summed up while it is written and synced: a thread follows the writer, and reads what is there.

    Attributes:
        failure: why a write failed.
    """

    def __init__(self, file: IO[bytes], beside: Executor) -> None:
        self.file, self.beside, self.digest = file, beside, sha256()
        self.failure: OSError | None = None
        self._written = self._asked = 0
        self._sums: list[Future[None]] = []

    def write(self, content: bytes) -> int:
        try:
            written = self.file.write(content)
            self._written += len(content)
            if self._written - self._asked >= _CHUNK:
                self.flush()
        except OSError as error:
            self.failure = error
            raise
        return written

    def flush(self) -> None:
        self.file.flush()
        self._sums.append(self.beside.submit(self._follow, self._asked, self._written))
        self._asked = self._written

    def hexdigest(self) -> str:
        """The sum of all that was flushed."""
        for done in self._sums:
            done.result()
        return self.digest.hexdigest()

    def _follow(self, start: int, end: int) -> None:
        while start < end:
            content = os.pread(self.file.fileno(), min(_CHUNK, end - start), start)
            if not content:
                raise OSError(errno.EIO, "it is shorter than what was written", self.file.name)
            self.digest.update(content)
            start += len(content)


def write_checkpoint(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Writes a checkpoint whole or not at all, synced, with its sum.

    Args:
        content: of the checkpoint.
        path: its file.
        previous: what the file that is there becomes; none replaces it.

    Raises:
        CxrError: the disk is full or cannot be written.
    """
    with replacing(path) as temporary:
        with temporary.open("w+b") as file, ThreadPoolExecutor(1) as beside:
            summed = _Summed(file, beside)
            try:
                torch.save(content, summed)  # type: ignore[arg-type]  # it writes, and needs no more
            except RuntimeError as error:  # PyTorch's own, about positions in a file that could not be written
                raise summed.failure or error from error
            summed.flush()
            os.fsync(file.fileno())
            new, old = summed.hexdigest(), _sums(path)
        if previous is not None and path.exists():
            _expect(previous, *old, *_sums(previous))
            path.replace(previous)
            _expect(previous, *old)
        _expect(path, new, *old)
    _expect(path, new)


@dataclass(frozen=True)
class Whole:
    """A checkpoint file whose SHA-256 is the noted one.

    Attributes:
        path: of the file.
        content: its bytes, as they were checked.
    """

    path: Path
    content: bytes


def read_whole(path: Path) -> bytes | None:
    """The bytes of a checkpoint that has the sum that was noted, or has no note; none where it is damaged.

    Raises:
        CxrError: it or the note is no regular file, or the note is no text.
    """
    sums = _sums(path)
    with open_regular(path, None) as file:
        content = file.read()
    return content if not sums or sha256(content).hexdigest() in sums else None


def newest_whole(run: Run, show: bool = True) -> Whole | None:
    """The checkpoint that training resumes from: `last.ckpt`, or the one before it where that is damaged or missing.

    A damaged `last.ckpt` gets another name, so that it does not take the place of the one before.

    Args:
        run: which.
        show: say what is damaged, and rename it.

    Returns:
        None where there is no checkpoint yet.

    Raises:
        CxrError: all are damaged.
    """
    damaged: list[Path] = []
    for path in (run.last, run.previous):
        if not path.exists():
            continue
        content = read_whole(path)
        if content is not None:
            if damaged and show:
                aside = damaged[0].with_name(f"{damaged[0].name}.damaged")
                damaged[0].replace(aside)
                print(f"{damaged[0]} is damaged (its SHA-256 is not the noted one) and is now {aside.name}", flush=True)
            return Whole(path, content)
        damaged.append(path)
    if damaged:
        raise CxrError(
            f"{' and '.join(map(str, damaged))} are damaged: their SHA-256 is not the one in {damaged[0].name}.sha256; "
            "restore one from a backup, or start a new run"
        )
    return None


def _sums_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sums(path: Path) -> list[str]:
    """The sums that are noted for a file."""
    try:
        lines = read_text(_sums_path(path), _LONGEST_SUMS).splitlines()
    except FileNotFoundError:
        return []
    return [line.split()[0] for line in lines if line.strip()]


def _expect(path: Path, *sums: str) -> None:
    write_text(_sums_path(path), "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(sums)))

"""Checkpoint files: written atomically with a SHA-256 sidecar, so that damage is found before use.

`sha256sum -c` reads the sidecar `<name>.sha256`. During the rename it lists the hashes of both the old and the new
file, so that either is valid if the process dies. The previous `last.ckpt` is kept as `previous.ckpt`.
"""

import errno
import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins import CheckpointIO

from cxr.errors import CxrError
from cxr.files.reading import open_regular, read_text
from cxr.files.writing import replacing, write_text
from cxr.run.directory import Run

_CHUNK, _LONGEST_SIDECAR = 1 << 22, 1 << 16  # bytes


class CheckpointFiles(CheckpointIO):
    """Lightning's plugin for writing and reading the checkpoints of a run.

    Args:
        run: each new `last.ckpt` moves the old one to `previous.ckpt`.

    Attributes:
        restored: path and content of a checkpoint already read; `load_checkpoint` returns it once instead of reading
            the file.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.restored: tuple[Path, dict[str, Any]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint and its SHA-256."""
        write_checkpoint(checkpoint, Path(path), self.run.previous if Path(path) == self.run.last else None)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads a checkpoint without unpickling objects, unless `restored` has its content."""
        if self.restored is not None and self.restored[0] == Path(path):
            content, self.restored = self.restored[1], None
            return content
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint and its SHA-256."""
        for file in (Path(path), _sidecar(Path(path))):
            file.unlink(missing_ok=True)


class _HashingFile:
    """A file that is hashed while it is written: a thread reads back and hashes what has been flushed.

    Attributes:
        failure: why a write failed.
    """

    def __init__(self, file: IO[bytes], executor: Executor) -> None:
        self.file, self.executor, self.digest = file, executor, sha256()
        self.failure: OSError | None = None
        self._written = self._flushed = 0
        self._pending: list[Future[None]] = []

    def write(self, content: bytes) -> int:
        try:
            written = self.file.write(content)
            self._written += len(content)
            if self._written - self._flushed >= _CHUNK:
                self.flush()
        except OSError as error:
            self.failure = error
            raise
        return written

    def flush(self) -> None:
        self.file.flush()
        self._pending.append(self.executor.submit(self._hash, self._flushed, self._written))
        self._flushed = self._written

    def hexdigest(self) -> str:
        """The hash of everything flushed so far."""
        for part in self._pending:
            part.result()
        return self.digest.hexdigest()

    def _hash(self, start: int, end: int) -> None:
        while start < end:
            content = os.pread(self.file.fileno(), min(_CHUNK, end - start), start)
            if not content:
                raise OSError(errno.EIO, "the file is shorter than what was written", self.file.name)
            self.digest.update(content)
            start += len(content)


def write_checkpoint(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Writes a checkpoint atomically, synced, with its SHA-256.

    Args:
        previous: where an existing file at `path` is moved; by default it is replaced.

    Raises:
        CxrError: the disk is full or not writable.
    """
    with replacing(path) as temporary:
        with temporary.open("w+b") as file, ThreadPoolExecutor(1) as executor:
            hashing = _HashingFile(file, executor)
            try:
                torch.save(content, hashing)  # type: ignore[arg-type]  # it calls write and flush alone
            except RuntimeError as error:  # PyTorch reports a wrong file position and hides the failed write
                raise hashing.failure or error from error
            hashing.flush()
            os.fsync(file.fileno())
            new, old = hashing.hexdigest(), _read_hashes(path)
        if previous is not None and path.exists():
            _write_hashes(previous, *old, *_read_hashes(previous))
            path.replace(previous)
            _write_hashes(previous, *old)
        _write_hashes(path, new, *old)
    _write_hashes(path, new)


def read_verified(path: Path) -> bytes | None:
    """The bytes of a checkpoint that matches its sidecar or has no sidecar; None if it is damaged.

    Raises:
        CxrError: the file or its sidecar is not a regular file, or the sidecar is not text.
    """
    hashes = _read_hashes(path)
    with open_regular(path, None) as file:
        content = file.read()
    return content if not hashes or sha256(content).hexdigest() in hashes else None


def newest_verified(run: Run, show: bool = True) -> tuple[Path, bytes] | None:
    """Path and bytes of the checkpoint to resume from: `last.ckpt`, or `previous.ckpt` if that is damaged or missing.

    A damaged `last.ckpt` is renamed, so that it does not overwrite `previous.ckpt` at the next save.

    Args:
        show: report and rename a damaged checkpoint.

    Returns:
        None if there is no checkpoint yet.

    Raises:
        CxrError: all are damaged.
    """
    damaged: list[Path] = []
    for path in (run.last, run.previous):
        if not path.exists():
            continue
        content = read_verified(path)
        if content is not None:
            if damaged and show:
                renamed = damaged[0].with_name(f"{damaged[0].name}.damaged")
                damaged[0].replace(renamed)
                print(f"{damaged[0]} is damaged (wrong SHA-256) and was renamed to {renamed.name}", flush=True)
            return path, content
        damaged.append(path)
    if damaged:
        raise CxrError(
            f"{' and '.join(map(str, damaged))} are damaged: their SHA-256 does not match {damaged[0].name}.sha256; "
            "restore one from a backup, or start a new run"
        )
    return None


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read_hashes(path: Path) -> list[str]:
    try:
        lines = read_text(_sidecar(path), _LONGEST_SIDECAR).splitlines()
    except FileNotFoundError:
        return []
    return [line.split()[0] for line in lines if line.strip()]


def _write_hashes(path: Path, *hashes: str) -> None:
    write_text(_sidecar(path), "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(hashes)))

"""Checkpoint files: written whole, each with its SHA-256 beside it, the one before kept; damage is found before use.

`<name>.sha256` is what `sha256sum -c` reads. While a file changes places it has two lines, so that whatever is there
when the process dies has its sum.
"""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins import CheckpointIO

from cxr.errors import CxrError
from cxr.files import replacing, write_text
from cxr.runs import Run

_CHUNK = 1 << 22
_LARGE = 1 << 20  # bytes of a part that is summed by a thread of its own


class WholeFiles(CheckpointIO):
    """How Lightning writes checkpoints of a run.

    Args:
        run: whose `last.ckpt` becomes `previous.ckpt` when there is a new one.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint and its sum."""
        write_checkpoint(checkpoint, Path(path), self.run.previous if Path(path) == self.run.last else None)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads it without unpickling objects."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes it and its sum."""
        for file in (Path(path), _sums_path(Path(path))):
            file.unlink(missing_ok=True)


class _Summing:
    """A file that sums up what is written to it, large parts while they are written, and remembers why it failed."""

    def __init__(self, file: IO[bytes], beside: Executor) -> None:
        self.file, self.beside, self.digest = file, beside, sha256()
        self.failure: OSError | None = None

    def write(self, content: bytes) -> int:
        summed = self.beside.submit(self.digest.update, content) if len(content) >= _LARGE else None
        if summed is None:
            self.digest.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.failure = error
            raise
        finally:
            if summed is not None:
                summed.result()  # what `content` views is gone when this call ends

    def flush(self) -> None:
        self.file.flush()


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
        with temporary.open("wb") as file, ThreadPoolExecutor(1) as beside:
            summing = _Summing(file, beside)
            try:
                torch.save(content, summing)  # type: ignore[arg-type]  # it writes, and needs no more
            except RuntimeError as error:  # PyTorch's own, about positions in a file that could not be written
                raise summing.failure or error from error
            file.flush()
            os.fsync(file.fileno())
        new, old = summing.digest.hexdigest(), _sums(path)
        if previous is not None and path.exists():
            _expect(previous, *old, *_sums(previous))
            path.replace(previous)
            _expect(previous, *old)
        _expect(path, new, *old)
    _expect(path, new)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint has the sum that was noted; one without a note is taken as it is."""
    sums = _sums(path)
    if not sums:
        return True
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() in sums


def newest_whole(run: Run, show: bool = True) -> Path | None:
    """The checkpoint that training goes on from: `last.ckpt`, or the one before it where that is damaged or missing.

    A damaged `last.ckpt` gets another name, so that it does not take the place of the one before.

    Args:
        run: which.
        show: say what is damaged, and put it aside.

    Returns:
        None where there is no checkpoint yet.

    Raises:
        CxrError: all are damaged.
    """
    damaged: list[Path] = []
    for path in (run.last, run.previous):
        if not path.is_file():
            continue
        if is_whole(path):
            if damaged and show:
                aside = damaged[0].with_name(f"{damaged[0].name}.damaged")
                damaged[0].replace(aside)
                print(f"{damaged[0]} is damaged (its SHA-256 is not the noted one) and is now {aside.name}", flush=True)
            return path
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
        lines = _sums_path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.split()[0] for line in lines if line.strip()]


def _expect(path: Path, *sums: str) -> None:
    write_text(_sums_path(path), "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(sums)))

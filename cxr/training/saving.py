"""Checkpoint files: written atomically, each with a SHA-256 sidecar checked before use; the previous one is kept.

`sha256sum -c` reads the sidecar `<name>.sha256`. During the rename it lists the hashes of both files, so that it
matches whichever file exists if the process dies.
"""

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

_LONGEST_SUMS = 1 << 16  # bytes


class CheckedFiles(CheckpointIO):
    """Lightning's reader and writer of a run's checkpoints.

    Args:
        run: each new `last.ckpt` renames the one before to `previous.ckpt`.

    Attributes:
        restored: a file that was already read, and its content, which Lightning's next load returns.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.restored: tuple[Path, dict[str, Any]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint and its SHA-256."""
        write_checkpoint(checkpoint, Path(path), self.run.previous if Path(path) == self.run.last else None)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads a checkpoint without unpickling objects; returns `restored` if it is that file."""
        if self.restored is not None and self.restored[0] == Path(path):
            content, self.restored = self.restored[1], None
            return content
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint and its SHA-256."""
        for file in (Path(path), _sums_path(Path(path))):
            file.unlink(missing_ok=True)


class _Hashing:
    """A file to write to that is hashed on the way.

    Attributes:
        digest: SHA-256 of what was written.
        failure: why a write failed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, sha256()
        self.failure: OSError | None = None

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_checkpoint(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Writes and syncs a checkpoint and its SHA-256 atomically.

    Args:
        content: of the checkpoint.
        path: its file.
        previous: new name of the existing file; by default it is overwritten.

    Raises:
        CxrError: the disk is full or cannot be written.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            hashing = _Hashing(file)
            try:
                torch.save(content, hashing)  # type: ignore[arg-type]  # it needs write and flush only
            except RuntimeError as error:  # PyTorch's own, which does not name the cause
                raise hashing.failure or error from error
        new, old = hashing.digest.hexdigest(), _sums(path)
        if previous is not None and path.exists():
            _expect(previous, *old, *_sums(previous))
            path.replace(previous)
            _expect(previous, *old)
        _expect(path, new, *old)
    _expect(path, new)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file whose SHA-256 was checked.

    Attributes:
        path: of the file.
        content: its bytes.
    """

    path: Path
    content: bytes


def read_checked(path: Path) -> bytes | None:
    """Reads a checkpoint; returns None if its SHA-256 does not match its sidecar, if it has one.

    Raises:
        CxrError: the file or its sidecar is not a regular file, or the sidecar is not text.
    """
    sums = _sums(path)
    with open_regular(path, None) as file:
        content = file.read()
    return content if not sums or sha256(content).hexdigest() in sums else None


def newest_checkpoint(run: Run, show: bool = True) -> Checkpoint | None:
    """The checkpoint that training resumes from: `last.ckpt`, or `previous.ckpt` if that is damaged or missing.

    A damaged `last.ckpt` is renamed, so that the next save does not replace `previous.ckpt` with it.

    Args:
        run: the run.
        show: report and rename a damaged file.

    Returns:
        None if there is no checkpoint yet.

    Raises:
        CxrError: all are damaged.
    """
    damaged: list[Path] = []
    for path in (run.last, run.previous):
        if not path.exists():
            continue
        content = read_checked(path)
        if content is not None:
            if damaged and show:
                aside = damaged[0].with_name(f"{damaged[0].name}.damaged")
                damaged[0].replace(aside)
                print(f"{damaged[0]} is damaged (wrong SHA-256) and was renamed to {aside.name}", flush=True)
            return Checkpoint(path, content)
        damaged.append(path)
    if damaged:
        raise CxrError(
            f"{' and '.join(map(str, damaged))} are damaged: their SHA-256 does not match {damaged[0].name}.sha256; "
            "restore one from a backup, or start a new run"
        )
    return None


def _sums_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sums(path: Path) -> list[str]:
    """The hashes in a file's sidecar."""
    try:
        lines = read_text(_sums_path(path), _LONGEST_SUMS).splitlines()
    except FileNotFoundError:
        return []
    return [line.split()[0] for line in lines if line.strip()]


def _expect(path: Path, *sums: str) -> None:
    write_text(_sums_path(path), "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(sums)))

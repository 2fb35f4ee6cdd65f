"""Atomic writing of files and folders: write to a temporary name in the same folder, sync, then rename."""

import errno
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.files.reading import reason

_conditions: list[Callable[[], None]] = []
_mask = threading.Lock()  # threads share the mask of new files, and reading it sets it for a moment


@contextmanager
def writing_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Inside the block, `check` is called before each file is written; it raises to prevent that."""
    _conditions.append(check)
    try:
        yield
    finally:
        _conditions.remove(check)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path next to `path` (same suffix) that replaces it when the block ends without an error.

    The temporary file is synced before the rename, so that `path` has either its previous or the complete new content
    whenever the process dies. After an error the temporary file is removed and `path` is unchanged.

    Raises:
        CxrError: the disk is full or the folder cannot be written, or a condition of `writing_only_if` raises it.
    """
    for check in _conditions:
        check()
    path = Path(path)
    temporary: Path | None = None
    try:
        with _mask:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes `text` as UTF-8 atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yields an empty folder `.making-<name>-<8 digits>` next to `target`, to be renamed to it when it is complete.

    At the end it is removed, unless it was renamed. Folders of dead processes are removed at the start; a lock marks
    the folder of a live process.

    Raises:
        OSError: the folder cannot be created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".making-*.lock"):
        with suppress(CxrError, OSError), locked(left, "it is being made"):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
    folder = target.parent / f".making-{target.name}-{uuid.uuid4().hex[:8]}"
    with locked(Path(f"{folder}.lock"), f"{folder} is being made"):
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def unwritable(path: Path | str, error: OSError) -> CxrError:
    """The error for a file that cannot be written."""
    why = _FULL.get(error.errno or 0) or reason(error)
    return CxrError(f"cannot write {path}: {why}; free some space or choose another folder, then run again")


_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def _umask() -> int:
    with _mask:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask

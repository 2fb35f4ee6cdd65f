"""How files and folders come to be: under a temporary name, renamed when they are whole, by one process at a time.

Locks hold between processes, also of several hosts on one disk.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cxr.errors import CxrError

_conditions: list[Callable[[], None]] = []


@contextmanager
def writing_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Inside the block `check` is called before each file is written, and raises where that must not be."""
    _conditions.append(check)
    try:
        yield
    finally:
        _conditions.remove(check)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix) that takes its place when the block ends without an error.

    The temporary file is synced before the rename, so that `path` holds either what it held before or the whole new
    content, whenever the process dies. After an error the temporary file is gone and `path` is untouched.

    Raises:
        CxrError: the disk is full or the folder cannot be written; the message names the file. Or what a condition of
            `writing_only_if` raises.
    """
    for check in _conditions:
        check()
    path = Path(path)
    temporary: Path | None = None
    try:
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
    """Writes `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def locked(path: Path, refusal: str, wait: bool = False) -> Iterator[None]:
    """Holds a lock file, which disappears at the end; forked children do not keep it.

    The kernel releases the lock of a process that dies. On a file system without `flock` (some NFS mounts), the
    existence of the file is the lock: that of a dead process is taken over on its own host and must be removed by hand
    on another.

    Args:
        path: the file, in an existing folder.
        refusal: what is said where another process holds it, in one sentence.
        wait: says it and waits, rather than raise it.

    Raises:
        CxrError: another process holds it, and `wait` is false.
        OSError: the file cannot be opened for writing, or is a link.
    """
    lock: BaseFileLock = (FileLock if _has_flock(path.parent) else SoftFileLock)(path)
    if isinstance(lock, SoftFileLock):
        refusal += f" (if it died on another host, remove {path})"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise CxrError(refusal) from None
        print(refusal, flush=True)
        lock.acquire()
    mine = path.stat()
    try:
        yield
    finally:
        with suppress(OSError):  # a file of the same name in a new folder is not ours
            if not isinstance(lock, SoftFileLock) and os.path.samestat(mine, path.stat()):
                path.unlink()
        lock.release()


def _has_flock(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty folder `.making-<name>-<8 digits>` beside `target`, to be renamed to it when its content is complete.

    At the end it is removed, unless it was renamed. What dead processes left beside `target` is removed at the start;
    the folder of a live process is recognised by its lock.

    Raises:
        OSError: the folder cannot be made.
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
    """The sentence for a file that could not be written."""
    reason = _FULL.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return CxrError(f"cannot write {path}: {reason}; free some space or choose another folder, then run again")


_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

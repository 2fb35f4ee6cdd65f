"""Lock files between processes, also between hosts that share a disk."""

import fcntl
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cxr.errors import CxrError

_AT_ONCE = 0.5  # seconds of waiting without a message; a child that is being forked releases the lock within them


@contextmanager
def locked(path: Path, refusal: str, wait: float = 0) -> Iterator[None]:
    """Locks a file, which is removed at the end; forked children do not inherit the lock.

    The kernel releases the lock of a process that dies. On a file system without `flock` (some NFS mounts), the
    existence of the file is the lock: the lock of a dead process is replaced on its own host and must be removed by
    hand on another.

    Args:
        path: the file, in an existing folder.
        refusal: error message if another process has the lock.
        wait: seconds to wait for it, after `refusal` was printed.

    Raises:
        CxrError: another process still has the lock.
        OSError: the file cannot be opened for writing, or is a link.
    """
    lock: BaseFileLock = (FileLock if _has_flock(path.parent) else SoftFileLock)(path)
    if isinstance(lock, SoftFileLock):
        refusal += f" (if it died on another host, remove {path})"
    try:
        try:
            lock.acquire(timeout=_AT_ONCE)
        except Timeout:
            if wait <= _AT_ONCE:
                raise
            print(refusal, flush=True)
            lock.acquire(timeout=-1 if math.isinf(wait) else wait)
    except Timeout:
        raise CxrError(refusal) from None
    mine = path.stat()
    try:
        yield
    finally:
        with suppress(OSError):  # do not remove a file of the same name in a new folder
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

"""How files and folders are written, read and locked.

A file is written to a temporary name in the same folder, synced, then renamed into place. It is read only where it is a
regular file that is not too long, since a run may come from anybody. Locks hold between processes, also of several
hosts on one disk.
"""

import errno
import fcntl
import math
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cxr.errors import CxrError, first_line

FOLDERS = ("checkpoints", "evaluation", "figures", "predictions")  # of a run; their files are replaced whole
MOST_BYTES = 1 << 28  # of a table or text; metrics.csv has 200 an epoch, the NIH table 8 million

_AT_ONCE = 0.5  # seconds of waiting that need no explanation; a child that was being forked lets go within them
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
def locked(path: Path, refusal: str, wait: float = 0) -> Iterator[None]:
    """Holds a lock file, which disappears at the end; forked children do not keep it.

    The kernel releases the lock of a process that dies. On a file system without `flock` (some NFS mounts), the
    existence of the file is the lock: that of a dead process is taken over on its own host and must be removed by hand
    on another.

    Args:
        path: the file, in an existing folder.
        refusal: what is said where another process holds it, in one sentence.
        wait: seconds to wait for it, after `refusal` was printed.

    Raises:
        CxrError: another process still holds it.
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


def open_regular(path: Path | str, most: int | None = MOST_BYTES) -> BinaryIO:
    """Opens a regular file to read. A pipe is not waited for; links are followed.

    Args:
        path: the file.
        most: bytes that it may have; none for any number.

    Raises:
        FileNotFoundError: it is missing.
        CxrError: it is a pipe, a folder, a device or longer than `most`, or the system refuses it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CxrError(f"{path} cannot be read: {reason(error)}") from None
    about = os.fstat(handle)
    regular = stat.S_ISREG(about.st_mode)
    if regular and (most is None or about.st_size <= most):
        return os.fdopen(handle, "rb")
    os.close(handle)
    why = f"it has {about.st_size} bytes, at most {most} are read" if regular else "it is no regular file"
    raise CxrError(f"{path} cannot be read: {why}; remove or restore it")


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """The content of a regular UTF-8 file, without a byte order mark.

    Raises:
        FileNotFoundError: it is missing.
        CxrError: it is no such file, see `open_regular`, or no UTF-8 text.
    """
    with open_regular(path, most) as file:
        try:
            return file.read(most).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise CxrError(f"{path} cannot be read as text: {reason(error)}") from None


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses a link in place of the file with OSError (ELOOP)."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def check_links(run: Path) -> None:
    """Refuses a run in which writing would follow a link: it may come from anybody, and lead anywhere.

    Files at its top and in its `FOLDERS` are replaced whole, so that a link in the place of one is not followed. In
    folders of loggers, links may lead to other places of the run. W&B also makes links to files of its cache, and
    never writes to them again.

    Args:
        run: the directory, which may be a link itself.

    Raises:
        CxrError: one of `FOLDERS` is a link or no folder, or another link could be followed.
    """
    for own in (run / name for name in FOLDERS):
        if os.path.lexists(own) and (own.is_symlink() or not own.is_dir()):
            raise CxrError(f"{own} is a link or no folder, and nothing is written through it; remove it")
    inside = os.path.realpath(run)
    for folder, folders, files in os.walk(run):
        parts = Path(folder).relative_to(run).parts
        to_files = not parts or parts[0] == "wandb" or (len(parts) == 1 and parts[0] in FOLDERS)
        to_run = bool(parts) and parts[0] not in FOLDERS
        for link in (Path(folder) / name for name in (*folders, *files)):
            if not link.is_symlink() or (to_files and link.is_file()):
                continue
            if not to_run or os.path.commonpath([inside, os.path.realpath(link)]) != inside:
                raise CxrError(f"{link} is a link, and nothing is written through it; remove it")


def reason(error: Exception) -> str:
    """What went wrong, without the number and the path that the system puts around it."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else first_line(error)


def unwritable(path: Path | str, error: OSError) -> CxrError:
    """The sentence for a file that could not be written."""
    why = _FULL.get(error.errno or 0) or reason(error)
    return CxrError(f"cannot write {path}: {why}; free some space or choose another folder, then run again")


_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

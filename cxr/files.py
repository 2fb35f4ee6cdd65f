"""How every file of a run is written: to a temporary name in the same folder, synced, then renamed into place."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr.errors import CxrError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix) that takes its place when the block ends without an error.

    The temporary file is synced before the rename, so that `path` holds either what it held before or the whole new
    content, whenever the process dies. After an error the temporary file is gone and `path` is untouched.

    Raises:
        CxrError: the disk is full or the folder cannot be written; the message names the file.
    """
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


def unwritable(path: Path | str, error: OSError) -> CxrError:
    """The sentence for a file that could not be written."""
    reason = _FULL.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return CxrError(f"cannot write {path}: {reason}; free some space or choose another folder, then run again")


_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

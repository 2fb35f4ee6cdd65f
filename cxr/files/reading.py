"""Reads files of untrusted origin: regular files of a limited size only."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from cxr.errors import CxrError, first_line

FOLDERS = ("checkpoints", "evaluation", "figures", "predictions")  # of a run; their files are replaced, not changed
MOST_BYTES = 1 << 28  # of a table or text; metrics.csv has 200 per epoch, the NIH table 8 million


def expanded(path: Path | str) -> Path:
    """A path in which `~` is the home folder; without such a user, `~name` is the name of a file."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` raises then


def open_regular(path: Path | str, most: int | None = MOST_BYTES) -> BinaryIO:
    """Opens a regular file for reading. It follows links and does not block on a pipe.

    Args:
        path: the file.
        most: maximum size in bytes; None for no limit.

    Raises:
        FileNotFoundError: it is missing.
        CxrError: it is a pipe, a folder, a device or larger than `most`, or cannot be opened.
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
    why = f"it has {about.st_size} bytes, at most {most} are read" if regular else "it is not a regular file"
    raise CxrError(f"{path} cannot be read: {why}; remove or restore it")


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """The content of a regular UTF-8 file, without a byte order mark.

    Raises:
        FileNotFoundError: it is missing.
        CxrError: `open_regular` refuses it, or it is not UTF-8 text.
    """
    with open_regular(path, most) as file:
        try:
            return file.read(most).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CxrError(f"{path} cannot be read as text: {reason(error)}; save it in UTF-8") from None
        except OSError as error:
            raise CxrError(f"{path} cannot be read as text: {reason(error)}") from None


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open` that raises OSError (ELOOP) for a link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def check_links(run: Path) -> None:
    """Refuses a run directory in which writing could follow a link to a file outside the run.

    Files at its top and in its `FOLDERS` are replaced, so links to files are not followed there. In the folders of
    loggers, links may point to other files of the run. W&B also creates links to files of its cache, to which it does
    not write again.

    Args:
        run: the directory, which may be a link itself.

    Raises:
        CxrError: one of `FOLDERS` is not a folder, or another link could be followed.
    """
    for own in (run / name for name in FOLDERS):
        if os.path.lexists(own) and (own.is_symlink() or not own.is_dir()):
            raise CxrError(f"{own} is a link or not a folder, and nothing is written through it; remove it")
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
    """The text of an exception without error number and path."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else first_line(error)

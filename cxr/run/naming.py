"""Names of runs: what they are made of, and how one is derived."""

import re
from pathlib import Path

from cxr.errors import CxrError

_LEGAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST = 120  # characters of a derived name


def check_name(value: str | None, option: str) -> None:
    """Raises CxrError unless a name is made of letters, digits, `.`, `_` and `-` and does not start with a dot."""
    if value is not None and not _LEGAL.fullmatch(str(value)):
        raise CxrError(f"{option}={value} is not a name: use letters, digits, '.', '_' and '-', not starting with '.'")
    if value is not None and len(str(value)) > _LONGEST:
        raise CxrError(f"{option}={value} has {len(str(value))} characters; a name has at most {_LONGEST}")


def legal_name(text: str) -> str:
    """Turns any text into a name: runs of other characters become one `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:_LONGEST] or "run"


def free_name(folder: Path, name: str) -> str:
    """`name`, or `name-2`, `name-3`, ... whichever is the first that `folder` does not hold."""
    candidate, number = name, 1
    while (folder / candidate).exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate

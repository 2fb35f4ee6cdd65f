"""The user's own packages: named on the command line, `plugins=[my_package]`, and trusted in that process alone.

A package's folder `conf` joins Hydra's search path, so that its option files are choices like the project's own. What
the package defines may also be named by the configuration of a run from disk, which otherwise names the project's own
parts only.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cxr.errors import CxrError, first_line

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_trusted: dict[str, Path | None] = {}  # package to its folder of option files
_own: list[bool] = [False]


def trust(packages: Sequence[str]) -> None:
    """Trusts these packages from now on in this process, and no others.

    Raises:
        CxrError: Python finds no package of that name.
    """
    _trusted.clear()
    for name in packages:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CxrError(f"plugins names {name!r}, which is no name of a Python package; write plugins=[my_package]")
        try:
            found = find_spec(name)
        except Exception as error:  # the packages above it are imported
            raise CxrError(f"plugins=[{name}] cannot be imported: {first_line(error)}") from error
        if found is None or not found.submodule_search_locations:
            raise CxrError(
                f"plugins names {name}, and Python finds no package of that name; install it, or set PYTHONPATH to "
                "the folder that holds it"
            )
        folder = Path(next(iter(found.submodule_search_locations))) / "conf"
        _trusted[name] = folder if folder.is_dir() else None


def trusted(module: str) -> bool:
    """Whether a module lies in one of the trusted packages."""
    return any(module == name or module.startswith(f"{name}.") for name in _trusted)


def option_folders() -> list[Path]:
    """Folders of option files of the trusted packages."""
    return [folder for folder in _trusted.values() if folder is not None]


def is_own() -> bool:
    """Whether the configuration at hand is composed from the user's own command line and option files."""
    return _own[-1]


@contextmanager
def own_configuration(own: bool = True) -> Iterator[None]:
    """Inside the block a configuration may name anything that can be imported: the user composed it."""
    _own.append(own)
    try:
        yield
    finally:
        _own.pop()


def as_plain() -> dict[str, object]:
    """What another process of the same run has to trust."""
    return {"plugins": list(_trusted), "own": is_own()}

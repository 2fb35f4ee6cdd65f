"""Custom packages: named on the command line, `plugins=[my_package]`, and trusted in that process only.

The folder `conf` of a package is added to Hydra's search path, so that its option files are available like built-in
ones. A saved configuration may name classes of trusted packages; otherwise it may name built-in classes only.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cxr.errors import CxrError, first_line

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_trusted: dict[str, Path | None] = {}  # package to its folder of option files
_from_user: list[bool] = [False]


def trust(packages: Sequence[str]) -> None:
    """Trusts these packages, and no others, in this process.

    Raises:
        CxrError: there is no package of that name.
    """
    _trusted.clear()
    for name in packages:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CxrError(f"plugins contains {name!r}, which is not a package name; write plugins=[my_package]")
        try:
            found = find_spec(name)
        except Exception as error:  # find_spec imports parent packages
            raise CxrError(f"plugins=[{name}] cannot be imported: {first_line(error)}") from error
        if found is None or not found.submodule_search_locations:
            raise CxrError(
                f"plugins contains {name}, but Python finds no package of that name; install it, or set PYTHONPATH to "
                "its parent folder"
            )
        folder = Path(next(iter(found.submodule_search_locations))) / "conf"
        _trusted[name] = folder if folder.is_dir() else None


def trusted(module: str) -> bool:
    """Whether a module belongs to a trusted package."""
    return any(module == name or module.startswith(f"{name}.") for name in _trusted)


def option_folders() -> list[Path]:
    """The `conf` folders of the trusted packages."""
    return [folder for folder in _trusted.values() if folder is not None]


def from_user() -> bool:
    """Whether the current configuration was composed from the user's command line and option files."""
    return _from_user[-1]


@contextmanager
def user_configuration(own: bool = True) -> Iterator[None]:
    """Inside the block, a configuration was composed by the user and may name anything that can be imported."""
    _from_user.append(own)
    try:
        yield
    finally:
        _from_user.pop()


def trust_state() -> dict[str, object]:
    """The trusted packages, as plain values for the other processes of a run."""
    return {"plugins": list(_trusted), "own": from_user()}

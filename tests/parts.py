"""Adds a module to one of the project's packages while a test runs."""

import sys
from pathlib import Path
from typing import Any

import pytest


def add(package: Any, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a text the module `mine` of a package, without writing into the package's folder."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"{package.__name__}.mine", raising=False)

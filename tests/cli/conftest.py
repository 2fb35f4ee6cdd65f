"""The entry called inside the test process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hydra.core.global_hydra import GlobalHydra

from cxr.cli.entry import main


@dataclass(frozen=True)
class Said:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A program with its arguments; `by` is what is called in place of the entry, `named` how it was started."""

    def run(*words: str, by: Callable[[], object] = main, named: str = "/usr/bin/cxr") -> Said:
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        monkeypatch.setattr(sys, "argv", [named, *words])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            by()
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return run

"""A small phantom data set, drawn once, and the command lines run inside the test process."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from cxr.cli.entry import start
from cxr.phantom import write_phantoms

ROOT = Path(__file__).parents[2]
TINY = "backbone.name=test_resnet"  # timm's network for tests, of 0.4 million parameters
SMALL = (
    "backbone=resnet10", TINY, "image_size=32", "batch_size=16", "trainer=cpu", "data.workers=0", "data.images=90",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Program = Callable[..., Result]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    write_phantoms(root, images=90, size=64, processes=1)
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw no pictures, which take longer than they do, but in tests that are marked `pictures`."""
    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr("cxr.training.finish.draw_run", lambda *arguments: None)


@pytest.fixture
def train(here: Path, phantoms: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """`python train.py` on the small phantoms; `plain=True` leaves the small settings out."""

    def run(*arguments: str, plain: bool = False) -> Result:
        small = () if plain else (*SMALL, "data.phantom_size=64", f"data.root={phantoms}")
        if any(word.startswith(("backbone=", "backbone.name=")) for word in arguments):
            small = tuple(word for word in small if word != TINY)
        return _call("train", ["train.py", *small, *arguments], capfd, monkeypatch)

    return run


@pytest.fixture
def ensemble(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """`python ensemble.py`."""
    return lambda *arguments: _call("ensemble", ["ensemble.py", *arguments], capfd, monkeypatch)


@pytest.fixture
def program(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """`python -m cxr` with the name of a program and its arguments."""
    return lambda name, *arguments: _call(name, [f"cxr {name}", *arguments], capfd, monkeypatch)


def _call(program: str, argv: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr(sys, "argv", argv)
    GlobalHydra.instance().clear()
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        start(program)
    out, err = capfd.readouterr()
    return Result(int(ended.value.code or 0), out, err)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """For subprocesses: the checkout is importable, one thread."""
    yield os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}

"""A tiny data set's configuration, a run that was trained once, and which files and networks a test opens or builds."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.run.directory import Run
from tests.end_to_end.conftest import TINY as NETWORK
from tests.end_to_end.conftest import environment, here, phantoms, train  # noqa: F401  # fixtures

Configure = Callable[..., dict[str, Any]]
TINY = ("data=nih", "data.val_share=0.3", "image_size=32", "batch_size=8", "trainer=cpu", "trainer.max_epochs=1",
        "data.workers=0", "cache.processes=1")  # fmt: skip


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `python train.py` with these overrides."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        content = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()} | {"run_id": "0123abcd", "choices": {}}


@pytest.fixture
def configure(nih_folder: Callable[..., Path]) -> Configure:
    """From overrides to the configuration of a run on 24 images of 24 px, whose folder is written at the first call."""
    root: list[Path] = []

    def configured(*overrides: str) -> dict[str, Any]:
        if not root:
            root.append(nih_folder())
        network = () if any(word.startswith(("backbone=", "backbone.name=")) for word in overrides) else (NETWORK,)
        return composed(*TINY, *network, f"data.root={root[0]}", *overrides)

    return configured


@dataclass
class Opened:
    """Files that were opened while it listened, one entry an opening."""

    paths: list[str] = field(default_factory=list)

    def times(self, part: str) -> int:
        """How often a file whose path ends so was opened."""
        return sum(path.endswith(part) for path in self.paths)


_listening: list[Opened] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listening and isinstance(arguments[0], str | bytes):
        for one in _listening:
            one.paths.append(os.fsdecode(arguments[0]))


@pytest.fixture(scope="session")
def listening() -> Callable[[], Any]:
    """A context in which each opening of a file by Python is noted; a hook of `sys` stays as long as the process."""
    sys.addaudithook(_hear)

    @contextmanager
    def listen() -> Iterator[Opened]:
        opened = Opened()
        _listening.append(opened)
        try:
            yield opened
        finally:
            _listening.remove(opened)

    return listen


@contextmanager
def built_networks() -> Iterator[list[str]]:
    """Names of timm's networks that are built with memory for their weights; twins without memory do not count."""
    built: list[str] = []
    real = timm.create_model

    def create(name: str, *arguments: Any, **options: Any) -> Any:
        made = real(name, *arguments, **options)
        if next(made.parameters()).device.type != "meta":
            built.append(name)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", create)
        yield built


@pytest.fixture
def networks() -> Iterator[list[str]]:
    with built_networks() as built:
        yield built


@dataclass(frozen=True)
class Trained:
    """A finished run of one epoch on the small phantoms, which no test changes.

    Attributes:
        run: its directory.
        config: with which it was trained.
        value: what `train` returned.
        opened: every file that was opened meanwhile.
        networks: that were built meanwhile.
    """

    run: Run
    config: dict[str, Any]
    value: float
    opened: Opened = field(repr=False)
    networks: list[str]


@pytest.fixture(scope="session")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory, listening: Callable[[], Any]) -> Trained:  # noqa: F811
    from cxr.training.run import train as train_run

    run = Run(tmp_path_factory.mktemp("trained") / "runs" / "a")
    config = composed(*TINY, NETWORK, f"data.root={phantoms}", "optimizer.lr=3e-3")
    with listening() as opened, built_networks() as networks:
        value = train_run(config, run)
    return Trained(run, config, value, opened, networks)

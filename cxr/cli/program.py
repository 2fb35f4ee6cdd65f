"""The description of a program: `PROGRAM` in the module of this folder with the program's name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Program:
    """A program; its options are in `conf/<its name>.yaml`.

    Attributes:
        about: one sentence, the first line of its help.
        examples: arguments of a command line, and their purpose.
        options: common options, for the help.
        schema: of its configuration, which is checked before anything starts.
        job: called by Hydra with the composed configuration; sweepers maximise its return value.
    """

    about: str
    examples: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    schema: type
    job: "Callable[[DictConfig], float | None]"


def program_of(name: str) -> Program:
    """The program of this name."""
    program = import_module(f"cxr.cli.{name}").PROGRAM
    assert isinstance(program, Program)
    return program

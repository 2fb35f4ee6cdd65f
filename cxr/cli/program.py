"""What a program is: each is one `PROGRAM` in the module of this folder that has its name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from omegaconf import DictConfig


@dataclass(frozen=True)
class Program:
    """A program, whose options are in `conf/<its name>.yaml`.

    Attributes:
        about: one sentence, the first line of its help.
        examples: arguments of a command line, and what they are good for.
        options: those that people change, for the help.
        schema: of its configuration, by which that is checked before anything starts.
        job: what Hydra calls with the composed configuration; what it returns, sweepers maximise.
    """

    about: str
    examples: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    schema: type
    job: Callable[[DictConfig], float | None]


def program_of(name: str) -> Program:
    """The program of this name."""
    program = import_module(f"cxr.cli.{name}").PROGRAM
    assert isinstance(program, Program)
    return program

"""The command `cxr-use` of the distribution of that name: uses bundles, without PyTorch and Hydra.

Options and their defaults are those of `python -m cxr predict` and `serve`, from the same files.
"""

from collections.abc import Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from cxr import __version__
from cxr.cli import conf_dir
from cxr.cli.program import program_of
from cxr.configuration.kinds import checked
from cxr.errors import CxrError, counted

PROGRAMS = {
    "predict": "scores new images, one row per file",
    "serve": "answers HTTP requests with scores; nothing is stored",
    "check": "verifies the checksums and operators of a bundle and prints its digest",
}
_CHECK = ("bundle", "digest")
_OF_RUNS = ("run", "tta", "accelerator", "plugins")  # which need PyTorch


def run(words: Sequence[str]) -> None:
    """Runs a program.

    Args:
        words: its name, and `key=value` each; or a flag.

    Raises:
        CxrError: one of them is unknown, or the program fails.
    """
    program, *given = words or ["--help"]
    if program in ("-V", "--version"):
        print(f"cxr-use {__version__}")
    elif program in ("-h", "--help"):
        print("\n".join([f"cxr-use {__version__}: chest radiograph classifiers\n", *map(_line, PROGRAMS.items())]))
        print("\ncxr-use PROGRAM --help shows the options.")
    elif program not in PROGRAMS:
        raise CxrError(f"{program} is not a program; choose one of {', '.join(PROGRAMS)}")
    elif {"-h", "--help"} & set(given):
        print(f"cxr-use {program} KEY=VALUE ...: {PROGRAMS[program]}\n")
        print("\n".join(line for line in _file(program).splitlines() if line.partition(":")[0] in _defaults(program)))
    else:
        _start(program, options(program, given))


def options(program: str, words: Sequence[str]) -> dict[str, Any]:
    """The checked options of a program.

    Args:
        program: one of `PROGRAMS`.
        words: `key=value` each.

    Raises:
        CxrError: an option is unknown, missing, or has a wrong value.
    """
    chosen = _defaults(program)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in chosen:
            raise CxrError(f"{word} is not an option of cxr-use {program}; write {'=, '.join(chosen)}=")
        number = value.isdecimal() and chosen[key] not in (None, "???")
        chosen[key] = None if value == "null" else int(value) if number else value
    if chosen["bundle"] in (None, "???"):
        raise CxrError("bundle is not set; pass bundle=DIR, which export wrote")
    return checked(program_of("predict" if program == "predict" else "serve").schema, chosen)


def _start(program: str, chosen: dict[str, Any]) -> None:
    from cxr.use.bundle import load_bundle

    if program == "predict":
        from cxr.cli.predict import predict

        predict(chosen, lambda: load_bundle(chosen["bundle"], chosen["digest"], threads=1))
    elif program == "serve":
        from cxr.cli.serve import serve

        serve(chosen)
    else:
        model = load_bundle(chosen["bundle"], chosen["digest"])
        system = model.system
        numbers = f"{counted(len(system.members), 'network')}, {counted(len(system.findings), 'finding')}"
        print(f"{chosen['bundle']}: {system.name}, {numbers}")
        print(f"digest {model.digest}")


def _file(program: str) -> str:
    """The option file of a program; that of `serve` begins with those of `check`."""
    return (conf_dir() / f"{'predict' if program == 'predict' else 'serve'}.yaml").read_text(encoding="utf-8")


def _defaults(program: str) -> dict[str, Any]:
    found = yaml.safe_load(_file(program))
    kept = _CHECK if program == "check" else [key for key in found if key not in ("defaults", "hydra", *_OF_RUNS)]
    return {key: found[key] for key in kept}


def _line(item: tuple[str, str]) -> str:
    return f"  {item[0]:9} {item[1]}"

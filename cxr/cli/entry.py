"""One entry for all programs: chooses one, has it composed and checked, runs it with Hydra, and says errors plainly.

The list of programs is answered before Hydra would have loaded, help and mistakes before PyTorch would have. Nothing
else touches `sys.argv`.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr import __version__
from cxr.cli import conf_dir
from cxr.errors import CxrError
from cxr.processes.stopping import REQUEUE, SIGNALS, Stopped, requests

if TYPE_CHECKING:
    from omegaconf import DictConfig

PROGRAMS = {
    "train": "trains one network, or with -m a sweep of them",
    "ensemble": "combines finished runs into one classifier",
    "evaluate": "says what the predictions of a run are worth: intervals, operating points, subgroups",
    "compare": "ranks runs on the same images and says which differences are noise",
    "inspect": "prints how a data set is read: columns, images, patients, findings, splits; changes nothing",
    "cache": "decodes the images of a data set once for all trainings, or verifies that they are unchanged",
}
INTERRUPTED = 130  # exit code, as shells give it to ctrl-C


def main() -> None:
    """The console script `cxr`, and `python -m cxr`."""
    word, *rest = sys.argv[1:] or ["--help"]
    sys.exit(run(word, rest) if word in PROGRAMS else _without_program(word, rest))


def start(program: str) -> None:
    """`train.py` and `ensemble.py`."""
    sys.exit(run(program, sys.argv[1:]))


def renamed(program: str, old: str) -> None:
    """A former spelling of a program, for one more version.

    Args:
        program: its name.
        old: how it was started.
    """
    print(
        f"{old} is now {spelled(program)}; the old spelling will be removed in the next version",
        file=sys.stderr,
        flush=True,
    )
    start(program)


def cxr_train() -> None:
    """The former console script `cxr-train`."""
    renamed("train", "cxr-train")


def cxr_ensemble() -> None:
    """The former console script `cxr-ensemble`."""
    renamed("ensemble", "cxr-ensemble")


def spelled(program: str) -> str:
    """How a program is started, in the manner in which this process was."""
    started = Path(sys.argv[0]).stem if sys.argv[0] else ""
    if started in ("train", "ensemble"):
        return f"python {program}.py" if program == started else f"python -m cxr {program}"
    return f"cxr {program}" if started in ("cxr", "cxr-train", "cxr-ensemble") else f"python -m cxr {program}"


def _without_program(word: str, rest: Sequence[str]) -> int:
    if word in ("-h", "--help", "help"):
        print(f"cxr {__version__}: chest radiograph classifiers\n\nPrograms")
        for name, about in PROGRAMS.items():
            print(f"  {spelled(name):{len(spelled('ensemble'))}}  {about}")
        print(f"\n{spelled('PROGRAM')} --help shows examples and options.")
        return 0
    if word in ("-V", "--version"):
        print(f"cxr {__version__}")
        return 0
    if word in ("-sc", "--shell-completion"):
        return _complete(rest)
    if word.startswith("-") or "=" in word:
        return say(f"{word} stands where the name of a program belongs; write {spelled('train')} {word} (--help lists)")
    close = get_close_matches(word, PROGRAMS, n=1)
    closest = f"did you mean {close[0]}? " if close else ""
    return say(f"{word} is not a program; {closest}choose one of {', '.join(PROGRAMS)}")


def _complete(words: Sequence[str]) -> int:
    """Hydra completes the options of a program; its name is taken out of the line that is completed."""
    if not any(word.startswith("query=") for word in words):
        return run("train", ["--shell-completion", *words])
    app, _, line = os.environ.get("COMP_LINE", "").partition(" ")
    program, space, options = line.lstrip().partition(" ")
    if not (space and program in PROGRAMS):
        print("\n".join(PROGRAMS))
        return 0
    os.environ["COMP_LINE"] = f"{app} {options}"
    return run(program, ["--shell-completion", *words])


def run(program: str, words: Sequence[str]) -> int:
    """Runs a program.

    Args:
        program: one of `PROGRAMS`.
        words: its flags and overrides.

    Returns:
        The exit code.
    """
    requests.listen()
    atexit.register(_deafen)  # first, and so called last: then Python would give signals back to the system
    sweep: Path | None = None
    began = time.time()
    try:
        from cxr.cli.compose import read_command_line
        from cxr.cli.options import plain
        from cxr.cli.program import program_of

        line = read_command_line(program, words, str(conf_dir()))
        arguments = line.arguments
        if line.flags.help:
            from cxr.cli.help import help_text

            print(help_text(program, spelled(program), line.overrides, everything=line.everything))
            return 0
        if line.runs and line.config is not None:
            if not line.flags.multirun:
                plain(line.config, program_of(program).schema)  # a sweep's job when its turn comes: the others run
            elif program == "train":
                from cxr.cli.sweep import prepare

                sweep, more = prepare(line.config, line.overrides)
                arguments += more
        single = line.runs and not line.flags.multirun
        failures = _run_with_hydra(program, arguments, line.hydra if single else None)
    except CxrError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        return say(str(error))
    except KeyboardInterrupt:
        _wait_no_more(INTERRUPTED)
        _summarise(sweep, began)
        way = f"{spelled(program)} name=<run> resume=true resumes from the last checkpoint"
        return say(f"interrupted; {way if program == 'train' else 'run it again to go on'}", INTERRUPTED)
    except Stopped as stopped:
        _wait_no_more(REQUEUE)
        _summarise(sweep, began)
        return say(str(stopped), REQUEUE)
    failures += _summarise(sweep, began)
    return say("; ".join(failures)) if failures else 0


def _run_with_hydra(program: str, arguments: list[str], composed: "DictConfig | None") -> list[str]:
    """Has Hydra run the program's jobs, or show what flags ask for.

    Args:
        program: its name.
        arguments: flags and overrides.
        composed: the configuration of a single job with Hydra's own part, which is then not composed again (0.2 s).

    Returns:
        The errors of the jobs.
    """
    from cxr.cli.program import program_of

    failures: list[str] = []  # Hydra would print a traceback

    def job(config: "DictConfig") -> float | None:
        try:
            return program_of(program).job(config)
        except CxrError as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            failures.append(str(error))
            return None
        except Exception as error:
            if requests.asked:  # the request came where a library made another exception of it
                raise Stopped(f"stopped by {requests.asked}") from error
            raise

    if composed is None or composed.hydra.mode is not None or composed.hydra.callbacks:
        import hydra

        sys.argv[1:] = arguments
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=program)(job)()
    else:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.utils import run_job
        from hydra.types import HydraContext, RunMode

        composed.hydra.mode = RunMode.RUN
        loader: Any = None  # only launchers of sweeps use it
        context = HydraContext(loader, Callbacks())
        _ = run_job(job, composed, "hydra.run.dir", None, context).return_value  # raises what the job raised
    return failures


def _summarise(sweep: Path | None, began: float) -> list[str]:
    if sweep is None:
        return []
    from cxr.cli.sweep import summarise

    return summarise(sweep, began)


def _wait_no_more(code: int) -> None:
    """Asked once more, the process ends at once, with the code that it would have ended with."""
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, lambda *_: os._exit(code))


def _deafen() -> None:
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def say(sentence: str, code: int = 1) -> int:
    """Prints an error; names in it drive no terminal.

    Args:
        sentence: without its mark.
        code: to be returned.

    Returns:
        The exit code.
    """
    shown = "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in sentence)
    print(f"error: {shown}", file=sys.stderr, flush=True)
    return code

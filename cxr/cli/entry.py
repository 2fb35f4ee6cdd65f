"""The entry point of all programs: checks the command line, runs the program with Hydra, and prints errors.

Hydra is not imported for the list of programs, and PyTorch is not imported for help and mistakes. This module alone
reads and writes `sys.argv`.
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
    "evaluate": "evaluates the predictions of a run: intervals, operating points, subgroups",
    "compare": "ranks runs on the same images and tests their differences",
    "transfer": "tabulates runs on other data sets: AUROC, calibration, sensitivity",
    "tune": "searches options of a training on validation, with Optuna",
    "predict": "scores new images with a run, an ensemble or a bundle",
    "export": "writes a run as a bundle that works without PyTorch: ONNX networks, model card, checksums",
    "serve": "answers HTTP requests with a bundle's scores; nothing is stored",
    "inspect": "prints how a data set is read: columns, images, patients, findings, splits; changes nothing",
    "phantom": "draws phantoms in the layout of a public data set",
    "cache": "decodes the images of a data set once for all training runs, or verifies that they are unchanged",
}
INTERRUPTED = 130  # exit code of shells for ctrl-C


def main() -> None:
    """The console script `cxr`, and `python -m cxr`."""
    word, *rest = sys.argv[1:] or ["--help"]
    sys.exit(run(word, rest) if word in PROGRAMS else _without_program(word, rest))


def start(program: str) -> None:
    """The entry point of `train.py` and `ensemble.py`."""
    sys.exit(run(program, sys.argv[1:]))


def cxr_use() -> None:
    """The console script of the distribution `cxr-use`."""
    requests.listen()
    try:
        from cxr.cli.use import run as run_with_bundle

        run_with_bundle(sys.argv[1:])
    except CxrError as error:
        sys.exit(print_error(str(error)))
    except (KeyboardInterrupt, Stopped) as stopped:
        sys.exit(print_error(*_ended(stopped, next(iter(sys.argv[1:]), ""))))


def command_of(program: str) -> str:
    """The command that starts a program, in the same way as this process was started."""
    started = Path(sys.argv[0]).stem if sys.argv[0] else ""
    if started in ("train", "ensemble"):
        return f"python {program}.py" if program == started else f"python -m cxr {program}"
    return f"cxr {program}" if started == "cxr" else f"python -m cxr {program}"


def _without_program(word: str, rest: Sequence[str]) -> int:
    if word in ("-h", "--help", "help"):
        print(f"cxr {__version__}: chest radiograph classifiers\n\nPrograms")
        for name, about in PROGRAMS.items():
            print(f"  {command_of(name):{len(command_of('ensemble'))}}  {about}")
        print(f"\n{command_of('PROGRAM')} --help shows examples and options.")
        return 0
    if word in ("-V", "--version"):
        print(f"cxr {__version__}")
        return 0
    if word in ("-sc", "--shell-completion"):
        return _complete(rest)
    if word.startswith("-") or "=" in word:
        return print_error(f"the first word must be a program, not {word}; write {command_of('train')} {word}")
    close = get_close_matches(word, PROGRAMS, n=1)
    closest = f"did you mean {close[0]}? " if close else ""
    return print_error(f"{word} is not a program; {closest}choose one of {', '.join(PROGRAMS)}")


def _complete(words: Sequence[str]) -> int:
    """Shell completion: of the program here, of its options by Hydra, which gets the line without the program."""
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

    Returns:
        The exit code.
    """
    requests.listen()
    atexit.register(_ignore_signals)  # called last, before Python restores the system's signal handlers
    sweep: Path | None = None
    began = time.time()
    try:
        from cxr.cli.compose import read_command_line
        from cxr.cli.options import plain
        from cxr.cli.program import program_of

        passed: list[str] = []
        if program == "tune":
            from cxr.cli.tune import own_words

            words, passed = own_words(words)
            read_command_line("train", passed, str(conf_dir()))  # an error now, not in the first trial
        line = read_command_line(program, words, str(conf_dir()))
        if line.hydra is not None and passed:
            line.hydra.train = passed
        arguments = line.arguments
        if line.flags.help:
            from cxr.cli.help import help_text

            print(help_text(program, command_of(program), line.overrides, everything=line.everything))
            return 0
        if line.runs and line.config is not None:
            if not line.flags.multirun:
                plain(line.config, program_of(program).schema)  # the jobs of a sweep are checked when they start
            elif program == "train":
                from cxr.cli.sweep import prepare, stop_jobs

                folder, more = prepare(line.config, line.overrides)
                arguments += more
                sweep, requests.before = folder, lambda: stop_jobs(folder, began)
                requests.listen(signal.SIGUSR2)  # submitit's signal; its jobs have handlers of their own
        single = line.runs and not line.flags.multirun
        failures = _run_with_hydra(program, arguments, line.hydra if single else None)
    except CxrError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        return print_error(str(error))
    except (KeyboardInterrupt, Stopped) as stopped:
        message, code = _ended(stopped, program)
        for number in (signal.SIGINT, *SIGNALS):  # another signal ends the process at once, with the same code
            signal.signal(number, lambda *_: os._exit(code))
        _summarise(sweep, began)
        return print_error(message, code)
    except Exception as error:  # of a launcher, such as a killed process of joblib
        if sweep is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        failures = [f"the sweep ended early: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"]
    failures += _summarise(sweep, began)
    return print_error("; ".join(failures)) if failures else 0


def _ended(stopped: KeyboardInterrupt | Stopped, program: str) -> tuple[str, int]:
    """What a signal ended and how to go on, and the exit code."""
    again = {
        "train": f"{command_of(program)} name=<run> resume=true resumes from the last checkpoint",
        "predict": "the same command continues after the last finished part",
    }.get(program, "run the command again")
    if isinstance(stopped, KeyboardInterrupt):
        return f"interrupted; {again}", INTERRUPTED
    known = str(stopped) != f"stopped by {requests.received}"  # a message that already says how
    return str(stopped) if known else f"{stopped}; {again}", REQUEUE


def _run_with_hydra(program: str, arguments: list[str], composed: "DictConfig | None") -> list[str]:
    """Runs the jobs of a program with Hydra, or prints the information that flags request.

    Args:
        composed: the configuration of a single job with Hydra's own part, to avoid composing it again (0.2 s).

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
            if requests.received:  # a library replaced the exception of the signal by another
                raise Stopped(f"stopped by {requests.received}") from error
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
        loader: Any = None  # used by launchers of sweeps only
        context = HydraContext(loader, Callbacks())
        _ = run_job(job, composed, "hydra.run.dir", None, context).return_value  # raises the exception of the job
    return failures


def _summarise(sweep: Path | None, began: float) -> list[str]:
    if sweep is None:
        return []
    from cxr.cli.sweep import summarise

    return summarise(sweep, began)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def print_error(sentence: str, code: int = 1) -> int:
    """Prints an error without control characters, which names may contain; returns the exit code."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in sentence)
    print(f"error: {shown}", file=sys.stderr, flush=True)
    return code

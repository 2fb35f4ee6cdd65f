"""Runs a sweep's job in a separate process; if the process dies, the sweep reports why and continues."""

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cxr.errors import CxrError, first_line
from cxr.processes.stopping import SIGNALS, Stopped, requests

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with_parent() -> None:
    """On Linux, makes the kernel kill this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def serve_parent(worker: int) -> None:
    """Initializes a loader process: it dies with its parent and ignores signals, which the parent handles.

    Args:
        worker: its number, passed by PyTorch.
    """
    die_with_parent()
    sys.excepthook = lambda *_: None  # of threads that send batches, when the parent goes; others go to the parent
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def alive(process: int) -> bool:
    """Whether a process of this host runs; one that has ended and was not waited for does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def how_it_ended(code: int | None) -> str:
    """Describes an exit code of `subprocess` or `multiprocessing`."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def in_child(work: Callable[[], Any]) -> Any:
    """Calls a function in a forked child process and returns its result.

    A process that has imported PyTorch may have threads, which a fork would lose; it calls the function itself.

    Args:
        work: the function; its result can be pickled.

    Raises:
        CxrError: the function raised an exception, or the child was killed.
        Stopped: a signal stopped the child or this process; the child has ended.
        KeyboardInterrupt: as `Stopped`, for ctrl-C.
    """
    if "torch" in sys.modules:
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(work, theirs))
    child.start()
    theirs.close()
    try:
        child.join()
    except BaseException as stop:  # SystemExit is how submitit ends a job that it has put back into the queue
        _end(child, pass_on=not isinstance(stop, KeyboardInterrupt))
        raise
    try:
        kind, answer = ours.recv()
    except EOFError:  # it was killed
        kind, answer = "failed", f"its process {how_it_ended(child.exitcode)}"
    if kind == "stopped":
        requests.received = answer  # further jobs in this process do not start
        raise Stopped(answer)
    if kind == "interrupted":
        raise KeyboardInterrupt
    if kind == "failed":
        raise CxrError(answer)
    return answer


def _end(child: BaseProcess, pass_on: bool) -> None:
    """Waits until the child has written its checkpoint; a second signal kills it. The terminal sends ctrl-C to both."""
    try:
        if pass_on and child.pid:
            os.kill(child.pid, signal.SIGTERM)
        child.join()
    except (Stopped, KeyboardInterrupt, ProcessLookupError):
        child.kill()
        child.join()


def _answer(work: Callable[[], Any], pipe: Connection) -> None:
    die_with_parent()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # submitit's handler in the parent writes the state of the job
    requests.patient = True  # the parent handles a second signal
    requests.listen()  # the launchers of sweeps have handlers of their own
    try:
        answer = ("done", work())
    except Stopped as stopped:
        answer = ("stopped", str(stopped))
    except KeyboardInterrupt:
        answer = ("interrupted", "")
    except (Exception, SystemExit) as error:
        if not isinstance(error, CxrError) and os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        name = requests.received  # a library may have replaced `Stopped` by another exception
        answer = ("stopped", f"stopped by {name}") if name else ("failed", first_line(error))
    pipe.send(answer)

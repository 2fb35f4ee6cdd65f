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
from typing import Any

from cxr.errors import CxrError, first_line
from cxr.processes.stopping import SIGNALS, Stopped, requests

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with_parent() -> None:
    """The kernel kills this process when its parent dies, however that dies; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def serve_parent(worker: int) -> None:
    """For a loader process: it dies with its parent, and leaves to it what signals to their whole group ask for.

    Args:
        worker: its number, passed by PyTorch.
    """
    die_with_parent()
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def how_it_ended(code: int | None) -> str:
    """An exit code as `subprocess` and `multiprocessing` give it, in words."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def in_child(work: Callable[[], Any]) -> Any:
    """Does the work in a forked child and returns what it returned.

    A process that has loaded PyTorch may hold threads, which a fork would lose; there the work is done in place.

    Args:
        work: whose result can be pickled.

    Raises:
        CxrError: the work raised it, or another exception, or the child was killed.
        Stopped: it, or this process, was asked to stop; the child has then ended.
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
    except (Stopped, KeyboardInterrupt) as asked:
        _end(child, pass_on=isinstance(asked, Stopped))
        raise
    try:
        kind, answer = ours.recv()
    except EOFError:  # it was killed
        kind, answer = "failed", f"its process {how_it_ended(child.exitcode)}"
    if kind == "stopped":
        raise Stopped(answer)
    if kind == "interrupted":
        raise KeyboardInterrupt
    if kind == "failed":
        raise CxrError(answer)
    return answer


def _end(child: BaseProcess, pass_on: bool) -> None:
    """Waits until the child has written its checkpoint; asked again, kills it. The terminal sends it ctrl-C itself."""
    try:
        if pass_on and child.pid:
            os.kill(child.pid, signal.SIGTERM)
        child.join()
    except (Stopped, KeyboardInterrupt, ProcessLookupError):
        child.kill()
        child.join()


def _answer(work: Callable[[], Any], pipe: Connection) -> None:
    die_with_parent()
    requests.patient = True  # the parent decides about a second signal
    try:
        answer = ("done", work())
    except Stopped as stopped:
        answer = ("stopped", str(stopped))
    except KeyboardInterrupt:
        answer = ("interrupted", "")
    except (Exception, SystemExit) as error:
        if not isinstance(error, CxrError) and os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        asked = requests.asked  # it may have come where a library made another exception of it
        answer = ("stopped", f"stopped by {asked}") if asked else ("failed", first_line(error))
    pipe.send(answer)

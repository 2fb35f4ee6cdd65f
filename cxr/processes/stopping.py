"""Handles SIGTERM and SIGUSR1, which clusters send before they end a job.

The first signal stops a training at its next checkpoint and other work at once. The second ends the process. Both lead
to the exit code `REQUEUE`.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

REQUEUE = 75  # exit code; EX_TEMPFAIL of sysexits.h: the same command again may succeed
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal stopped the run; the message states how to resume. `except Exception` does not catch it."""


class StopRequests:
    """The signals that this process has received.

    Attributes:
        received: name of the last signal, or None.
        can_wait: whether a checkpoint follows soon, for which a signal waits.
        patient: whether a second signal is ignored, for processes to which the parent forwards signals.
        before: called by the first signal before `Stopped` is raised.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.can_wait = self.patient = False
        self.before: Callable[[], None] = lambda: None

    def listen(self, *more: signal.Signals) -> None:
        """Installs the handlers, also of `more` signals, which is possible in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in (*SIGNALS, *more):
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number).name
        if again and self.patient:
            return
        if again:  # exit directly, since cleanup code could swallow an exception; files are complete at any moment
            print(f"error: stopped by {self.received}", file=sys.stderr, flush=True)
            os._exit(REQUEUE)
        if not self.can_wait:
            self.before()
            raise Stopped(f"stopped by {self.received}")
        print(f"{self.received}: stopping at the next checkpoint; a second signal stops at once", flush=True)


requests = StopRequests()


def pass_on(processes: list[int]) -> None:
    """Sends SIGTERM to other processes."""
    for process in processes:
        try:
            os.kill(process, signal.SIGTERM)
        except ProcessLookupError:
            continue

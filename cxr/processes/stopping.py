"""SIGTERM and SIGUSR1, which clusters send before they take a machine away: a stop in order, with its own exit code.

Where a checkpoint can be written a request waits for it; elsewhere it stops the work. A second one ends the process.
"""

import os
import signal
import sys
import threading
from types import FrameType

REQUEUE = 75  # exit code; EX_TEMPFAIL of sysexits.h: the same command again may succeed
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """The run stopped on request; the message states how to resume. No handler of errors catches it."""


class StopRequests:
    """What the signals of this process ask for.

    Attributes:
        asked: name of the signal that came, or none.
        can_wait: a checkpoint will be written soon; else a signal stops at once.
        patient: a second signal changes nothing, for processes whose parent passes signals on.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self.can_wait = self.patient = False

    def listen(self) -> None:
        """Takes the signals over; in another thread than the main one they stay as they are."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked is not None, signal.Signals(number).name
        if again and self.patient:
            return
        if again:  # an exception could be lost in whatever is being ended; files are whole at any moment
            print(f"error: stopped by {self.asked}", file=sys.stderr, flush=True)
            os._exit(REQUEUE)
        if not self.can_wait:
            raise Stopped(f"stopped by {self.asked}")
        print(f"{self.asked}: stopping at the next checkpoint; once more stops at once", flush=True)


requests = StopRequests()


def pass_on(processes: list[int]) -> None:
    """Asks other processes to stop."""
    for process in processes:
        try:
            os.kill(process, signal.SIGTERM)
        except ProcessLookupError:
            continue

"""A job in a process of its own: what it returns, raises, or dies of arrives; and it does not outlive its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxr.processes.isolation import how_it_ended, in_child

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, sys, time
from cxr.errors import CxrError
from cxr.processes.isolation import in_child
from cxr.processes.stopping import Stopped, requests
requests.listen()
def say(kind):
    def work():
        if kind == "value": return [1.5, "a"]
        if kind == "error": raise CxrError("lr=7 is too large")
        if kind == "bug": return 1 / 0
        if kind == "exit": sys.exit("enough")
        if kind == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if kind == "stopped": raise Stopped("stopped by SIGTERM after step 3")
        if kind == "interrupted": raise KeyboardInterrupt
    return work
try:
    print(in_child(say(sys.argv[1])))
except BaseException as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [("value", "[1.5, 'a']"), ("error", "CxrError lr=7 is too large"), ("bug", "CxrError division by zero"),
     ("exit", "CxrError enough"), ("killed", "CxrError its process was ended by SIGKILL (out of memory?)"),
     ("stopped", "Stopped stopped by SIGTERM after step 3"), ("interrupted", "KeyboardInterrupt ")],
)  # fmt: skip
def test_how_a_job_ends_arrives(kind: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", HEAD, kind], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip("\n") == said and done.stderr == ""


def test_where_pytorch_is_loaded_the_work_is_done_in_place() -> None:
    import torch  # noqa: F401  # it is the reason

    assert in_child(os.getpid) == os.getpid()


def test_exit_codes_in_words() -> None:
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-signal.SIGTERM) == "was ended by SIGTERM"
    assert how_it_ended(-signal.SIGKILL) == "was ended by SIGKILL (out of memory?)"


def test_a_job_dies_with_its_parent() -> None:
    program = HEAD.partition("def say")[0] + "in_child(lambda: (print(os.getpid(), flush=True), time.sleep(60)))"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().strip()
    assert child.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.exists() or ") Z " in (child / "stat").read_text()


def test_the_threads_of_a_loader_process_print_no_traceback() -> None:
    """Python's server of shared memory calls the hook with the error when the parent goes."""
    code = (
        "import sys; from cxr.processes.isolation import serve_parent\n"
        "serve_parent(0); sys.excepthook(OSError, OSError('gone'), None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""

"""Locks on local disks, on NFS and without `flock`; folders that are made under one, and what dead processes left."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.files.writing import staged
from cxr.run.directory import Run

ROOT = Path(__file__).parents[2]
HELD = "another process is training"
FLOCK = fcntl.flock


def of_nfs(handle: int, operation: int) -> None:
    """`flock` as NFS has it: an exclusive lock needs a handle that may write."""
    if operation & fcntl.LOCK_EX and fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    FLOCK(handle, operation)


def absent(handle: int, operation: int) -> None:
    """`flock` on NFS without a lock service."""
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "a")
    made.create({"seed": 1})
    return made


Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Starts a process that enters a context and stays in it; all are dead at the end."""
    started = []

    def start(
        context: str, body: str = "print('in', flush=True); time.sleep(60)", flock: str = ""
    ) -> "subprocess.Popen[str]":
        program = f"import errno, fcntl, os, time\n{flock}\nfrom pathlib import Path\n"
        program += "from cxr.files.locking import locked\nfrom cxr.files.writing import staged\n"
        program += f"from cxr.run.directory import Run\nwith {context}:\n    {body}"
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline().startswith("in")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("flock", [FLOCK, of_nfs, absent], ids=["local", "NFS", "none"])
def test_a_run_is_held_by_one_at_a_time_on_any_file_system(
    run: Run, monkeypatch: pytest.MonkeyPatch, flock: Callable[[int, int], None]
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with run.held():
            with pytest.raises(CxrError, match=HELD) as refused, run.held():
                pass
            assert (f"remove {run.path}/.lock" in str(refused.value)) == (flock is absent)
        assert os.listdir(run.path) == ["config.yaml"], "no lock file stays"


@pytest.mark.parametrize("flock", [FLOCK, absent], ids=["local", "none"])
def test_a_killed_process_has_no_lock(
    run: Run, monkeypatch: pytest.MonkeyPatch, holder: Holder, flock: Callable[[int, int], None]
) -> None:
    without = "def flock(*given): raise OSError(errno.ENOLCK, 'x')\nfcntl.flock = flock" if flock is absent else ""
    process = holder(f"Run(Path({str(run.path)!r})).held()", flock=without)
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CxrError, match=HELD), run.held():
        pass
    process.kill()
    process.wait()
    with run.held():
        pass
    assert os.listdir(run.path) == ["config.yaml"]


def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(run: Run, holder: Holder) -> None:
    fork = "child = os.fork(); print('in', child or os.getpid(), flush=True) if child else None; time.sleep(60)"
    process = holder(f"Run(Path({str(run.path)!r})).held()", fork)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    try:
        assert len(children) == 1 and Path(f"/proc/{children[0]}").exists()
        with run.held():
            pass
    finally:
        os.kill(int(children[0]), signal.SIGKILL)


def test_a_lock_does_not_take_away_that_of_a_new_folder(run: Run) -> None:
    with run.held():
        run.path.rename(run.path.with_name("b"))
        run.create({"seed": 2})
        (run.path / ".lock").write_text("of another process")
    assert (run.path / ".lock").read_text() == "of another process"


def test_nothing_is_locked_through_a_link(run: Run) -> None:
    (run.path.parent / "thesis").write_text("mine")
    (run.path / ".lock").symlink_to(run.path.parent / "thesis")
    with pytest.raises(CxrError, match=r"cannot write .*\.lock"), run.held():
        pass
    assert (run.path.parent / "thesis").read_text() == "mine"


def test_a_wait_ends_when_the_lock_is_free(tmp_path: Path, holder: Holder, capsys: pytest.CaptureFixture[str]) -> None:
    holder(f"locked(Path({str(tmp_path / 'lock')!r}), 'x')", "print('in', flush=True); time.sleep(1.2)")
    with locked(tmp_path / "lock", "it is being built; waiting", wait=60):
        assert capsys.readouterr().out == "it is being built; waiting\n"


@pytest.mark.parametrize("flock", [FLOCK, absent], ids=["local", "none"])
def test_folders_of_dead_processes_are_removed_and_those_of_live_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Holder, flock: Callable[[int, int], None]
) -> None:
    without = "def flock(*given): raise OSError(errno.ENOLCK, 'x')\nfcntl.flock = flock" if flock is absent else ""
    fill = "(folder / 'scratch').mkdir(); (folder / 'scratch' / 'x').write_text('x'); print('in', flush=True); "
    dead, live = (
        holder(f"staged(Path({str(tmp_path / name)!r})) as folder", fill + "time.sleep(60)", without)
        for name in ("ensemble.1", "other")
    )
    mine = tmp_path / ".making-thesis-12345678"
    mine.mkdir()
    dead.kill()
    dead.wait()
    monkeypatch.setattr(fcntl, "flock", flock)
    Run(tmp_path / "a").create({"seed": 1})
    left = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir() if path.is_dir() and path.name != "a")
    assert left == [".making-other", ".making-thesis"], "a folder without a lock was made by nobody of us"
    assert not list(tmp_path.glob("*ensemble*"))
    live.kill()
    live.wait()
    with staged(tmp_path / "b"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "a"]

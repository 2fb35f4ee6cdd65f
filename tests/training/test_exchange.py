"""What rank 0 sends reaches all ranks, and all show the first failure."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxr.configuration.plugins import from_user, user_configuration
from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.run.directory import Run
from cxr.training.exchange import connect, first_failure, receive, send, trusting, write_job


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the ranks of a test meet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(listener.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    connect.cache_clear()
    yield
    connect.cache_clear()


@pytest.mark.parametrize(
    "written", [{"a.bin": bytes(range(251)) * 40_000, "b": b""}, {}], ids=["data", "nothing to do"]
)
def test_ranks_receive_what_rank_0_sends(tmp_path: Path, address: None, written: dict[str, bytes]) -> None:
    def write(folder: Path) -> None:
        for name, content in written.items():
            (folder / name).write_bytes(content)

    def rank(number: int) -> bool:
        if number == 0:
            send(Rank(0, 3), write if written else None)
            send(Rank(0, 3), None)  # it has been sent
            return False
        (tmp_path / str(number)).mkdir()
        return receive(Rank(number, 3), tmp_path / str(number))

    with ThreadPoolExecutor(3) as ranks:
        assert list(ranks.map(rank, [0, 1, 2])) == [False, bool(written), bool(written)]
    for number in "12":
        assert {file.name: file.read_bytes() for file in (tmp_path / number).iterdir()} == written


def test_all_ranks_show_the_reason_of_the_first_that_failed(address: None) -> None:
    failed = threading.Event()

    def rank(number: int) -> Exception:
        error: Exception = CxrError("the disk is full") if number else RuntimeError("Connection closed by peer.\nat x")
        connect(Rank(number, 2))
        if number == 0:
            failed.wait(20)
        first = first_failure(Rank(number, 2), error)
        failed.set()
        return first

    with ThreadPoolExecutor(2) as ranks:
        shown = list(ranks.map(rank, [0, 1]))
    assert [str(error) for error in shown] == ["process 1 of 2: the disk is full", "the disk is full"]
    assert all(isinstance(error, CxrError) for error in shown)


@pytest.mark.parametrize("own", [True, False])
def test_a_rank_trusts_what_the_first_does_while_it_trains_the_run(tmp_path: Path, own: bool) -> None:
    with user_configuration(own):
        write_job(Run(tmp_path / "a"), tmp_path)
    with trusting(tmp_path) as run:
        assert run == Run(tmp_path / "a") and from_user() == own
    assert not from_user()

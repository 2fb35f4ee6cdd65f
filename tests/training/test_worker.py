"""The exit code of one process of several, and where it says why it failed, with stand-ins for its work."""

import json
import math
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cxr.configuration.plugins import from_user, trust
from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.processes.stopping import REQUEUE, Stopped, requests
from cxr.run.directory import Run
from cxr.training import run as training
from cxr.training import worker
from cxr.training.devices import Devices
from cxr.training.exchange import connect, send, write_job
from tests.training.conftest import composed

CONFIG = composed("trainer=ddp", "optimizer.lr=1e-5", "+augment.transforms.0.by={1: 2}")


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder and the store that a parent has for its two ranks; this is rank 1, to which rank 0 has sent a run."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    OmegaConf.save({"batch_size": 8, "trainer": {}, "run_id": "1"}, tmp_path / "runs" / "a" / "config.yaml")
    listener = socket.create_server(("127.0.0.1", 0))
    place = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "cxr",
             "MASTER_PORT": listener.getsockname()[1], "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    connect.cache_clear()
    port = int(place["MASTER_PORT"])
    store = TCPStore("127.0.0.1", port, None, True, wait_for_workers=False, master_listen_fd=listener.detach())
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(training, "read_prepared", lambda folder: "prepared")
    monkeypatch.setattr(training, "read_resume_checkpoint", lambda *given, show: ("restored", *given, show))
    monkeypatch.setattr(training, "resolve_devices", lambda trainer: Devices("cpu", 2, "32-true"))
    yield tmp_path
    trust([])
    connect.cache_clear()
    del store


def ended(parent: Path, monkeypatch: pytest.MonkeyPatch, work: Any) -> tuple[int, str | None]:
    """Exit code and reason."""
    monkeypatch.setattr(training, "assemble", lambda *given: given)
    monkeypatch.setattr(training, "work", work)
    send(Rank(0, 2), lambda folder: write_job(Run(parent / "runs" / "a"), folder))
    code = worker.main(parent)
    return code, (parent / "1").read_text() if (parent / "1").exists() else None


def raises(error: BaseException) -> Any:
    def work(*_: Any) -> None:
        raise error

    return work


def test_it_trains_its_rank_with_what_rank_0_has_read(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    assert ended(parent, monkeypatch, lambda *given: seen.extend(given)) == (0, None)
    (config, run, devices, restored, prepared), again = seen
    assert config["batch_size"] == 8 and run == Run(parent / "runs" / "a") and devices.count == 2
    assert restored == again == ("restored", run, 8, 2, False), "rank 0 says what is damaged"
    assert prepared == "prepared" and not (parent / "value").exists()
    assert requests.patient


def test_it_ends_well_where_rank_0_has_nothing_to_do(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(Rank(0, 2), None)
    assert ended(parent, monkeypatch, raises(AssertionError("it has no work"))) == (0, None)


def first(parent: Path, monkeypatch: pytest.MonkeyPatch, own: bool, begin: Callable[..., float]) -> int:
    """The exit code of rank 0, which trains a new run of the user's (`own`) or resumes one."""
    job = {"run": "runs/a", "plugins": [], "own": own}
    (parent / "job.json").write_text(json.dumps(job))
    (parent / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(training, "train" if own else "resume", begin)
    monkeypatch.setattr(training, "resume" if own else "train", None)
    return worker.main(parent)


@pytest.mark.parametrize("own", [True, False])
def test_the_first_rank_begins_or_resumes_the_run_and_hands_back_its_value(
    parent: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    given: list[Any] = []

    def begin(config: dict[str, Any], run: Run) -> float:
        given.append((config, run, from_user()))
        return math.nan

    assert first(parent, monkeypatch, own, begin) == 0
    assert given == [(CONFIG, Run(Path("runs/a")), own)]
    assert (parent / "value").read_text() == "nan" and not (parent / "refused").exists()


@pytest.mark.parametrize("sends", [True, False])
def test_the_first_rank_tells_a_refusal_from_a_failure_of_the_training(
    parent: Path, monkeypatch: pytest.MonkeyPatch, sends: bool
) -> None:
    def begin(config: dict[str, Any], run: Run) -> float:
        if sends:
            send(Rank(0, 2), lambda folder: write_job(run, folder))
        raise CxrError("no")

    assert first(parent, monkeypatch, True, begin) == 1
    assert (parent / "0").read_text() == "no" and (parent / "refused").exists() != sends


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (CxrError("the disk is full"), 1, "the disk is full"),
        (ValueError("no\nmore"), 1, "ValueError: no; HYDRA_FULL_ERROR=1 shows the traceback"),
        (RuntimeError(), 1, "RuntimeError: RuntimeError; HYDRA_FULL_ERROR=1 shows the traceback"),
        (KeyboardInterrupt(), 130, None),
        (Stopped("stopped by SIGTERM"), REQUEUE, None),
    ],
)
def test_how_it_ends_is_its_exit_code_and_why_it_failed_is_in_a_file(
    parent: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException, code: int,
    reason: str | None,
) -> None:  # fmt: skip
    assert ended(parent, monkeypatch, raises(error)) == (code, reason)
    assert capfd.readouterr() == ("", ""), "the parent says it"


def test_it_hears_ctrl_c_once_it_works(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the parent starts it
    assert ended(parent, monkeypatch, lambda *_: signal.raise_signal(signal.SIGINT)) == (130, None)


def test_the_first_rank_reports_that_it_stopped(
    parent: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert first(parent, monkeypatch, False, raises(Stopped("stopped by SIGTERM after step 3"))) == REQUEUE
    assert capfd.readouterr().err == "stopped by SIGTERM after step 3\n"


def test_the_traceback_is_shown_to_who_asks(
    parent: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert ended(parent, monkeypatch, raises(ValueError("no")))[0] == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_run_without_a_configuration_is_reported(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent / "runs" / "a" / "config.yaml").unlink()
    code, reason = ended(parent, monkeypatch, lambda *_: None)
    assert code == 1 and reason is not None and reason.endswith("is not a run: it has no config.yaml")

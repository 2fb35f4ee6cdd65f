"""The exit code of one process of several, and where it says why it failed, with stand-ins for its work."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.configuration.plugins import trust
from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.processes.stopping import REQUEUE, SIGNALS, Stopped, requests
from cxr.run.directory import Run
from cxr.training import worker
from cxr.training.devices import Devices


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a parent leaves: a run, what is trusted, and the place for a reason; this is rank 1 of 2."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    OmegaConf.save({"batch_size": 8, "trainer": {}, "run_id": "1"}, tmp_path / "runs" / "a" / "config.yaml")
    (tmp_path / "trust.json").write_text(json.dumps({"plugins": [], "own": False}))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(worker, "die_with_parent", lambda: None)
    monkeypatch.setattr(worker, "read_prepared", lambda folder: ("prepared in", folder))
    monkeypatch.setattr(worker, "read_resume_checkpoint", lambda *given, show: ("restored", *given, show))
    monkeypatch.setattr(worker, "resolve_devices", lambda trainer: Devices("cpu", 2, "32-true"))
    kept, waits = [signal.getsignal(number) for number in SIGNALS], (requests.patient, requests.received)
    yield tmp_path
    for number, handler in zip(SIGNALS, kept, strict=True):
        signal.signal(number, handler)
    requests.patient, requests.received = waits
    trust([])


def ended(parent: Path, monkeypatch: pytest.MonkeyPatch, work: Any) -> tuple[int, str | None]:
    """Exit code and reason."""
    monkeypatch.setattr(worker, "assemble", lambda *given: given)
    monkeypatch.setattr(worker, "work", work)
    code = worker.main(str(parent / "runs" / "a"), str(parent / "1"))
    return code, (parent / "1").read_text() if (parent / "1").exists() else None


def raises(error: BaseException) -> Any:
    def work(*_: Any) -> None:
        raise error

    return work


def test_it_trains_its_rank_with_what_the_parent_has_read(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    assert ended(parent, monkeypatch, lambda *given: seen.extend(given)) == (0, None)
    (config, run, devices, restored, rank, prepared), again = seen
    assert config["batch_size"] == 8 and run == Run(parent / "runs" / "a") and devices.count == 2
    assert restored == again == ("restored", run, 8, 2, False), "the parent says what is damaged"
    assert rank == Rank(1, 2, 1) and prepared == ("prepared in", parent)
    assert requests.patient


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


def test_the_first_rank_reports_that_it_stopped(
    parent: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert ended(parent, monkeypatch, raises(Stopped("stopped by SIGTERM after step 3")))[0] == REQUEUE
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

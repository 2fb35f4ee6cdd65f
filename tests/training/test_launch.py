"""The launcher with stand-ins for ranks: whose failure is told, and that nobody outlives it."""

import json
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cxr.data.cache import Cache
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.processes.stopping import Stopped, requests
from cxr.run.directory import Run
from cxr.training.devices import Devices
from cxr.training.launch import launch, rank_of_this_process
from cxr.training.prepare import Prepared, read_prepared

IMAGE = pd.DataFrame({"image": ["a.png"]})
DATA = Prepared(Catalog(IMAGE, ("Mass",), "table.csv"), Cache(Path("cache"), ("a.png",), 8), "", "")

BREAKS = 'echo "data.root=/x is gone" > "$reason"; exit 1'
LATER = 'sleep 0.2; echo "Connection closed by peer" > "$reason"; exit 1'
DEAF = "echo $$ > \"$RUN/pid\"; trap '' TERM; exec sleep 60"
WAITS = "while :; do sleep 0.1; done"
HANGS = 'echo "data.root=/x is gone" > "$reason"; exec sleep 60'


def scripts(run: Path, monkeypatch: pytest.MonkeyPatch, *ranks: str) -> None:
    """Each rank is a shell script."""
    python = run / "python"
    cases = "\n".join(f"{rank}) {script} ;;" for rank, script in enumerate(ranks))
    python.write_text(f'#!/bin/sh\nRUN=$3 reason=$4\ncase "$LOCAL_RANK" in\n{cases}\nesac\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def told(run: Path, monkeypatch: pytest.MonkeyPatch, *ranks: str) -> tuple[str, float]:
    """What is said, and after how many seconds."""
    scripts(run, monkeypatch, *ranks)
    began = time.monotonic()
    with pytest.raises(CxrError) as failed:
        launch(Run(run), Devices("cpu", len(ranks), "32-true"), DATA)
    return str(failed.value), time.monotonic() - began


@pytest.mark.parametrize("first", [0, 1])
def test_the_rank_that_failed_first_is_reported_not_the_one_that_missed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    said, _ = told(tmp_path, monkeypatch, *([BREAKS, LATER] if first == 0 else [LATER, BREAKS]))
    assert said.strip() == f"process {first} of 2 of {tmp_path}: data.root=/x is gone"


def test_a_killed_rank_is_reported_not_those_that_missed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = told(tmp_path, monkeypatch, LATER, "kill -9 $$", LATER)
    assert said.startswith(f"process 1 of 3 of {tmp_path} was ended by SIGKILL (out of memory?); with resume=true")


@pytest.mark.parametrize("fails", [BREAKS, HANGS, "kill -9 $$"], ids=["raises", "hangs in its end", "killed"])
def test_ranks_that_cannot_hear_are_ended_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    said, seconds = told(tmp_path, monkeypatch, DEAF, fails)
    assert "process 1 of 2" in said and seconds < 5
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_ranks_get_their_place_and_nothing_of_another_launchers_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "9", "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    says = 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $TORCHELASTIC_USE_AGENT_STORE." > "$reason"; exit 1'
    assert told(tmp_path, monkeypatch, "sleep 1", says)[0].strip().endswith(": 1 1 2 .")


def test_a_rank_that_fails_while_the_run_is_stopped_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = 'trap \'echo "the disk is full" > "$reason"; exit 1\' TERM; sleep 0.5; kill -TERM $PPID; ' + WAITS
    scripts(tmp_path, monkeypatch, fails)
    kept = signal.getsignal(signal.SIGTERM)
    try:
        requests.listen()
        with pytest.raises(Stopped):
            launch(Run(tmp_path), Devices("cpu", 1, "32-true"), DATA)
    finally:
        signal.signal(signal.SIGTERM, kept)
        requests.received = None
    assert f"process 0 of {tmp_path}: the disk is full" in capsys.readouterr().err


def test_a_process_learns_its_rank_from_what_the_launcher_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert rank_of_this_process() == Rank(2, 5, 2)


def test_ranks_find_the_data_as_the_parent_has_checked_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = 'cp -r "$(dirname "$reason")" "$RUN/given$LOCAL_RANK"'
    scripts(tmp_path, monkeypatch, copies, copies)
    launch(Run(tmp_path), Devices("cpu", 2, "32-true"), DATA)
    for rank in (0, 1):
        given = tmp_path / f"given{rank}"
        read = read_prepared(given)
        pd.testing.assert_frame_equal(read.catalog.table, IMAGE)
        assert read.cache == DATA.cache and json.loads((given / "trust.json").read_text())["plugins"] == []


def test_processes_that_all_end_well_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts(tmp_path, monkeypatch, 'sleep 0.3; touch "$RUN/late"', "exit 0")
    launch(Run(tmp_path), Devices("cpu", 2, "32-true"), DATA)
    assert (tmp_path / "late").exists()

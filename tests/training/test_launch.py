"""The launcher with stand-ins for ranks: whose failure is told, and that nobody outlives it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr.configuration.plugins import from_user, user_configuration
from cxr.errors import CxrError
from cxr.processes.isolation import alive
from cxr.processes.stopping import Stopped, requests
from cxr.run.directory import Run
from cxr.training.launch import launch
from tests.end_to_end.conftest import ROOT
from tests.training.conftest import composed

CONFIG = {"batch_size": 8, "optimizer": {"lr": 1e-5}}
BREAKS = 'echo "data.root=/x is gone" > "$reason"; exit 1'
LATER = 'sleep 0.2; echo "Connection closed by peer" > "$reason"; exit 1'
DEAF = "echo $$ > \"$RUN/pid\"; trap '' TERM; exec sleep 60"
WAITS = "while :; do sleep 0.1; done"
HANGS = 'echo "data.root=/x is gone" > "$reason"; exec sleep 60'


def scripts(run: Path, monkeypatch: pytest.MonkeyPatch, *ranks: str) -> None:
    """Each rank is a shell script."""
    python = run / "python"
    cases = "\n".join(f"{rank}) {script} ;;" for rank, script in enumerate(ranks))
    python.write_text(f'#!/bin/sh\nRUN={run} folder=$3 reason=$3/$LOCAL_RANK\ncase "$LOCAL_RANK" in\n{cases}\nesac\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def told(run: Path, monkeypatch: pytest.MonkeyPatch, *ranks: str) -> tuple[str, float]:
    """What is said, and after how many seconds."""
    scripts(run, monkeypatch, *ranks)
    began = time.monotonic()
    with pytest.raises(CxrError) as failed:
        launch(CONFIG, Run(run), len(ranks))
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


def test_no_rank_outlives_a_parent_that_is_killed_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins = 'echo $$ > "$RUN/pid"; kill -9 $PPID; exec sleep 60'
    scripts(tmp_path, monkeypatch, begins)
    parent = get_context("fork").Process(target=launch, args=(CONFIG, Run(tmp_path), 1))
    parent.start()
    parent.join()
    deadline = time.monotonic() + 5
    while alive(int((tmp_path / "pid").read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert parent.exitcode == -signal.SIGKILL and not alive(int((tmp_path / "pid").read_text()))


def test_ctrl_c_is_left_to_the_parent_while_a_rank_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = told(tmp_path, monkeypatch, 'kill -INT $$; echo "it still runs" > "$reason"; exit 1')
    assert said.strip().endswith(": it still runs")


def test_ctrl_c_ends_ranks_that_do_not_hear_it_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts(tmp_path, monkeypatch, "sleep 0.3; kill -INT $PPID; " + DEAF)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launch(CONFIG, Run(tmp_path), 1)
    assert time.monotonic() - began < 6 and not alive(int((tmp_path / "pid").read_text()))


def test_a_refusal_of_rank_0_is_the_sentence_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = 'touch "$folder/refused"; ' + BREAKS
    assert told(tmp_path, monkeypatch, refuses, "sleep 60")[0].strip() == "data.root=/x is gone"


def test_ranks_get_their_place_and_nothing_of_another_launchers_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"RANK": "5", "WORLD_SIZE": "9", "MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "False"}
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    says = 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $TORCHELASTIC_USE_AGENT_STORE $MASTER_PORT." > "$reason"; exit 1'
    said = told(tmp_path, monkeypatch, "sleep 1", says)[0].strip()
    assert ": 1 1 2 True " in said and not said.endswith(" 1.")


def test_a_rank_that_fails_while_the_run_is_stopped_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = 'trap \'echo "the disk is full" > "$reason"; exit 1\' TERM; sleep 0.5; kill -TERM $PPID; ' + WAITS
    scripts(tmp_path, monkeypatch, fails)
    requests.listen()
    with pytest.raises(Stopped):
        launch(CONFIG, Run(tmp_path), 1)
    assert f"process 0 of {tmp_path}: the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("new", [True, False])
def test_ranks_find_what_the_parent_has_composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
    copies = 'cp -r "$folder" "$RUN/given$LOCAL_RANK"; echo 0.5 > "$folder/value"'
    scripts(tmp_path, monkeypatch, copies, copies)
    with user_configuration(new):
        launch(CONFIG, Run(tmp_path), 2)
    for rank in (0, 1):
        given = tmp_path / f"given{rank}"
        assert yaml.safe_load((given / "config.yaml").read_text()) == CONFIG
        assert json.loads((given / "job.json").read_text()) == {"run": str(tmp_path), "plugins": [], "own": new}


def test_processes_that_all_end_well_are_waited_for_and_the_first_gives_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts(tmp_path, monkeypatch, 'echo 0.75 > "$folder/value"', 'sleep 0.3; touch "$RUN/late"')
    assert launch(CONFIG, Run(tmp_path), 2) == 0.75
    assert (tmp_path / "late").exists()


def test_several_devices_are_one_launch_before_anything_is_read_or_written(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Any] = []

    def record(config: dict[str, Any], run: Run, count: int) -> float:
        launched.append((config["batch_size"], run, count, from_user()))
        return 0.75

    monkeypatch.setattr("cxr.training.launch.launch", record)
    options = ("trainer=ddp", "trainer.accelerator=cpu", "batch_size=4", "name=a")
    assert train(*options, "data.root=/nowhere").code == 0
    assert launched == [(4, Run(Path("runs/a")), 2, True)] and not (here / "runs").exists()
    (here / "runs" / "a").mkdir(parents=True)
    refused = train(*options)
    assert refused.code == 1 and "runs/a exists; choose another name=" in refused.err and len(launched) == 1


def test_a_finished_run_is_reported_where_its_devices_are_missing(train: Callable[..., Any], here: Path) -> None:
    run = Run(here / "runs" / "a")
    run.create({**composed("trainer.accelerator=gpu", "trainer.devices=99", "name=a"), "run_id": "1"})
    numbers = {"val": {"macro_auroc": 0.75}, "test": {"macro_auroc": 0.5}, "best_epoch": 0, "max_epochs": 1000}
    run.metrics_path.write_text(json.dumps(numbers))
    done = train("name=a", "resume=true", plain=True)
    assert (done.code, done.out) == (0, "runs/a is finished: best validation macro AUROC 0.7500\n"), done.err


def test_the_parent_of_ranks_does_not_wait_for_the_imports_of_a_training() -> None:
    program = "import sys, cxr.cli.train, cxr.training.devices, cxr.training.launch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"lightning", "timm", "pandas", "scipy"} & set(done.stdout.split())

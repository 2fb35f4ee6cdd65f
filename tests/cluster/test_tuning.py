"""Real trainings as trials: a worker that is killed on PostgreSQL, pruning, and the command that trains the winner."""

import csv
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cxr.processes.isolation import alive
from tests.cluster.conftest import PATH, needs, plain_environment, wait_for

pytestmark = pytest.mark.cluster
optuna = pytest.importorskip("optuna")


@pytest.fixture
def storage() -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL server that the test starts and ends."""
    pytest.importorskip("psycopg")
    needs({"initdb": "postgresql", "pg_ctl": "postgresql"})
    folder = Path(tempfile.mkdtemp(prefix="cxr-postgres-"))
    user: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    def postgres(program: str, *words: str) -> None:
        command = [*user, str(shutil.which(program, path=PATH)), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    postgres("initdb", "-D", f"{folder}/data", "-U", "cxr", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    listen = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    try:
        postgres("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", listen, "start")
        yield f"postgresql+psycopg://cxr@127.0.0.1:{port}/postgres"
    finally:
        postgres("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def tune(recipe: list[str], *options: str) -> list[str]:
    return [sys.executable, "-m", "cxr", "tune", *recipe, "trainer=cpu", "study=s", *options]


def child_of(process: int) -> int | None:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else None


def test_a_trial_of_a_killed_process_fails_and_is_tried_again(recipe: list[str], clone: Path, storage: str) -> None:
    environment = plain_environment() | {"CXR_STORAGE": storage}
    command = tune(recipe, "trials=3")
    first = subprocess.Popen(command, env=environment)
    second = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while (training := child_of(first.pid)) is None:
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    first.wait()
    while alive(training):
        assert time.monotonic() < killed + 10, "a training still runs after the process that started it was killed"
        time.sleep(0.1)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    lost = next(
        trial for trial in optuna.load_study(study_name="s", storage=storage).trials if not trial.state.is_finished()
    )
    time.sleep(max(0.0, killed + 125 - time.monotonic()))  # its heartbeat has stopped for two minutes
    subprocess.run(command, env=environment, check=True, timeout=300)
    trials = optuna.load_study(study_name="s", storage=storage).trials
    assert trials[lost.number].state == optuna.trial.TrialState.FAIL
    again = [trial for trial in trials if trial.params == lost.params and trial.number != lost.number]
    assert len(again) == 1 and again[0].state == optuna.trial.TrialState.COMPLETE
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials) == 3


def test_a_trial_that_does_not_learn_is_pruned_and_the_printed_command_trains_the_winner(
    recipe: list[str], clone: Path
) -> None:
    space = clone / "options" / "space"
    space.mkdir(parents=True)
    (space / "bad.yaml").write_text("optimizer.lr: {low: 1.0e-9, high: 1.0e-9}\n")
    study = clone / "runs" / "s"
    study.mkdir(parents=True)
    earlier = optuna.create_study(storage=f"sqlite:///{study}/study.db", study_name="s", direction="minimize")
    rates = optuna.distributions.FloatDistribution(1e-3, 1e-2)
    for number in range(5):  # losses of trainings that learn; the sixth trial is a training that does not
        losses = {epoch: 0.69 - 0.02 * epoch for epoch in range(40)}
        earlier.add_trial(
            optuna.trial.create_trial(
                params={"optimizer.lr": 3e-3 + number * 1e-4}, distributions={"optimizer.lr": rates},
                value=0.1 + 0.01 * number, intermediate_values=losses,
            )
        )  # fmt: skip
    environment = plain_environment()
    options = ("metric=train/loss", "mode=min", "trainer.max_epochs=40", "callbacks=[]", "trials=6", "space=bad")
    sixth = tune(recipe, *options, f"hydra.searchpath=[file://{space.parent}]")
    done = subprocess.run(sixth, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "trial 5: pruned after epoch" in done.stdout, done.stdout + done.stderr
    with (clone / "runs" / "s" / "trial-5" / "metrics.csv").open(newline="") as file:
        assert 2 < len(list(csv.DictReader(file))) < 40
    assert "6 trials, pruned: 1" in done.stdout and "optimistic" in done.stdout
    assert {"history.png", "trials.csv"} <= {path.name for path in (clone / "runs" / "s").iterdir()}
    words = shlex.split((clone / "runs" / "s" / "report.txt").read_text().splitlines()[-1])
    assert words[:2] == ["python", "train.py"]
    changed = {"seed=0,1,2,3,4": "seed=0,1", "trainer.max_epochs=40": "trainer.max_epochs=1"}
    fewer = [changed.get(word, word) for word in words[1:]]
    subprocess.run([sys.executable, *fewer], env=environment, check=True)
    for seed in (0, 1):
        run = clone / "runs" / "s-best" / f"seed-{seed}"
        wait_for(run / "metrics.json", 1)
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["optimizer"]["lr"] == 3e-3 and config["seed"] == seed and config["score_test"]

"""A real SLURM: two tasks train as two processes of ours, jobs that are stopped go on, and the examples run."""

import csv
import os
import signal
import subprocess
import sys
import time
from getpass import getuser
from pathlib import Path

import pytest

from tests.cluster.conftest import sha, wait_for

pytestmark = pytest.mark.cluster
NO_GPU = ("--gres=none", "--cpus-per-task=1", "--mem=0")


def ran(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for_end(job: str, slurm: dict[str, str]) -> None:
    deadline = time.monotonic() + 400
    while ran("squeue", "-h", "-o", "%A", f"--user={getuser()}", environment=slurm).strip():
        assert time.monotonic() < deadline, [file.read_text()[-2000:] for file in Path().glob("slurm-*.out")]
        time.sleep(0.5)


def test_two_tasks_train_the_same_as_two_processes_inside_and_outside_an_allocation(
    slurm: dict[str, str], recipe: list[str], clone: Path
) -> None:
    python = [sys.executable, "train.py", *recipe]
    ran(*python, "trainer=ddp", "name=outside", environment=slurm)
    ran("srun", "-n2", *python, "trainer=slurm", "name=tasks", environment=slurm)
    ran("srun", "-n1", *python, "trainer=ddp", "name=inside", environment=slurm)
    assert sha(clone / "runs" / "tasks") == sha(clone / "runs" / "inside") == sha(clone / "runs" / "outside")
    ran(*python, "trainer=cpu", "name=one", environment=slurm)
    ran("srun", "-n1", *python, "trainer=cpu", "name=task", environment=slurm)
    assert sha(clone / "runs" / "one") == sha(clone / "runs" / "task")


@pytest.mark.parametrize("example", ["train", "multi_node"])
def test_a_job_that_is_stopped_requeues_itself_and_ends_with_the_same_bytes(
    slurm: dict[str, str], recipe: list[str], clone: Path, example: str
) -> None:
    nodes = 2 if os.environ.get("CXR_CLUSTER") else 1
    more = (f"--nodes={nodes}", f"--ntasks-per-node={2 // nodes}") if example == "multi_node" else ()
    submit = ("sbatch", "--parsable", *NO_GPU, *more, f"examples/{example}.sbatch", *recipe)
    steps = clone / "runs" / "stopped" / "steps.csv"
    log = ("trainer.log_every_n_steps=1", "trainer.max_epochs=6")
    ran(*submit, *log, "name=straight", environment=slurm)
    job = ran(*submit, *log, "name=stopped", environment=slurm).strip()
    wait_for(steps)
    ran("scancel", "--batch", "--signal=USR1", job, environment=slurm)
    wait_for(clone / "runs" / "stopped" / "metrics.json")
    wait_for(clone / "runs" / "straight" / "metrics.json")
    wait_for_end(job, slurm)
    said = (clone / f"slurm-{job}.out").read_text()
    assert "stopped by SIGUSR1" in said and "runs/stopped resumes from" in said
    assert sha(clone / "runs" / "stopped") == sha(clone / "runs" / "straight")


def test_a_cancelled_job_stays_cancelled(slurm: dict[str, str], recipe: list[str], clone: Path) -> None:
    job = ran(
        "sbatch", "--parsable", *NO_GPU, "examples/train.sbatch", *recipe, "name=a", "trainer.max_epochs=500",
        "early_stopping.patience=null", environment=slurm,
    ).strip()  # fmt: skip
    wait_for(clone / "runs" / "a" / "checkpoints" / "last.ckpt")
    ran("scancel", job, environment=slurm)
    wait_for_end(job, slurm)
    assert "JobState=CANCELLED" in ran("scontrol", "show", "job", job, environment=slurm)


def test_a_job_finishes_while_the_scheduler_is_killed_and_started_again(
    slurm: dict[str, str], recipe: list[str], clone: Path
) -> None:
    if os.environ.get("CXR_CLUSTER"):
        pytest.skip("it kills slurmctld")
    job = ran(
        "sbatch", "--parsable", *NO_GPU, "examples/train.sbatch", *recipe, "name=a", "trainer.max_epochs=12",
        "trainer.log_every_n_steps=1", "callbacks=[]", environment=slurm,
    ).strip()  # fmt: skip
    wait_for(clone / "runs" / "a" / "checkpoints" / "last.ckpt")
    configuration = Path(slurm["SLURM_CONF"])
    os.kill(int(configuration.with_name("slurmctld.pid").read_text()), signal.SIGKILL)
    ran("slurmctld", "-f", str(configuration), environment=slurm)
    wait_for_end(job, slurm)
    assert "JobState=COMPLETED" in ran("scontrol", "show", "job", job, environment=slurm)
    with (clone / "runs" / "a" / "metrics.csv").open(newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(12))
    assert (clone / "runs" / "a" / "metrics.json").exists()


def test_a_chain_trains_combines_and_evaluates(slurm: dict[str, str], recipe: list[str], clone: Path) -> None:
    for name in ("array.sbatch", "chain.sh"):  # the lines that users edit
        text = (clone / "examples" / name).read_text().replace("--gres=gpu:1", "--gres=none")
        text = text.replace("--cpus-per-task=9", "--cpus-per-task=1").replace("--cpus-per-task=4", "--cpus-per-task=1")
        text = text.replace("--mem=32G", "--mem=0").replace("--mem=16G", "--mem=0").replace("0-2", "0-1")
        (clone / name).write_text(text.replace("examples/array", "./array"))
    last = ran("bash", "chain.sh", "first", *recipe, environment=slurm).split()[-1]
    wait_for_end(last, slurm)
    assert {path.parent.name for path in clone.glob("runs/first/*/metrics.json")} == {"seed-0", "seed-1"}
    assert list((clone / "runs" / "first-ensemble" / "evaluation").glob("*.csv"))

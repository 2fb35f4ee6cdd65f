"""torchrun on two hosts, which are network namespaces: the same bytes as one host, and how a lost rank ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import needs, plain_environment, sha, wait_for
from tests.cluster.hosts import connected_hosts, torchrun

pytestmark = pytest.mark.cluster
FAILING = """
from lightning.pytorch.callbacks import Callback
class Failing(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_rank == 1:
            raise ValueError("this rank is tired")
"""
Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    """Names of two connected network namespaces."""
    needs({"ip": "iproute2"})
    try:
        with connected_hosts() as names:
            yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces need root: {error.stderr.strip()}")


@pytest.fixture
def start(hosts: list[str], recipe: list[str], clone: Path) -> Iterator[Start]:
    """Starts torchrun on both hosts with options of the training."""
    started: list[subprocess.Popen[str]] = []

    def both(*options: str) -> list["subprocess.Popen[str]"]:
        environment = plain_environment()
        environment["PYTHONPATH"] += f":{clone}"
        command = ["train.py", *recipe, "trainer=ddp", "trainer.accelerator=cpu", *options]
        started.extend(torchrun(hosts, command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        return started[-2:]

    yield both
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended(processes: list["subprocess.Popen[str]"], seconds: float) -> list[str]:
    """What they printed; they end within this time."""
    deadline = time.monotonic() + seconds
    return [process.communicate(timeout=max(1, deadline - time.monotonic()))[0] for process in processes]


def test_two_hosts_train_the_same_as_two_processes_and_one_process_continues(
    start: Start, recipe: list[str], clone: Path
) -> None:
    both = start("name=two")
    said = ended(both, 300)
    assert [process.returncode for process in both] == [0, 0], said
    assert "runs/two: best epoch" in said[0] and "best epoch" not in said[1]
    one = [sys.executable, "train.py", *recipe]
    alike = ["trainer=ddp", "trainer.accelerator=cpu", "name=one"]
    subprocess.run([*one, *alike], env=plain_environment(), check=True, capture_output=True)
    assert sha(clone / "runs" / "one") == sha(clone / "runs" / "two")
    more = [*one, "trainer=cpu", "name=two", "resume=true", "trainer.max_epochs=4"]
    done = subprocess.run(more, env=plain_environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "resumes from epoch 3" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_rank_that_is_lost_ends_both_hosts_within_a_minute(start: Start, clone: Path, how: str) -> None:
    (clone / "failing").mkdir()
    (clone / "failing" / "__init__.py").write_text(FAILING)
    (clone / "failing" / "conf" / "callbacks").mkdir(parents=True)
    option = "# @package callbacks.failing\n_target_: failing.Failing\n"
    (clone / "failing" / "conf" / "callbacks" / "failing.yaml").write_text(option)
    fails = ("plugins=[failing]", "callbacks=[failing]") if how == "failed" else ("callbacks=[]",)
    both = start("name=lost", "trainer.max_epochs=500", "trainer.log_every_n_steps=1", *fails)
    wait_for(clone / "runs" / "lost" / "steps.csv")
    if how == "killed":
        found = subprocess.run(["pgrep", "-P", str(both[1].pid)], capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    said = ended(both, 60)
    assert all(process.returncode for process in both)
    first = next(line for line in said[0].splitlines() if line.startswith("error: "))
    if how == "failed":
        assert first == "error: process 1 of 2: ValueError: this rank is tired"
    else:
        assert first.startswith("error: another process of the run has ended") and "SIGKILL" in said[1]
    assert "Traceback" not in said[0].partition(first)[0]

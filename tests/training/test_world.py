"""What schedulers leave in the environment changes no run: one process or several."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.utilities import rank_zero_only

from cxr.errors import CxrError
from cxr.processes.ranks import Rank
from cxr.training.world import OwnProcesses, ProcessCountCheck
from tests.end_to_end.conftest import ROOT, SMALL

SLURM = {
    "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1",
}  # fmt: skip
SRUN = SLURM | {"SLURM_NTASKS": "3", "SLURM_PROCID": "2", "SLURM_LOCALID": "2", "SLURM_NTASKS_PER_NODE": "3"}
TASKS = {name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"}
TORCHRUN = {
    "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "1", "LOCAL_RANK": "1",
    "WORLD_SIZE": "2", "GROUP_RANK": "1", "NODE_RANK": "3", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1",
}  # fmt: skip
LSF = {
    "LSB_JOBID": "5", "LSB_DJOB_RANKFILE": "/absent", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "2",
    "JSM_NAMESPACE_RANK": "1",
}  # fmt: skip
SCHEDULERS = {"slurm": SLURM, "srun": SRUN, "tasks": TASKS, "torchrun": TORCHRUN, "lsf": LSF}


@pytest.fixture(autouse=True)
def same_rank() -> Any:
    yield
    rank_zero_only.rank = 0


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trainer_has_the_ranks_that_it_was_given(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SCHEDULERS[scheduler].items():
        monkeypatch.setenv(name, value)
    alike = {"accelerator": "cpu", "devices": 1, "logger": False}
    several = pl.Trainer(plugins=[OwnProcesses(Rank(1, 2, 1))], num_nodes=2, strategy="ddp", **alike)
    assert (several.global_rank, several.world_size) == (1, 2)
    assert rank_zero_only.rank == 1
    alone = pl.Trainer(plugins=[OwnProcesses(Rank())], **alike)
    assert (alone.global_rank, alone.world_size, rank_zero_only.rank) == (0, 1, 0)


def test_one_process_trains_the_same_whatever_a_scheduler_set(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.training.finish.draw_run", lambda *arguments: None)
    for name, variables in {"plain": {}, "set": LSF | SRUN | TORCHRUN}.items():
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            result = train("trainer.max_epochs=1", f"name={name}")
        assert result.code == 0, result.err
    ours, theirs = (json.loads((here / "runs" / name / "metrics.json").read_text()) for name in ("plain", "set"))
    assert ours == theirs


def test_a_rank_that_is_alone_where_two_were_started_stops() -> None:
    with pytest.raises(CxrError, match="process 1 of 2 is connected as process 0 of 1"):
        ProcessCountCheck(Rank(1, 2)).setup(pl.Trainer(logger=False, accelerator="cpu"), pl.LightningModule(), "fit")


@pytest.mark.slow
def test_two_processes_train_the_same_inside_an_allocation(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    found = []
    for name, variables in {"plain": {}, "slurm": SLURM, "srun": TASKS, "torchrun": TORCHRUN}.items():
        command = [sys.executable, str(ROOT / "train.py"), *SMALL, "data.phantom_size=64", f"data.root={phantoms}",
                   "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", f"name={name}"]  # fmt: skip
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((here / "runs" / name / "metrics.json").read_text())["checkpoint_sha256"])
    assert len(set(found)) == 1


@pytest.mark.slow
def test_torchrun_trains_the_same_as_two_processes_of_ours(
    here: Path, phantoms: Path, environment: dict[str, str]
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d",
                "--rdzv_endpoint=localhost:0"]  # fmt: skip
    found = []
    for name, start in {"ours": [sys.executable], "theirs": torchrun}.items():
        command = [*start, str(ROOT / "train.py"), *SMALL, "data.phantom_size=64", f"data.root={phantoms}",
                   "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", f"name={name}"]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best epoch") == 1
        found.append(json.loads((here / "runs" / name / "metrics.json").read_text())["checkpoint_sha256"])
    assert found[0] == found[1]

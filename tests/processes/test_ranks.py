"""Which processes are ranks: those of torchrun, and with trainer=slurm those of srun."""

import os

import pytest

from cxr.errors import CxrError
from cxr.processes.ranks import Rank, first_host, given_rank

STEP = {
    "SLURM_JOB_ID": "123456", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],cpu1",
}  # fmt: skip
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in TORCHRUN:
            monkeypatch.delenv(name)


def use(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_torchrun_gives_the_rank_with_any_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, TORCHRUN | STEP)
    assert given_rank("auto") == given_rank("ddp") == Rank(number=5, count=8, local=1)


@pytest.mark.parametrize("variables", [STEP, {k: v for k, v in TORCHRUN.items() if "ELASTIC" not in k}])
def test_variables_alone_start_nothing(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    use(monkeypatch, variables)
    assert given_rank("auto") is given_rank("ddp") is None


def test_slurm_gives_the_rank_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, STEP)
    for name in ("MASTER_ADDR", "MASTER_PORT"):  # which given_rank sets: restored after this test
        monkeypatch.setenv(name, "")
        del os.environ[name]
    assert given_rank("slurm") == Rank(number=3, count=4, local=1)
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("gpu07", "23456")


def test_slurm_without_srun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0"})  # as in a batch script
    with pytest.raises(CxrError, match="SLURM_STEP_NUM_TASKS is not set; start the program with srun"):
        given_rank("slurm")


@pytest.mark.parametrize(
    ("hosts", "first"), [("a", "a"), ("a1,b2", "a1"), ("a[1-3]", "a1"), ("a[07,09-12],b", "a07"), ("n-3[4]", "n-34")]
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first

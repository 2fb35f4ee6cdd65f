"""A small training, and a SLURM of this host alone in a temporary folder: munged, slurmctld and slurmd."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import pytest

from cxr.phantom import write_phantoms
from tests.end_to_end.conftest import ROOT, SMALL

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port1}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=20
MinJobAge=3600
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "srun": "slurm-wlm", "munged": "munge"}
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{':'.join(map(str, Path('/usr/lib/postgresql').glob('*/bin')))}"


def needs(programs: dict[str, str]) -> None:
    """Skips the test if programs are missing, and names their Debian packages."""
    missing = sorted({package for program, package in programs.items() if shutil.which(program, path=PATH) is None})
    if missing:
        pytest.skip(f"programs are missing: apt-get install --no-install-recommends {' '.join(missing)}")


def plain_environment() -> dict[str, str]:
    """The environment of a shell outside any job: one thread, and the checkout is importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "MASTER_", "RANK", "CXR_"))}
    paths = [str(Path(sys.executable).parent), PATH]
    python = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return kept | python | {"PATH": ":".join(paths), "HYDRA_FULL_ERROR": "0"}


def sha(run: Path) -> str:
    """The checksum of a finished run's best checkpoint."""
    return str(json.loads((run / "metrics.json").read_text())["checkpoint_sha256"])


def wait_for(path: Path, seconds: float = 400) -> None:
    """Waits until a file exists."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, [file.read_text()[-2000:] for file in Path().glob("slurm-*.out")]
        time.sleep(0.3)


def end(folder: Path, *daemons: str) -> None:
    for daemon in daemons:
        file = folder / f"{daemon}.pid"
        if file.exists():
            os.kill(int(file.read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any((folder / f"{daemon}.pid").exists() for daemon in daemons):
        time.sleep(0.2)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment for SLURM: of daemons of our own, or with `make check-cluster` of the user's cluster."""
    if os.environ.get("CXR_CLUSTER"):
        yield plain_environment() | {key: value for key, value in os.environ.items() if key == "SLURM_CONF"}
        return
    needs(PROGRAMS)
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    for part in ("state", "spool"):
        (folder / part).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    text = CONFIGURATION.format(folder=folder, host=host, port=port, port1=port + 1, user=getuser())
    (folder / "slurm.conf").write_text(text)
    environment = plain_environment() | {"SLURM_CONF": str(folder / "slurm.conf")}
    parts = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{end}" for option, end in parts.items()]
    munge[2] = f"--pid-file={folder}/munged.pid"
    try:
        subprocess.run(["munged", "--force", *munge], env=environment, check=True)
        subprocess.run(["slurmctld", "-f", folder / "slurm.conf"], env=environment, check=True)
        subprocess.run(["slurmd", "-f", folder / "slurm.conf", "-N", host], env=environment, check=True)
        idle, deadline = "", time.monotonic() + 60
        while "idle" not in idle:
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()[-2000:]
            idle = subprocess.run(["sinfo", "-h"], env=environment, capture_output=True, text=True).stdout
            time.sleep(0.5)
        yield environment
    finally:
        subprocess.run(["scancel", f"--user={getuser()}"], env=environment, check=False)
        end(folder, "slurmd", "slurmctld")
        end(folder, "munged")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a training that takes seconds."""
    root = tmp_path_factory.mktemp("data") / "phantom"
    write_phantoms(root, images=90, size=64, processes=1)
    own = ("trainer.accelerator=cpu", "trainer.max_epochs=2", "data.phantom_size=64", f"data.root={root}")
    return [*(option for option in SMALL if not option.startswith("trainer=")), *own]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to what the examples need, from which jobs are submitted."""
    for name in ("train.py", "ensemble.py", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path

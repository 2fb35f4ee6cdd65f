"""Records of a sweep's jobs that another launcher started: how they are stopped, and what the summary makes of them."""

import csv
import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.cli.sweep import prepare, stop_jobs, summarise
from cxr.errors import CxrError


def record(runs: Path, number: int, **more: Any) -> None:
    folder = runs / ".hydra" / "s" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"job": number, "name": f"job-{number}", "overrides": ["seed=1"], "began": 5.0, "reason": "",
               "seconds": None, "status": "running", "host": socket.gethostname(), "parent": 1}  # fmt: skip
    (folder / f"{number}.json").write_text(json.dumps(content | more))


def test_a_job_that_left_no_end_has_failed(tmp_path: Path) -> None:
    record(tmp_path, 0)
    record(tmp_path, 1, status="failed", reason="the disk is full", seconds=2)
    record(tmp_path, 2, began=1.0)  # of an earlier call
    assert summarise(tmp_path / "s", 3.0) == ["2 of 2 jobs failed"]
    with (tmp_path / "s" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["status"], row["reason"]) for row in rows] == [
        ("job-0", "failed", "it ended without saying why, or still runs"), ("job-1", "failed", "the disk is full"),
    ]  # fmt: skip


def test_a_stopped_sweep_waits_for_the_checkpoints_of_its_jobs_on_this_host(tmp_path: Path) -> None:
    job = "trap 'sleep 0.5; touch checkpoint; exit' TERM; touch ready; while :; do sleep 0.05; done"
    start = f"({job}) > /dev/null 2>&1 & echo $!; while [ ! -e ready ]; do sleep 0.05; done"
    process = subprocess.run(["sh", "-c", start], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    record(tmp_path, 0, process=int(process), parent=int(process))
    record(tmp_path, 1, process=1, host="another")
    stop_jobs(tmp_path / "s", 3.0)
    assert (tmp_path / "checkpoint").exists()


def test_several_processes_do_not_start_the_same_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.create({"trainer": {"strategy": "slurm"}})
    with pytest.raises(CxrError, match="hydra/launcher=submitit_slurm"):
        prepare(config, [])
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CxrError, match="hydra/launcher=submitit_slurm"):
        prepare(OmegaConf.create({"trainer": {"strategy": "auto"}}), [])

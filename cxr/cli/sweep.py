"""A sweep of training runs: its folder, the names of its jobs, their records and a summary."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cxr.configuration.kinds import checked
from cxr.configuration.plugins import trust
from cxr.configuration.private import hidden, without_places
from cxr.configuration.schema import Train
from cxr.errors import CxrError, first_line
from cxr.files.naming import check_name, free_name, legal_name
from cxr.files.reading import read_text
from cxr.files.writing import write_text
from cxr.processes.isolation import alive, die_with_parent, in_child
from cxr.processes.ranks import given_rank
from cxr.processes.stopping import Stopped, pass_on, requests
from cxr.run.directory import Run
from cxr.run.folds import fold_of


def prepare(config: DictConfig, arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Chooses the folder of a sweep.

    Returns:
        The folder, and further overrides that exclude constant keys from the names of jobs.

    Raises:
        CxrError: `name` is the same for all jobs, the folder exists, or torchrun or srun started several sweeps.
    """
    if config.trainer.strategy == "slurm" or given_rank(""):
        raise CxrError(
            "a sweep is started once, not by torchrun or srun; use hydra/launcher=submitit_slurm trainer=ddp"
        )
    if config.name is not None and not any(o.startswith("name=") and "," in o for o in arguments):
        raise CxrError(f"name={config.name} would be the name of every job of the sweep; use sweep={config.name}")
    checked(Train, {key: config[key] for key in ("name", "sweep", "runs_dir", "resume")})
    check_name(config.sweep, "sweep")
    runs = Path(config.runs_dir)
    sweep = config.sweep or free_name(runs, "sweep")
    if (runs / sweep).exists() and config.resume is False:
        raise CxrError(f"{runs / sweep} exists; choose another sweep=, or pass resume=true to run its missing jobs")
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    varied = {o.key_or_group for o in parsed if o.is_sweep_override()}
    same = [o.key_or_group for o in parsed if o.key_or_group not in varied]
    named = [f"sweep={sweep}"] * (config.sweep is None)
    keys = json.dumps([*same, "sweep"]).replace(" ", "")
    return runs / sweep, [*named, f"hydra.job.config.override_dirname.exclude_keys={keys}"]


def run_job(config: DictConfig, context: Any, begin: Callable[[], float]) -> float:
    """Runs a job in a child process and records how it ended, whichever launcher of Hydra started this process.

    Args:
        begin: starts or resumes the training; it may set `config.name` in the child.

    Returns:
        The return value of `begin`; NaN for a failed job.

    Raises:
        Stopped, KeyboardInterrupt: a signal or ctrl-C stopped the sweep.
    """
    if requests.received:
        raise Stopped(requests.received)
    trust([config.plugins] if isinstance(config.plugins, str) else config.plugins)
    if context.runtime.choices.get("hydra/launcher") == "joblib":  # its worker processes would survive the sweep
        die_with_parent()
    began, number = time.time(), int(context.job.num)
    record: dict[str, Any] = {"job": number, "overrides": list(context.overrides.task), "status": "running"}
    record |= {
        "name": config.name or job_name(context),
        "began": began,
        "host": socket.gethostname(),
        "parent": os.getpid(),
    }

    def recorded() -> tuple[float, str]:
        _write(config, record | {"process": os.getpid()})
        return begin(), config.name

    try:
        value, record["name"] = in_child(recorded)
        record["status"] = "finished"
        return float(value)
    except (KeyboardInterrupt, Stopped) as stopped:
        record["reason"] = str(stopped) or "interrupted"
        raise
    except Exception as error:
        if not isinstance(error, CxrError) and os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        record["reason"] = first_line(error)
        print(f"error: job {number}: {record['reason']}", file=sys.stderr, flush=True)
        return float("nan")
    finally:
        record |= {"status": "failed" if record["status"] == "running" else record["status"]}
        _write(config, record | {"seconds": round(time.time() - began, 1)})


def _write(config: DictConfig, record: dict[str, Any]) -> None:
    record = {"reason": "", "seconds": None} | record
    for path in without_places(OmegaConf.to_container(config))[1].values():
        record["overrides"] = [override.replace(path, hidden(path)) for override in record["overrides"]]
        record["reason"] = record["reason"].replace(path, hidden(path))
    write_text(_records(Path(config.runs_dir) / str(config.sweep)) / f"{record['job']}.json", json.dumps(record))


def stop_jobs(sweep: Path, began: float) -> None:
    """Sends SIGTERM to the running jobs of a sweep on this host and waits for their checkpoints and records."""

    def running() -> list[dict[str, Any]]:
        jobs = [record for record in _read(sweep, began) if record["status"] == "running"]
        here = [job for job in jobs if job["host"] == socket.gethostname() and job["parent"] != os.getpid()]
        return [job for job in here if alive(job["process"]) or alive(job["parent"])]

    told: set[int] = set()
    while jobs := running():
        processes = {job["process"] for job in jobs}
        pass_on(list(processes - told))
        told |= processes
        time.sleep(0.2)


def job_name(context: Any) -> str:
    """The values that the sweep varies: of a group the option, of other keys `<key>-<value>`."""
    same = set(context.job.config.override_dirname.exclude_keys)
    parts = []
    for override in OverridesParser.create().parse_overrides(list(context.overrides.task)):
        key = override.key_or_group
        if key not in same:
            value = override.get_value_element_as_str()
            parts.append(value if key in context.runtime.choices else f"{key.rpartition('.')[2]}-{value}")
    return legal_name("-".join(parts))


def summarise(sweep: Path, began: float) -> list[str]:
    """Writes `summary.csv` of the jobs that ran and prints a table of them.

    Args:
        began: seconds since the epoch; jobs of earlier calls are left out.

    Returns:
        A sentence with the number of failed jobs, or an empty list.
    """
    rows = []
    for record in _read(sweep, began):
        if record["status"] == "running":
            record |= {"status": "failed", "reason": "it ended without saying why, or still runs"}
        run, finished = Run(sweep / record["name"]), record["status"] == "finished"
        numbers = {f"{split}_macro_auroc": run.metric(split) if finished else None for split in ("val", "test")}
        overrides = " ".join(o for o in record["overrides"] if not o.startswith("sweep="))
        rows.append(
            {"job": record["job"], "name": record["name"], "status": record["status"]}
            | numbers
            | {"seconds": record["seconds"], "overrides": overrides, "reason": record.get("reason", "")}
        )
    import pandas as pd

    columns = ["job", "name", "status", "val_macro_auroc", "test_macro_auroc", "seconds", "overrides", "reason"]
    text = pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\r\n")
    write_text(sweep / "summary.csv", text)
    width = max([len(row["name"]) for row in rows], default=4)
    print(f"\n{'run':{width}}  {'status':8}  val AUROC  test AUROC")
    for row in rows:
        scores = ["-" if row[f"{s}_macro_auroc"] is None else f"{row[f'{s}_macro_auroc']:.4f}" for s in ("val", "test")]
        print(f"{row['name']:{width}}  {row['status']:8}  {scores[0]:>9}  {scores[1]:>10}  {row['reason']}".rstrip())
    print(f"summary: {sweep / 'summary.csv'}", flush=True)
    finished = [Run(sweep / row["name"]) for row in rows if row["status"] == "finished"]
    if any(fold_of(run.config()) for run in finished):
        from cxr.evaluation.folds import summarise_folds

        try:
            summarise_folds(sweep, finished)
        except CxrError as error:
            print(f"no summary of folds: {error}", file=sys.stderr, flush=True)
    failed = sum(row["status"] != "finished" for row in rows)
    return [f"{failed} of {len(rows)} jobs failed"] if failed or not rows else []


def _read(sweep: Path, began: float) -> list[dict[str, Any]]:
    """The records of the jobs that began after a time, by number."""
    records = (json.loads(read_text(file)) for file in _records(sweep).glob("*.json"))
    return sorted((record for record in records if record["began"] >= began), key=lambda record: record["job"])


def _records(sweep: Path) -> Path:
    return sweep.parent / ".hydra" / sweep.name / "jobs"

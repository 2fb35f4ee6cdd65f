"""The command lines of training, ensembling and caching: compose, check, run a job or a sweep, say errors plainly.

Only Hydra is imported here: help and mistakes are answered before PyTorch would have loaded.
"""

import atexit
import csv
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cxr.command_line import read_command_line
from cxr.errors import CxrError, first_line
from cxr.files import read_text, write_text
from cxr.isolation import in_child
from cxr.options import (
    apply_resume,
    check_cache_options,
    check_ensemble_options,
    check_report_options,
    check_train_options,
    plain,
)
from cxr.private import hidden, shorten_home, without_places
from cxr.runs import Run, check_name, free_name, legal_name
from cxr.stopping import REQUEUE, SIGNALS, Stopped, requests

_INTERRUPTED = 130  # exit code, as shells give it to ctrl-C
_failure: list[str] = []  # what the job of this process could not do; Hydra would print a traceback


def train() -> None:
    """The program `train.py`."""
    sys.exit(_main("train", train_job, check_train_options))


def ensemble() -> None:
    """The program `ensemble.py`."""
    sys.exit(_main("ensemble", ensemble_job, check_ensemble_options))


def cache() -> None:
    """The program `python -m cxr.data.cache`."""
    sys.exit(_main("cache", cache_job, check_cache_options))


def evaluate() -> None:
    """The program `python -m cxr.evaluate`."""
    sys.exit(_main("evaluate", evaluate_job, check_report_options))


def compare() -> None:
    """The program `python -m cxr.compare`."""
    sys.exit(_main("compare", compare_job, check_report_options))


def conf_dir() -> Path:
    """Where the configuration lies: in a checkout `conf`, in an installed package `cxr/conf`."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def _main(program: str, job: Callable[[DictConfig], Any], check: Callable[[DictConfig], None]) -> int:
    sweep: Path | None = None
    began = time.time()
    requests.listen()
    atexit.register(_deafen)  # first, and so called last: then Python would give signals back to the system
    try:
        line = read_command_line(program, sys.argv[1:], str(conf_dir()))
        sys.argv[1:] = line.arguments
        if line.runs and line.config is not None:
            if not line.flags.multirun:
                check(line.config)  # a sweep's job is checked when its turn comes, so that the others run
            elif program == "train":
                sweep = _prepare_sweep(line.config, line.overrides)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=program)(job)()
    except CxrError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        return _say(str(error))
    except KeyboardInterrupt:
        _wait_no_more(_INTERRUPTED)
        if sweep is not None:
            _summarise(sweep, began)
        return _say(
            "interrupted; run it again to go on"
            if program != "train"
            else "interrupted; python train.py name=<run> resume=true goes on from the last checkpoint",
            _INTERRUPTED,
        )
    except Stopped as stopped:
        _wait_no_more(REQUEUE)
        if sweep is not None:
            _summarise(sweep, began)
        return _say(str(stopped), REQUEUE)
    if sweep is not None:
        return _summarise(sweep, began)
    return _say("; ".join(_failure)) if _failure else 0


def _wait_no_more(code: int) -> None:
    """Asked once more, the process ends at once, with the code that it would have ended with."""
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, lambda *_: os._exit(code))


def _deafen() -> None:
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def _say(sentence: str, code: int = 1) -> int:
    shown = "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in sentence)  # names drive no terminal
    print(f"error: {shown}", file=sys.stderr, flush=True)
    return code


def _prepare_sweep(config: DictConfig, arguments: Sequence[str]) -> Path:
    """Chooses the sweep's folder, and tells Hydra by its own options what the jobs are called after."""
    if config.name is not None and not any(o.startswith("name=") and "," in o for o in arguments):
        raise CxrError(f"name={config.name} would be the name of every job of the sweep; use sweep={config.name}")
    check_name(config.sweep, "sweep")
    runs = Path(config.runs_dir)
    sweep = config.sweep or free_name(runs, "sweep")
    if (runs / sweep).exists() and config.resume is False:
        raise CxrError(f"{runs / sweep} exists; choose another sweep=, or pass resume=true to do what is missing in it")
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    varied = {o.key_or_group for o in parsed if o.is_sweep_override()}
    same = [o.key_or_group for o in parsed if o.key_or_group not in varied]
    sys.argv += [f"sweep={sweep}"] * (config.sweep is None)
    sys.argv += [f"hydra.job.config.override_dirname.exclude_keys={json.dumps([*same, 'sweep']).replace(' ', '')}"]
    return runs / sweep


def train_job(config: DictConfig) -> float | None:
    """What Hydra calls for a run, or for each job of a sweep: starts it or goes on with it.

    Returns:
        The best validation macro AUROC, which sweepers maximise; NaN for a job of a sweep that failed.
    """
    context = HydraConfig.get()
    if context.mode != RunMode.MULTIRUN:
        return _guarded(lambda: _start(config, context))
    began, number = time.time(), int(context.job.num)
    record: dict[str, Any] = {"job": number, "overrides": list(context.overrides.task), "status": "failed"}
    record["name"] = config.name or _job_name(context)
    try:
        value, record["name"] = in_child(lambda: (_start(config, context), config.name))
        record["status"] = "finished"
        return float(value)
    except (KeyboardInterrupt, Stopped) as stopped:
        record["reason"] = str(stopped) or "interrupted"
        raise
    except (Exception, SystemExit) as error:
        if not isinstance(error, CxrError) and os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        record["reason"] = first_line(error)
        print(f"error: job {number}: {record['reason']}", file=sys.stderr, flush=True)
        return float("nan")
    finally:
        record |= {"began": began, "seconds": round(time.time() - began, 1)}
        for path in without_places(OmegaConf.to_container(config))[1].values():
            record["overrides"] = [override.replace(path, hidden(path)) for override in record["overrides"]]
            record["reason"] = record.get("reason", "").replace(path, hidden(path))
        write_text(_records(config) / f"{number}.json", json.dumps(record))


def ensemble_job(config: DictConfig) -> float | None:
    """What Hydra calls for an ensemble; returns its validation macro AUROC."""

    def run() -> float:
        from cxr.ensemble.stage import run_ensemble

        name = config.name or f"ensemble-{HydraConfig.get().runtime.choices.method}"
        return run_ensemble(plain(config), Run(Path(config.runs_dir) / name))

    return _guarded(run)


def evaluate_job(config: DictConfig) -> float | None:
    """What Hydra calls for an evaluation; returns the test macro AUROC."""
    from cxr.evaluation.run import evaluate as judge

    return _guarded(lambda: judge(plain(config)))


def compare_job(config: DictConfig) -> float | None:
    """What Hydra calls for a comparison; returns the best macro average."""
    from cxr.evaluation.compare import compare_runs

    return _guarded(lambda: compare_runs(plain(config)))


def cache_job(config: DictConfig) -> None:
    """What Hydra calls for a cache: builds it, or verifies it."""

    def run() -> float:
        from cxr.data.cache import CacheSettings, open_or_build
        from cxr.data.cache.verify import verify
        from cxr.training.reading import read_catalog

        chosen = plain(config)
        root, settings = chosen["data"]["root"], CacheSettings.of(chosen)
        catalog = read_catalog(chosen)
        if not config.verify:
            found, kept = open_or_build(catalog, root, settings)
            print(
                f"{found.folder}: {len(found.names)} images at {found.size} px, {len(kept)} of them usable", flush=True
            )
            return len(kept)
        folder, differences = verify(catalog, root, settings)
        for difference in differences:
            print(f"{difference.image}: {difference.reason}")
        if differences:
            raise CxrError(
                f"{len(differences)} images differ from {folder}; build again without verify=true, which takes over "
                "what is unchanged (if rows of the cache have changed, remove that folder first)"
            )
        print(f"{folder}: its {len(catalog)} images are those of the manifest", flush=True)
        return len(catalog)

    _guarded(run)


def _guarded(work: Callable[[], float]) -> float | None:
    try:
        return work()
    except CxrError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _failure.append(str(error))
        return None
    except Exception as error:
        if requests.asked:  # the request came where a library made another exception of it
            raise Stopped(f"stopped by {requests.asked}") from error
        raise


def _start(config: DictConfig, context: Any) -> float:
    """Starts a run, or goes on with it."""
    check_train_options(config)
    shorten_home(config)
    sweeping = context.mode == RunMode.MULTIRUN
    folder = Path(config.runs_dir) / (config.sweep or "")
    choices = {key: value for key, value in context.runtime.choices.items() if not key.startswith("hydra/")}
    choices["logger"] = ",".join(sorted(str(name) for name in config.logger))  # Hydra says none where there are several
    derived = _job_name(context) if sweeping else _run_name(choices)
    if config.resume is not False:
        if config.name is None and not sweeping:
            raise CxrError("resume needs to know the run: add name=<run>")
        config.name = config.name or derived
        run = Run(folder / config.name)
        if run.path.exists():
            saved = apply_resume(run, config, choices, list(context.overrides.task))
            from cxr.training.run import resume

            return resume(saved, run)
        if config.resume is True and not sweeping:
            known = sorted(path.name for path in folder.glob("*/") if (path / "config.yaml").exists())
            there = f"runs there are {', '.join(known)}" if known else "there is no run yet"
            raise CxrError(f"{run.path} does not exist, so it cannot go on; {there}")
    config.name = config.name or free_name(folder, derived)
    run = Run(folder / config.name)
    if run.path.exists():
        from cxr.runs import taken

        raise taken(run.path)
    from cxr.training.run import train

    return train({**plain(config), "choices": choices, "run_id": os.urandom(4).hex()}, run)


def _run_name(choices: dict[str, Any]) -> str:
    experiment = choices.get("experiment")
    return legal_name(
        str(experiment) if experiment else "-".join(str(choices[g]) for g in ("backbone", "attention", "loss"))
    )


def _job_name(context: Any) -> str:
    """The values that the sweep varies: a group's option alone, any other key with its name."""
    same = set(context.job.config.override_dirname.exclude_keys)
    parts = []
    for override in OverridesParser.create().parse_overrides(list(context.overrides.task)):
        key = override.key_or_group
        if key not in same:
            value = override.get_value_element_as_str()
            parts.append(value if key in context.runtime.choices else f"{key.rpartition('.')[2]}-{value}")
    return legal_name("-".join(parts))


def _records(config: DictConfig) -> Path:
    return Path(config.runs_dir) / ".hydra" / str(config.sweep) / "jobs"


def _summarise(sweep: Path, began: float) -> int:
    """Writes `summary.csv`, prints it as a table, and returns the exit code."""
    files = (sweep.parent / ".hydra" / sweep.name / "jobs").glob("*.json")
    records = sorted((json.loads(read_text(file)) for file in files), key=lambda record: record["job"])
    records = [record for record in records if record["began"] >= began]
    rows = []
    for record in records:
        run, finished = Run(sweep / record["name"]), record["status"] == "finished"
        numbers = {f"{split}_macro_auroc": run.macro_auroc(split) if finished else None for split in ("val", "test")}
        overrides = " ".join(o for o in record["overrides"] if not o.startswith("sweep="))
        rows.append(
            {"job": record["job"], "name": record["name"], "status": record["status"]}
            | numbers
            | {"seconds": record["seconds"], "overrides": overrides, "reason": record.get("reason", "")}
        )
    columns = ["job", "name", "status", "val_macro_auroc", "test_macro_auroc", "seconds", "overrides", "reason"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(sweep / "summary.csv", text.getvalue())
    width = max([len(row["name"]) for row in rows], default=4)
    print(f"\n{'run':{width}}  {'status':8}  val AUROC  test AUROC")
    for row in rows:
        scores = ["-" if row[f"{s}_macro_auroc"] is None else f"{row[f'{s}_macro_auroc']:.4f}" for s in ("val", "test")]
        print(f"{row['name']:{width}}  {row['status']:8}  {scores[0]:>9}  {scores[1]:>10}  {row['reason']}".rstrip())
    print(f"summary: {sweep / 'summary.csv'}", flush=True)
    failed = sum(row["status"] != "finished" for row in rows)
    return _say(f"{failed} of {len(rows)} jobs failed") if failed or not rows else 0

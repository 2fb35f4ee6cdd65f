"""One training, from a composed configuration to a finished run directory."""

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from cxr.errors import CxrError, counted
from cxr.files.reading import check_links
from cxr.files.writing import writing_only_if
from cxr.processes.ranks import Rank
from cxr.processes.stopping import requests
from cxr.run.directory import Run
from cxr.run.folds import fold_of
from cxr.run.ledger import ledger_beside
from cxr.run.smoke import is_smoke, scores_test
from cxr.training.assemble import Parts, assemble
from cxr.training.build import build_task
from cxr.training.checkpoint import resume_position
from cxr.training.devices import resolve_devices
from cxr.training.exchange import connect, receive, send, trusting, write_job
from cxr.training.failures import readable_error
from cxr.training.finish import finish, selected
from cxr.training.log import read_rows, read_steps, shown
from cxr.training.loggers import build_loggers
from cxr.training.prepare import Prepared, read_prepared
from cxr.training.resumption import Restored, read_resume_checkpoint
from cxr.training.saving import CheckpointFiles


def train(config: Mapping[str, Any], run: Run) -> float:
    """Trains a new run and returns its best epoch's value of what the task selects by.

    Configuration, data and weights are checked before `run.path` is created.

    Raises:
        CxrError: the configuration, the data, or a step of the training.
    """
    ledger_beside(run.path)
    if is_smoke(config):
        config = {**config, "smoke": True}
    parts = assemble(config, run, resolve_devices(config["trainer"]))
    if is_smoke(config):
        print("smoke run: test is not scored, metrics.csv is the only log, and comparisons leave it out", flush=True)
    run.create(config)
    with run.held():
        print(f"{run.path}: {_splits(parts.prepared)}", flush=True)
        return _execute(parts, None)


def resume(config: Mapping[str, Any], run: Run) -> float:
    """Resumes a run; `config` is its saved configuration with the changes that are allowed on resuming."""
    if run.is_finished(config):  # works on a read-only disk, too
        print(f"{run.path} is finished: best validation macro AUROC {shown(run.metric('val'))}")
        _print_if_test_not_scored(config, run)
        return selected(run, build_task(config).monitor)
    check_links(run.path)
    with run.held():
        for partial in run.last.parent.glob(".*-????????.ckpt"):  # of processes that were killed while writing
            partial.unlink(missing_ok=True)
        return _resume(config, run)


def _resume(config: Mapping[str, Any], run: Run) -> float:
    ledger_beside(run.path)  # a damaged ledger or log is an error now, not at the end of the training
    read_rows(run.log)
    read_steps(run.steps)
    devices = resolve_devices(config["trainer"])
    restored = read_resume_checkpoint(run, int(config["batch_size"]), devices.count)
    parts = assemble(config, run, devices, restored)
    prepared = parts.prepared
    if restored:
        about, (epoch, batches) = restored.content["cxr"], resume_position(restored.content)
        if about["split_fingerprint"] != prepared.split_fingerprint or about["labels_sha256"] != prepared.labels_sha256:
            raise CxrError(f"the data of {run.path} have changed since it was started; restore them or start a new run")
        where = f"epoch {epoch + 1}, batch {batches}" if batches else f"epoch {epoch + 1}"
        print(f"{run.path} resumes from {where}, step {restored.content['global_step']}", flush=True)
    else:
        print(f"{run.path} resumes from epoch 1, step 0: it was stopped before its first checkpoint", flush=True)
    run.check_there(config)
    run.save_config(config)
    return _execute(parts, restored)


def train_as(rank: Rank, begin: Callable[[], float], explain: Callable[[Rank, Exception], Exception]) -> float:
    """Trains a run in one of several processes.

    Args:
        begin: calls `train` or `resume`, in rank 0; the others get the run and its data from there.
        explain: gets the error of this process and returns the one to raise.

    Returns:
        The return value of `begin`; NaN in other ranks.
    """
    try:
        connect(rank)
        if rank.number == 0:
            try:
                return begin()
            finally:
                send(rank, None)  # unless it has sent its data: the run was finished, or could not begin
        requests.patient = True
        with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
            if receive(rank, Path(folder)):
                _follow(rank, Path(folder))
        return math.nan
    except Exception as error:
        raise explain(rank, error) from error
    finally:
        if dist.is_initialized():  # otherwise the process would end with SIGABRT, whatever its exit code
            dist.destroy_process_group()


def _follow(rank: Rank, folder: Path) -> None:
    """Trains a rank with the data that rank 0 has read and checked."""
    with trusting(folder) as run:
        config = run.config()
        restored = read_resume_checkpoint(run, int(config["batch_size"]), rank.count, show=False)
        parts = assemble(config, run, resolve_devices(config["trainer"]), restored, read_prepared(folder))
        work(parts, restored)


def work(parts: Parts, restored: Restored | None) -> None:
    """The work of each process of a run: fit, then score validation and (unless left out) test with `best.ckpt`."""
    config, run, trainer = parts.config, parts.run, parts.trainer
    data = parts.loaders(restored.start if restored else (0, 0))
    if restored:
        files = trainer.strategy.checkpoint_io
        assert isinstance(files, CheckpointFiles)
        files.restored = (restored.path, restored.content)
    if parts.rank.number == 0 and not is_smoke(config):
        trainer.loggers = build_loggers(config, run)
    try:
        with writing_only_if(lambda: run.check_there(config)):
            trainer.fit(parts.task, datamodule=data, ckpt_path=restored.path if restored else None, weights_only=True)
            finish(config, run, parts.prepared, data, trainer)
    except SystemExit:  # Lightning raises it on ctrl-C
        raise KeyboardInterrupt from None
    except (RuntimeError, OSError, CxrError) as error:
        run.check_there(config)
        data.check_cache()
        raise readable_error(error, run) from error


def _execute(parts: Parts, restored: Restored | None) -> float:
    run = parts.run
    if parts.rank.count > 1:
        send(parts.rank, lambda folder: _write_inputs(parts, folder))
    work(parts, restored)
    result = run.metrics()
    config, tests = parts.config, parts.prepared.catalog.test_splits
    splits = ("val", *tests) if scores_test(config) else ("val",)
    values = [f"{shown(run.metric(split))} {split}" for split in splits] + ["smoke run, no test"] * is_smoke(config)
    print(f"{run.path}: best epoch {result['best_epoch'] + 1}, macro AUROC {', '.join(values)}")
    print(f"figures are in {run.figures}", flush=True)
    _print_if_test_not_scored(config, run)
    return selected(run, parts.task.monitor)


def _write_inputs(parts: Parts, folder: Path) -> None:
    parts.prepared.write(folder)
    write_job(Run(parts.run.path.absolute()), folder)


def _print_if_test_not_scored(config: Mapping[str, Any], run: Run) -> None:
    """Prints the command that scores test if the finished run has no test results."""
    if not is_smoke(config) and "test" not in run.metrics():
        reason = "a fold" if fold_of(config) else "score_test=false"
        print(f"test was not scored ({reason}); python -m cxr evaluate run={run.path} scores it", flush=True)


def _splits(prepared: Prepared) -> str:
    catalog = prepared.catalog
    sizes = [f"{len(catalog.rows(name))} {name}" for name in ("train", "val", *catalog.test_splits)]
    patients = catalog.table["patient"].nunique()
    return f"{', '.join(sizes)} images of {counted(patients, 'patient')}, {counted(len(catalog.findings), 'finding')}"

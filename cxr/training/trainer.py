"""Lightning's Trainer of one rank, with the callbacks of a run."""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from cxr.errors import CxrError, first_line
from cxr.run.directory import Run
from cxr.task.base import Monitor
from cxr.training.devices import Devices, accumulation
from cxr.training.keeping import EarlyStopping, RunCheckpoints
from cxr.training.log import EpochLog, StepLog
from cxr.training.resumption import MidEpoch
from cxr.training.saving import WholeFiles
from cxr.training.world import OwnProcesses, Rank, WholeWorld


def trainer_of(
    config: Mapping[str, Any], run: Run | None, devices: Devices, rank: Rank, monitor: Monitor
) -> pl.Trainer:
    """The Trainer of one rank; without a run, one that only shows whether its options are accepted."""
    first, terminal = rank.number == 0, sys.stderr.isatty()
    processes = OwnProcesses(rank)
    callbacks: list[Callback] = []
    if run:
        written = config["checkpoint"]
        callbacks = [
            WholeWorld(rank),
            EpochLog(run.log, show=first),
            StepLog(run.steps, int(config["trainer"]["log_every_n_steps"])),
            MidEpoch(int(config["batch_size"])),
            RunCheckpoints(run, monitor, written["every_steps"], written["every_seconds"], written.get("keep_best", 1)),
        ]
    stopping = config["early_stopping"]
    if stopping and stopping["patience"] is not None:
        by = Monitor(stopping["monitor"], stopping["mode"]) if stopping["monitor"] else monitor
        callbacks.append(EarlyStopping(by.name, patience=int(stopping["patience"]), mode=by.mode))
    if terminal and first:
        callbacks.append(TQDMProgressBar(leave=False))
    options = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("accelerator", "devices", "strategy", "precision")
    }
    try:
        return pl.Trainer(
            accelerator=devices.accelerator,
            devices=devices.count if run else 1,
            strategy="ddp" if devices.count > 1 and run else "auto",
            precision=devices.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=accumulation(config, devices.count),
            callbacks=callbacks,
            logger=False,  # loggers write into the run, and are built when it exists
            default_root_dir=run.path if run else None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=terminal and first,
            enable_model_summary=False,
            enable_checkpointing=run is not None,
            plugins=[processes, WholeFiles(run)] if run else [processes],
            **options,
        )
    except (TypeError, ValueError) as error:
        raise CxrError(f"trainer: {first_line(error)}") from error


def quieten() -> None:
    """Lightning's notices that say nothing to a user of this program."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

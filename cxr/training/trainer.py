"""Lightning's Trainer of one rank, with the callbacks of a run."""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar

from cxr.configuration.targets import CALLBACKS, build
from cxr.errors import CxrError, first_line
from cxr.files.writing import write_text
from cxr.processes.ranks import Rank
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask
from cxr.training.devices import Devices, accumulation
from cxr.training.keeping import RunCheckpoints
from cxr.training.log import EpochLog, StepLog
from cxr.training.resumption import MidEpoch
from cxr.training.saving import CheckpointFiles
from cxr.training.world import OwnProcesses, ProcessCountCheck


def build_trainer(
    config: Mapping[str, Any], run: Run, devices: Devices, rank: Rank, task: ClassificationTask
) -> pl.Trainer:
    """The Trainer of one rank."""
    first, terminal = rank.number == 0, sys.stderr.isatty()
    saves = config["checkpoint"]
    callbacks: list[Callback] = [
        ProcessCountCheck(Rank(rank.number, devices.count)),
        EpochLog(run.log, show=first),
        StepLog(run.steps, int(config["trainer"]["log_every_n_steps"])),
        MidEpoch(int(config["batch_size"])),
        RunCheckpoints(run, task.monitor, saves["every_steps"], saves["every_seconds"], saves["keep_best"]),
    ]
    if config["trainer"].get("profiler") and first:
        callbacks.append(Profile(run))
    callbacks += build_callbacks(config, task)
    if terminal and first:
        callbacks.append(TQDMProgressBar(leave=False))
    options = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("accelerator", "devices", "strategy", "precision", "compile")
    }
    try:
        return pl.Trainer(
            accelerator=devices.accelerator,
            devices=[rank.local % torch.cuda.device_count()] if devices.accelerator == "gpu" else 1,
            num_nodes=rank.count,
            strategy="ddp" if rank.count > 1 else "auto",
            precision=devices.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=accumulation(config, devices.count),
            callbacks=callbacks,
            logger=False,  # loggers write into the run directory and are built when it exists
            default_root_dir=run.path,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=terminal and first,
            enable_model_summary=False,
            enable_checkpointing=True,
            plugins=[OwnProcesses(rank), CheckpointFiles(run)],
            **options,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise CxrError(f"trainer: {first_line(error)}") from error


def build_callbacks(config: Mapping[str, Any], task: ClassificationTask) -> list[Callback]:
    """The callbacks that a configuration chooses; `monitor: null` is the task's monitor.

    Raises:
        CxrError: an option file has no package line, names no callback, or one that is not allowed; or early stopping
            monitors a value that is not logged.
    """
    chosen = config["callbacks"] or {}
    if "_target_" in chosen:
        raise CxrError("the option file of a callback must begin with the line '# @package callbacks.NAME'")
    logged = ["lr", *(f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", *task.logged))]
    callbacks = []
    for name, node in chosen.items():
        if not node:
            continue
        callback = node
        if isinstance(node, Mapping):
            selects = {"monitor": task.monitor.name, "mode": task.monitor.mode}
            callback = build({**node, **(selects if node.get("monitor", "") is None else {})}, allow=CALLBACKS)
        if not isinstance(callback, Callback):
            raise CxrError(f"callbacks.{name} is not a Lightning callback; set its _target_ to one")
        if isinstance(callback, EarlyStopping) and callback.monitor not in logged:
            raise CxrError(f"{name}.monitor={callback.monitor} is not logged; choose one of {', '.join(logged)}")
        callbacks.append(callback)
    return callbacks


class Profile(Callback):
    """Writes the results of `trainer.profiler` to `profile.txt` in the run directory."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the file after training."""
        write_text(self.run.path / "profile.txt", trainer.profiler.summary())  # type: ignore[attr-defined]


def silence_lightning() -> None:
    """Hides Lightning's messages and warnings that are not about the user's run."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

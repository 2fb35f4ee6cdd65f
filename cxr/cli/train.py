"""The program `train`: starts or resumes a run or, with -m, a sweep of runs."""

import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cxr.cli.options import apply_resume, plain
from cxr.cli.program import Program
from cxr.cli.sweep import job_name, run_job
from cxr.configuration.plugins import from_user, user_configuration
from cxr.configuration.private import shorten_home
from cxr.configuration.schema import Train
from cxr.errors import CxrError
from cxr.files.naming import free_name, legal_name
from cxr.processes.ranks import given_rank
from cxr.run.directory import Run, name_taken_error


def job(config: DictConfig) -> float | None:
    """Trains one run, in a sweep in a child process.

    Returns:
        The best validation macro AUROC; NaN for a job of a sweep that failed.
    """
    context = HydraConfig.get()
    if context.mode == RunMode.MULTIRUN:
        return run_job(config, context, lambda: _begin(config, context))
    rank = given_rank(str(config.trainer.strategy))
    if rank is None:
        return _begin(config, context)
    from cxr.training.exchange import first_failure
    from cxr.training.run import train_as

    return train_as(rank, lambda: _begin(config, context), first_failure)


def _begin(config: DictConfig, context: Any) -> float:
    """Starts or resumes a run."""
    plain(config, Train)
    shorten_home(config)
    sweeping = context.mode == RunMode.MULTIRUN
    folder = Path(config.runs_dir) / (config.sweep or "")
    choices = {key: value for key, value in context.runtime.choices.items() if not key.startswith("hydra/")}
    for group in ("logger", "callbacks"):  # Hydra records None where several are chosen
        choices[group] = ",".join(sorted(str(name) for name in config[group] or ()))
    derived = job_name(context) if sweeping else _run_name(choices)
    if config.resume is not False:
        if config.name is None and not sweeping:
            raise CxrError("resume needs to know the run: add name=<run>")
        config.name = config.name or derived
        run = Run(folder / config.name)
        if run.path.exists():
            saved = apply_resume(run, config, choices, list(context.overrides.task))
            return _train(saved, run)
        if config.resume is True and not sweeping:
            known = sorted(path.name for path in folder.glob("*/") if (path / "config.yaml").exists())
            there = f"existing runs are {', '.join(known)}" if known else "there are no runs"
            raise CxrError(f"{run.path} does not exist, so it cannot be resumed; {there}")
    config.name = config.name or free_name(folder, derived)
    run = Run(folder / config.name)
    if run.path.exists():
        raise name_taken_error(run.path)
    with user_configuration():
        return _train({**plain(config, Train), "choices": choices, "run_id": os.urandom(4).hex()}, run)


def _train(config: dict[str, Any], run: Run) -> float:
    """Trains a run that the user has composed, or resumes one, in this process or in one process per device."""
    from cxr.training.devices import accumulation, count_devices

    count = 1 if run.is_finished(config) else count_devices(config["trainer"])[1]  # its devices may not be here
    if count > 1 and given_rank(str(config["trainer"]["strategy"])) is None:
        from cxr.training.launch import launch  # before the slow imports of a training

        accumulation(config, count)  # an error now
        return launch(config, run, count)
    from cxr.training.run import resume, train

    return (train if from_user() else resume)(config, run)


def _run_name(choices: dict[str, Any]) -> str:
    if choices.get("debug"):
        return legal_name(f"debug-{choices['debug']}")
    parts = "-".join(str(choices[group]) for group in ("backbone", "attention", "loss"))
    return legal_name(str(choices.get("experiment") or parts))


PROGRAM = Program(
    about="Trains one network, or with -m a sweep of them, and writes it to runs/<name>.",
    examples=(
        ("", "on the embedded phantoms, also without a GPU"),
        ("backbone=mobilenet data=nih data.root=DIR", "DIR in the layout of the NIH release"),
        ("-m backbone=mobilenet,resnet50 loss=bce,mae sweep=first", "every combination"),
        ("experiment=paper_mobilenet data.root=DIR", "the paper's recipe"),
        ("name=a resume=true", "resumes runs/a"),
    ),
    options=(
        "data.root", "name", "sweep", "resume", "seed", "image_size", "batch_size", "synthetic_batch_size",
        "optimizer.lr", "backbone.pretrained", "trainer.max_epochs", "trainer.devices", "trainer.precision",
        "early_stopping.patience", "data.workers",
    ),
    schema=Train,
    job=job,
)  # fmt: skip

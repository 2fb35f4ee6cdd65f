"""The program `evaluate`: metrics, tables and figures of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Evaluate
from cxr.run.directory import Run


def evaluate(options: Mapping[str, Any]) -> float:
    """Evaluates stored predictions, or those of the checkpoint, and returns the test macro AUROC.

    With `zero_shot` these are the scores of other findings, which are written to a folder beside the run first.
    """
    from cxr.evaluation.run import evaluate_run
    from cxr.training.finished_run import FinishedRun

    if options["zero_shot"]:
        from cxr.training.zero_shot import write_zero_shot

        made = write_zero_shot(Run(Path(options["run"])), options["zero_shot"], options)
        options = {**options, "run": str(made.path)}
    return evaluate_run(options, FinishedRun)


def job(config: DictConfig) -> float | None:
    """Evaluates a run; returns the test macro AUROC."""
    return evaluate(plain(config, Evaluate))


PROGRAM = Program(
    about="Evaluates the scores of a run and writes metrics.json, evaluation/ and figures/.",
    examples=(
        ("run=runs/a", "intervals, subgroups, tables and pictures; scores test if training did not"),
        ("run=runs/a calibration=temperature", "and calibrated test scores"),
        ("run=runs/a zero_shot=[Hernia] text.model=DIR", "of a finding that was not trained, by its name"),
        ("run=runs/a points.sensitivity=0.95 resamples=5000", ""),
    ),
    options=(
        "run", "resamples", "seed", "points.half", "points.youden", "points.f1", "points.sensitivity",
        "points.specificity", "calibration", "localisation", "zero_shot", "text.file",
        "text.model", "accelerator", "data.root", "cache.dir",
    ),
    schema=Evaluate,
    job=job,
)  # fmt: skip

"""The program `evaluate`: metrics, tables and figures of a run."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Evaluate


def evaluate(options: Mapping[str, Any]) -> float:
    """Evaluates stored predictions, or those of the checkpoint, and returns the test macro AUROC."""
    from cxr.evaluation.run import evaluate_run
    from cxr.training.finished_run import FinishedRun

    return evaluate_run(options, FinishedRun)


def job(config: DictConfig) -> float | None:
    """Evaluates a run; returns the test macro AUROC."""
    return evaluate(plain(config, Evaluate))


PROGRAM = Program(
    about="Evaluates the scores of a run and writes metrics.json, evaluation/ and figures/.",
    examples=(
        ("run=runs/a", "intervals, subgroups, tables and figures; scores test if training did not"),
        ("run=runs/a calibration=temperature", "and calibrated test scores"),
        ("run=runs/a points.sensitivity=0.95 resamples=5000", ""),
    ),
    options=(
        "run", "resamples", "seed", "points.half", "points.youden", "points.f1", "points.sensitivity",
        "points.specificity", "calibration", "localisation", "accelerator", "data.root", "cache.dir",
    ),
    schema=Evaluate,
    job=job,
)  # fmt: skip

"""The program `evaluate`: what the predictions of a run are worth."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Evaluate


def evaluate(options: Mapping[str, Any]) -> float:
    """Evaluates a run with its stored predictions, or those that its checkpoint makes; returns the test macro AUROC."""
    from cxr.evaluation import run
    from cxr.training.scored import FinishedRun

    return run.evaluate(options, FinishedRun)


def job(config: DictConfig) -> float | None:
    """Evaluates a run; returns the test macro AUROC."""
    return evaluate(plain(config, Evaluate))


PROGRAM = Program(
    about="Says what the scores of a run are worth, into metrics.json, evaluation/ and figures/.",
    examples=(
        ("run=runs/a", "intervals, subgroups, tables and pictures; scores test if that was left out"),
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

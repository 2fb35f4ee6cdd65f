"""The program `ensemble`: combines finished runs, with weights chosen on validation."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Ensemble
from cxr.run.directory import Run


def job(config: DictConfig) -> float:
    """Combines runs; returns the validation macro AUROC."""
    from cxr.ensemble.stage import run_ensemble

    suffix = "" if config.tta == "none" else f"-{config.tta}"
    name = config.name or f"ensemble-{HydraConfig.get().runtime.choices.method}{suffix}"
    return run_ensemble(plain(config, Ensemble), Run(Path(config.runs_dir) / name))


PROGRAM = Program(
    about="Combines finished runs into one classifier, with weights chosen on validation, in runs/<name>.",
    examples=(
        ("method=weighted runs='[runs/a,runs/b,runs/c]'", ""),
        ("method=average runs='runs/paper/*'", ""),
        ("method=stacking runs='runs/paper/*'", ""),
        ("method=weighted method.search=coordinate method.objective=brier runs='runs/paper/*'", ""),
        ("method=weighted method.weights=per_finding runs='runs/first/*' name=mine", ""),
    ),
    options=(
        "runs", "name", "runs_dir", "method.weights", "method.search", "method.objective", "method.step",
        "method.shrinkage", "method.robust", "bootstrap", "seed", "tta", "accelerator", "data.root",
        "cache.dir",
    ),
    schema=Ensemble,
    job=job,
)  # fmt: skip

"""The program `evaluate`: metrics, tables and figures of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.programs import Evaluate
from cxr.errors import CxrError
from cxr.files.naming import check_name
from cxr.files.reading import check_links
from cxr.run.directory import Run


def evaluate(options: Mapping[str, Any]) -> float:
    """Evaluates stored predictions, or those of the checkpoint, and returns the test macro AUROC.

    With `zero_shot` these are the scores of other findings, which are written to a folder beside the run first.
    """
    from cxr.evaluation.run import evaluate_run
    from cxr.training.finished_run import FinishedRun

    if options.get("zero_shot"):
        from cxr.training.zero_shot import write_zero_shot

        made = write_zero_shot(Run(Path(options["run"])), options["zero_shot"], options)
        options = {**options, "run": str(made.path)}
    return evaluate_run(options, FinishedRun)


def evaluate_elsewhere(options: Mapping[str, Any], name: str) -> float:
    """Evaluates a run on another data set, called `name`, and returns its macro AUROC there."""
    from cxr.evaluation.run import evaluate_run
    from cxr.training.external import External

    source, folder = Run(Path(options["run"])), str(options["external"] or name)
    if not source.path.is_dir():
        raise CxrError(f"run={options['run']} is not a directory; give one of runs/")
    source.refuse_smoke()
    check_name(folder, "external")
    check_links(source.path)
    target = source.path / "external" / folder
    target.mkdir(parents=True, exist_ok=True)
    return evaluate_run({**options, "run": str(target)}, lambda run, chosen: External(source, chosen, name))


def job(config: DictConfig) -> float | None:
    """Evaluates a run; returns the test macro AUROC."""
    options, name = plain(config, Evaluate), HydraConfig.get().runtime.choices.get("data")
    if options["tta"] != "none":
        from cxr.training.averaged import averaged

        options["run"] = str(averaged(Run(Path(options["run"])), options["tta"]).path)
    if "source" in options["data"]:
        if options["zero_shot"]:
            raise CxrError("zero_shot scores the run's own data set; leave out data=NAME")
        return evaluate_elsewhere(options, str(name))
    elsewhere = {"images": "test", "external": None, "cache.on_error": "fail"}
    given = {**options, "cache.on_error": options["cache"]["on_error"]}
    for key, default in elsewhere.items():
        if given[key] != default:
            raise CxrError(f"{key}={given[key]} is for another data set; pass data=NAME with it, or leave it out")
    return evaluate(options)


PROGRAM = Program(
    about="Evaluates the scores of a run and writes metrics.json, evaluation/ and figures/.",
    examples=(
        ("run=runs/a", "intervals, subgroups, tables and figures; scores test if training did not"),
        ("run=runs/a calibration=temperature", "and calibrated test scores"),
        ("run=runs/a tta=flip", "with scores averaged over images and mirror images, in runs/a-flip"),
        ("run=runs/a zero_shot=[Hernia] text.model=DIR", "of a finding that was not trained, by its name"),
        ("run=runs/a data=table data.file=films.csv data.root=DIR images=all", "on another data set"),
        ("run=runs/a points.sensitivity=0.95 resamples=5000", ""),
    ),
    options=(
        "run", "resamples", "seed", "points.sensitivity",
        "points.specificity", "calibration", "localisation", "images", "external", "zero_shot", "tta",
        "data.root", "cache.dir", "cache.on_error",
    ),
    schema=Evaluate,
    job=job,
)  # fmt: skip

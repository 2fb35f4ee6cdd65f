"""What stored predictions are worth, into the run's own directory: the work of `python -m cxr evaluate`."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cxr.configuration.kinds import checked
from cxr.configuration.schema import Evaluate
from cxr.errors import CxrError
from cxr.evaluation.judge import calibrate, judge
from cxr.evaluation.tables import notes_of, write_tables
from cxr.figures.intervals import forest, precision_recall_curves, reliability, subgroup_points
from cxr.files.reading import check_links
from cxr.files.writing import write_text
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import value_of
from cxr.run.directory import Run
from cxr.run.ledger import ledger_beside
from cxr.run.predictions import Predictions
from cxr.run.smoke import smoke_refused
from cxr.run.splits import describe_split

Scores = Callable[[Run, Mapping[str, Any], Path], Mapping[str, Predictions]]
Maps = Callable[[Run, Mapping[str, Any], Resampling], dict[str, Any] | None]


def evaluate(config: Mapping[str, Any], scores_of: Scores, maps_of: Maps) -> float:
    """Judges one directory and returns its test macro AUROC.

    Args:
        config: see `conf/evaluate.yaml`.
        scores_of: predictions of a run, by split, given the options and a folder for those that are made again.
        maps_of: its attention maps judged against boxes; raises CxrError where its images cannot be read.

    Raises:
        CxrError: no predictions, an option, or a disk that is full.
    """
    config = checked(Evaluate, config)
    run, plan = Run(Path(config["run"])), Resampling(config["resamples"], config["seed"])
    if not run.path.is_dir():
        raise CxrError(f"run={config['run']} is no directory; give one of runs/")
    check_links(run.path)
    ledger_beside(run.path)
    if run.smoke:
        raise smoke_refused(run.path)
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        loaded = scores_of(run, config, Path(scratch))
    val, test = loaded["val"], loaded["test"]
    saved = run.metrics()
    positives = saved.get("train", {}).get("positives")
    found = judge(val, test, dict(config["points"]), plan, positives)
    metrics = {**saved, **{split: {**saved.get(split, {}), **found[split]} for split in ("val", "test")}}
    metrics["evaluation"] = {"resamples": plan.resamples, "seed": plan.seed, "level": plan.level}
    metrics["split"] = describe_split(val, test)
    if config["calibration"] != "none":
        scaling, scaled, metrics["calibration"] = calibrate(val, test, str(config["calibration"]))
        write_text(run.path / "calibration.json", json.dumps(scaling.as_plain(), indent=1) + "\n")
        scaled.write(run.predictions("test_calibrated"))
    if config["localisation"]:
        metrics["localisation"] = _localisation(run, metrics, plan, config, maps_of)
    notes = notes_of(run, val, test, metrics, "evaluate")
    made = write_tables(run, run.path.name, metrics, test.findings, notes)
    _draw(run, val, test, metrics)
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")
    print(made["auroc"].as_text())
    print(f"tables are in {run.path / 'evaluation'}, pictures in {run.figures}", flush=True)
    return value_of(metrics["test"]["macro_auroc"])


def _localisation(
    run: Run, metrics: Mapping[str, Any], plan: Resampling, options: Mapping[str, Any], maps_of: Maps
) -> Any:
    """Computed again if the run's images can be read, else what `metrics.json` holds."""
    if not run.best.exists():
        return metrics.get("localisation")
    try:
        return maps_of(run, options, plan)
    except CxrError as error:
        print(f"attention is not judged against boxes, since the images cannot be read: {error}", flush=True)
        return metrics.get("localisation")


def _draw(run: Run, val: Predictions, test: Predictions, metrics: Mapping[str, Any]) -> None:
    title = f"{run.path.name}, test"
    forest(metrics["test"], test.findings, run.figures / "intervals_test.png", title)
    reliability(test.target, test.score, test.findings, run.figures / "reliability_test.png", title, test.patient)
    precision_recall_curves(test.target, test.score, test.findings, run.figures / "precision_recall_test.png", title)
    subgroup_points(metrics["test"]["subgroups"], run.figures / "subgroups_test.png", f"{title}, subgroups")

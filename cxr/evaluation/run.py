"""What the scores of a run are worth, into the run's own directory: the work of `python -m cxr evaluate`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from cxr.configuration.kinds import checked
from cxr.configuration.schema import Evaluate
from cxr.errors import CxrError
from cxr.evaluation.judge import calibrate, check_together, fit_scaling, judge, of_test
from cxr.evaluation.tables import notes_of, write_tables
from cxr.figures.figures import roc_curves
from cxr.figures.intervals import forest, precision_recall_curves, reliability, subgroup_points
from cxr.files.reading import check_links
from cxr.files.writing import write_text
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import number, value_of
from cxr.run.ancestry import UNKNOWN, Ancestry
from cxr.run.directory import Run
from cxr.run.ledger import ledger_beside
from cxr.run.naming import CALIBRATED
from cxr.run.predictions import Predictions
from cxr.run.smoke import smoke_refused
from cxr.run.splits import describe_split


class Scored(Protocol):
    """What the program hands over of a run: its scores, and what only its network can say."""

    @property
    def ancestry(self) -> Ancestry:
        """What its weights have learnt from."""

    def predictions(self) -> tuple[Mapping[str, Predictions], frozenset[str]]:
        """Of validation and every test split, the last one `test`, and which of them had to be made."""

    def own_metrics(self, predicted: Predictions) -> dict[str, float]:
        """What the task adds to the metrics of a split."""

    def localisation(self, split: str, resampling: Resampling) -> dict[str, Any] | None:
        """Attention maps judged against boxes; raises CxrError where the images cannot be read."""

    def draw_attention(self, split: str, predictions: Mapping[str, Predictions]) -> None:
        """Draws the attention maps of a split."""


def evaluate(config: Mapping[str, Any], scored: Callable[[Run, Mapping[str, Any]], Scored]) -> float:
    """Judges one directory and returns its test macro AUROC.

    Args:
        config: see `conf/evaluate.yaml`.
        scored: opens a run, given the options.

    Raises:
        CxrError: no scores, a run that is being trained or evaluated, an option, or a disk that is full.
    """
    config = checked(Evaluate, config)
    run, plan = Run(Path(config["run"])), Resampling(config["resamples"], config["seed"])
    if not run.path.is_dir():
        raise CxrError(f"run={config['run']} is no directory; give one of runs/")
    check_links(run.path)
    ledger_beside(run.path)
    if run.smoke:
        raise smoke_refused(run.path)
    with run.held():
        if run.unfinished:
            raise CxrError(
                f"{run.path} is not finished: its training can go on and has no metrics.json of its end; finish it "
                f"with python -m cxr train name={run.path.name} resume=true"
            )
        return _evaluate(run, scored(run, config), config, plan)


def _evaluate(run: Run, scored: Scored, config: Mapping[str, Any], plan: Resampling) -> float:
    predictions, made = scored.predictions()
    tests, val, saved = {name: p for name, p in predictions.items() if name != "val"}, predictions["val"], run.metrics()
    check_together(val, tests)
    if scored.ancestry.unknown:
        saved[UNKNOWN] = list(scored.ancestry.unknown)
    notes = {name: notes_of(run, val, test, saved, "evaluate") for name, test in tests.items()}
    for name in predictions:
        if name in made:
            predictions[name].write(run.predictions(name))
    found = judge(val, tests, dict(config["points"]), plan, saved.get("train", {}).get("positives"))
    for name in [name for name in predictions if name not in saved and run.best.exists()]:
        own = scored.own_metrics(predictions[name])
        found[name] |= {key: number(value) for key, value in own.items() if key not in found[name]}
    judged = {name: {**saved.get(name, {}), **found[name]} for name in ("val", "test", *tests)}
    metrics = {**judged, **{key: value for key, value in saved.items() if key not in judged}}
    metrics["evaluation"] = {"resamples": plan.resamples, "seed": plan.seed, "level": plan.level}
    if val.checkpoint_sha256:
        metrics["checkpoint_sha256"] = val.checkpoint_sha256
    for name, test in tests.items():
        of_test(metrics, name)["split"] = describe_split(val, test)
    if config["calibration"] != "none":
        _calibrate(run, val, tests, str(config["calibration"]), metrics)
    if config["localisation"]:
        _localise(run, scored, predictions, plan, metrics)
    for name, test in tests.items():
        tables = write_tables(run, name, run.path.name, metrics, test.findings, notes[name])
        _draw(run, name, test, metrics)
        print(tables["auroc"].as_text())
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")
    print(f"tables are in {run.path / 'evaluation'}, pictures in {run.figures}", flush=True)
    return value_of(metrics["test"]["macro_auroc"])


def _calibrate(
    run: Run, val: Predictions, tests: Mapping[str, Predictions], method: str, metrics: dict[str, Any]
) -> None:
    scaling = fit_scaling(val, method)
    write_text(run.path / "calibration.json", json.dumps(scaling.as_plain(), indent=1) + "\n")
    for name, test in tests.items():
        scaled, of_test(metrics, name)["calibration"] = calibrate(test, scaling, method)
        scaled.write(run.predictions(f"{name}{CALIBRATED}"))


def _localise(
    run: Run, scored: Scored, predictions: Mapping[str, Predictions], plan: Resampling, metrics: dict[str, Any]
) -> None:
    """Attention, judged and drawn, if the run's images can be read; else what `metrics.json` holds stays."""
    tests = [name for name in predictions if name != "val"]
    for name in tests:
        of_test(metrics, name).setdefault("localisation", None)
    if not run.best.exists():
        return
    try:
        for name in tests:
            of_test(metrics, name)["localisation"] = scored.localisation(name, plan)
            scored.draw_attention(name, predictions)
    except CxrError as error:
        print(f"attention is not judged against boxes, since the images cannot be read: {error}", flush=True)


def _draw(run: Run, split: str, test: Predictions, metrics: Mapping[str, Any]) -> None:
    title, figures = f"{run.path.name}, {split}", run.figures
    forest(metrics[split], test.findings, figures / f"intervals_{split}.png", title)
    reliability(test.target, test.score, test.findings, figures / f"reliability_{split}.png", title, test.patient)
    curves = figures / f"precision_recall_{split}.png"
    precision_recall_curves(test.target, test.score, test.findings, curves, title)
    subgroup_points(metrics[split]["subgroups"], figures / f"subgroups_{split}.png", f"{title}, subgroups")
    if run.best.exists():  # the picture that a training draws, which may have left it to us
        roc_curves(test.target, test.score, test.findings, figures / f"roc_{split}.png", title)

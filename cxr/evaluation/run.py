"""Evaluates a run directory and writes metrics, tables and figures into it: `python -m cxr evaluate`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cxr.errors import CxrError
from cxr.evaluation.attributes_only import attributes_only
from cxr.evaluation.evaluate import calibrate, check_together, evaluate, fit_scaling, of_test
from cxr.evaluation.scored import Scored
from cxr.evaluation.tables import notes_of, split_of, write_tables
from cxr.figures.canvas import draw
from cxr.figures.curves import precision_recall_curves, reliability, roc_curves
from cxr.figures.intervals import forest, subgroup_points
from cxr.figures.labels import confusion
from cxr.files.naming import CALIBRATED
from cxr.files.reading import check_links
from cxr.files.writing import write_text
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import value_of
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import Run
from cxr.run.ledger import ledger_beside
from cxr.run.predictions import Predictions


def evaluate_run(config: Mapping[str, Any], scored: Callable[[Run, Mapping[str, Any]], Scored]) -> float:
    """Evaluates a run directory and returns its test macro AUROC.

    Raises:
        CxrError: no scores, a run that is being trained or evaluated, or a full disk.
    """
    run = Run(Path(config["run"]))
    if not run.path.is_dir():
        raise CxrError(f"run={config['run']} is not a directory; give one of runs/")
    check_links(run.path)
    ledger_beside(run.path)
    run.refuse_smoke()
    with run.held():
        if run.unfinished:
            raise CxrError(
                f"{run.path} is not finished: its training can be resumed and has not written its final metrics.json; "
                f"finish it with python -m cxr train name={run.path.name} resume=true"
            )
        return _evaluate(run, scored(run, config), config)


def _evaluate(run: Run, scored: Scored, config: Mapping[str, Any]) -> float:
    predictions, made = scored.predictions()
    plan, saved, val = Resampling(config["resamples"], config["seed"]), run.metrics() | scored.about, predictions["val"]
    tests = {name: p for name, p in predictions.items() if name != "val"}
    check_together(val, tests)
    if scored.ancestry.unknown:
        saved[UNKNOWN] = list(scored.ancestry.unknown)
    notes = {name: notes_of(run, val, test, saved, "evaluate") for name, test in tests.items()}
    for name in predictions:
        if name in made:
            predictions[name].write(run.predictions(name))
    results = evaluate(val, tests, dict(config["points"]), plan, saved.get("train", {}).get("positives"))
    for name in predictions if run.best.exists() else ():
        results[name] = scored.own_metrics(predictions[name], plan) | results[name]
    fitted = saved.get("train", {}).get("attributes_only")
    for name, p in predictions.items() if fitted else ():
        results[name]["attributes_only"] = attributes_only(p, fitted, plan)
    splits = {name: {**saved.get(name, {}), **results[name]} for name in ("val", "test", *tests)}
    metrics = {**splits, **{key: value for key, value in saved.items() if key not in splits}}
    metrics["evaluation"] = {"resamples": plan.resamples, "seed": plan.seed, "level": plan.level}
    of_members = isinstance(saved.get("checkpoint_sha256"), Mapping)  # an ensemble names the checkpoint of each
    if val.checkpoint_sha256 and not of_members:
        metrics["checkpoint_sha256"] = val.checkpoint_sha256
    for name, test in tests.items():
        of_test(metrics, name)["split"] = split_of(val, test, metrics)
    if config["calibration"] != "none":
        _calibrate(run, val, tests, str(config["calibration"]), metrics)
    if config["localisation"]:
        _localise(run, scored, predictions, plan, metrics)
    for name, test in tests.items():
        tables = write_tables(run, name, run.path.name, metrics, test.findings, notes[name])
        _draw(run, name, test, metrics)
        print(tables["auroc"].as_text())
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")
    print(f"tables are in {run.path / 'evaluation'}, figures in {run.figures}", flush=True)
    return value_of(metrics["test"]["macro_auroc"])


def _calibrate(
    run: Run, val: Predictions, tests: Mapping[str, Predictions], method: str, metrics: dict[str, Any]
) -> None:
    scaling, tree = fit_scaling(val, method), run.hierarchy or metrics.get("hierarchy")
    write_text(run.path / "calibration.json", json.dumps(scaling.as_plain(), indent=1) + "\n")
    for name, test in tests.items():
        scaled, of_test(metrics, name)["calibration"] = calibrate(test, scaling, method, tree)
        scaled.write(run.predictions(f"{name}{CALIBRATED}"))


def _localise(
    run: Run, scored: Scored, predictions: Mapping[str, Predictions], plan: Resampling, metrics: dict[str, Any]
) -> None:
    """Evaluates and draws attention maps; where the images cannot be read, `metrics.json` keeps its values."""
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
        print(f"attention maps are not evaluated, since the images cannot be read: {error}", flush=True)


def _draw(run: Run, split: str, test: Predictions, metrics: Mapping[str, Any]) -> None:
    name, scores = f"{run.path.name}, {split}", (test.target, test.score, test.findings)
    draw(run.figures / f"intervals_{split}.png", forest, metrics[split], test.findings, name)
    draw(run.figures / f"reliability_{split}.png", reliability, *scores, name, test.patient)
    draw(run.figures / f"precision_recall_{split}.png", precision_recall_curves, *scores, name)
    if "confusion" in metrics[split]:
        draw(run.figures / f"confusion_{split}.png", confusion, metrics[split]["confusion"], test.findings, name)
    draw(run.figures / f"subgroups_{split}.png", subgroup_points, metrics[split]["subgroups"], name)
    if run.best.exists():  # ROC curves of a training that did not score this split
        draw(run.figures / f"roc_{split}.png", roc_curves, *scores, name)

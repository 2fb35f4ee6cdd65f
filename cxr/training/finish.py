"""The end of a training: predictions, metrics and figures of the best checkpoint on validation and test."""

import json
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from cxr.evaluation.attributes_only import attributes_only, fit_attributes
from cxr.evaluation.evaluate import evaluate, of_test
from cxr.evaluation.tables import notes_of, write_tables
from cxr.files.writing import write_text
from cxr.model.fusion import NoFusion
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import Run, versions
from cxr.run.smoke import is_smoke, scores_test
from cxr.run.splits import describe_split
from cxr.task.base import ClassificationTask, Monitor
from cxr.training.checkpoint import loaded_into, read_checkpoint
from cxr.training.localise import localisation
from cxr.training.log import read_log
from cxr.training.loggers import log_result
from cxr.training.pictures import draw_run
from cxr.training.predict import predict
from cxr.training.prepare import Prepared


def finish(config: Mapping[str, Any], run: Run, prepared: Prepared, data: Any, trainer: pl.Trainer) -> None:
    """Writes predictions, metrics and figures of the best checkpoint.

    Test scores are entered in the ledger before any of their files is written. `metrics.json` is written last: a run
    that has it is finished. Test splits are left out with `score_test=false`.
    """
    task = trainer.lightning_module
    assert isinstance(task, ClassificationTask)
    loaded = loaded_into(task.network, read_checkpoint(run.best), run.best, dict(config), task)
    device, catalog = trainer.strategy.root_device, prepared.catalog
    splits = ("val", *catalog.test_splits) if scores_test(config) else ("val",)
    predictions = {split: predict(loaded, data, split, device) for split in splits}
    if not trainer.is_global_zero:
        return
    val, tests = predictions["val"], {split: p for split, p in predictions.items() if split != "val"}
    unknown = task.provenance["ancestry"]["unknown"]
    about_data: dict[str, Any] = {
        "split_fingerprint": prepared.split_fingerprint,
        "labels_sha256": prepared.labels_sha256,
        **({UNKNOWN: unknown} if unknown else {}),
    }
    val.write(run.predictions("val"))
    for path in run.results_of_tests():  # results of an earlier best checkpoint
        path.unlink()
    notes = {split: notes_of(run, val, test, about_data, "train") for split, test in tests.items()}
    for split in reversed(tests):  # `test` last: if it exists, all do
        tests[split].write(run.predictions(split))
    train = catalog.targets("train")
    positives = {name: int(count) for name, count in zip(catalog.findings, (train == 1).sum(axis=0), strict=True)}
    results = evaluate(val, tests, train_positives=positives)
    for split, p in predictions.items():  # add the task's metrics to those of every run
        of_task = loaded.task.report(p.target, p.score, p.findings, p.patient, train_positives=positives)
        results[split] = of_task | results[split]
    metrics: dict[str, Any] = {**results, "train": {"n": len(train), "positives": positives}}
    if not isinstance(task.network.fusion, NoFusion):
        fitted = fit_attributes(catalog.rows("train"), train, catalog.findings)
        metrics["train"]["attributes_only"] = fitted
        for split, p in predictions.items():
            metrics[split]["attributes_only"] = attributes_only(p, fitted)
    if is_smoke(config):
        metrics["smoke"] = True
    for split, test in tests.items():
        about = {"localisation": localisation(data, loaded, device, split=split)}
        of_test(metrics, split).update(about, split=describe_split(val, test))
    metrics |= {
        **about_data,
        "checkpoint_sha256": loaded.sha256,
        "best_epoch": loaded.epoch,
        "max_epochs": int(config["trainer"]["max_epochs"]),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "versions": versions(),
    }
    for split in tests:
        write_tables(run, split, run.path.name, metrics, catalog.findings, notes[split])
    draw_run(run, catalog, predictions, data, loaded, device)
    log_result(trainer.loggers, run, metrics, predictions)
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")


def selected(run: Run, monitor: Monitor) -> float:
    """The value by which a finished run's checkpoint was selected; NaN if it is undefined.

    It is read from `metrics.json`, or from the best epoch's row of `metrics.csv` (such as a loss).
    """
    split, _, name = monitor.name.partition("/")
    value = run.metric(split, name)
    if value is not None:
        return value
    log = read_log(run.log).set_index("epoch")
    return float(log[monitor.name].get(run.metrics().get("best_epoch"), math.nan)) if monitor.name in log else math.nan

"""One training, from a composed configuration to a finished run directory."""

import json
import logging
import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from omegaconf import OmegaConf

from cxr import __version__
from cxr.errors import CxrError, first_line
from cxr.evaluation.judge import judge
from cxr.evaluation.tables import notes_of, write_tables
from cxr.files import check_links, write_text, writing_only_if
from cxr.guard import describe_split, ledger_beside
from cxr.metrics.plain import number
from cxr.metrics.summary import summarise
from cxr.private import without_places
from cxr.runs import Run, is_smoke, versions
from cxr.targets import build, taken
from cxr.task.base import Monitor
from cxr.training.build import build_loss, build_network, build_task, check_loss
from cxr.training.checkpoint import load_network, place, read_checkpoint
from cxr.training.failures import explained
from cxr.training.keeping import EarlyStopping, RunCheckpoints
from cxr.training.launch import launch
from cxr.training.localise import localisation
from cxr.training.log import EpochLog, StepLog, read_log, read_rows, read_steps, shown
from cxr.training.loggers import build_loggers, check_loggers, log_result
from cxr.training.pictures import draw_run
from cxr.training.predict import predict
from cxr.training.prepare import (
    Devices,
    Prepared,
    accumulation,
    build_augmentation,
    check_workers,
    open_data,
    prepare,
    resolve_devices,
    view_of,
)
from cxr.training.resumption import MidEpoch, batches_here
from cxr.training.saving import WholeFiles, newest_whole
from cxr.training.world import OwnProcesses, Rank, WholeWorld


def train(config: Mapping[str, Any], run: Run) -> float:
    """Trains a new run and returns its best epoch's value of what the task selects by.

    Everything that can be refused is refused before `run.path` appears.

    Raises:
        CxrError: the configuration, the data, or a step of the training.
    """
    ledger_beside(run.path)
    devices = resolve_devices(config["trainer"])
    rehearse(config, devices)
    prepared = prepare(config)
    check_labels(config, prepared)
    if is_smoke(config):
        config = {**config, "smoke": True}
        print("smoke run: test is not scored, no logger beside metrics.csv, and no comparison takes it", flush=True)
    run.create(config)
    with run.held():
        print(f"{run.path}: {_splits(prepared)}", flush=True)
        return _execute(config, run, prepared, devices)


def resume(config: Mapping[str, Any], run: Run) -> float:
    """Goes on with a run whose configuration, already changed where that is allowed, is `config`."""
    done = run.metrics()
    if done and int(config["trainer"]["max_epochs"]) <= int(done["max_epochs"]):  # also where nothing can be written
        print(f"{run.path} is finished: best validation macro AUROC {shown(run.macro_auroc('val'))}")
        return selected(run, build_task(config).monitor)
    check_links(run.path)
    with run.held():
        for half in run.last.parent.glob(".*-????????.ckpt"):  # of processes that were killed while they wrote
            half.unlink(missing_ok=True)
        return _resume(config, run)


def _resume(config: Mapping[str, Any], run: Run) -> float:
    _check_written(run)
    devices = resolve_devices(config["trainer"])
    rehearse(config, devices)
    prepared = prepare(config)
    check_labels(config, prepared)
    last = newest_whole(run)
    if last:
        checkpoint = read_checkpoint(last)
        about = checkpoint["cxr"]
        if about["split_fingerprint"] != prepared.split_fingerprint or about["labels_sha256"] != prepared.labels_sha256:
            raise CxrError(f"the data of {run.path} have changed since it was started; restore them or start a new run")
        epoch, had = place(checkpoint)
        batches_here(checkpoint, int(config["batch_size"]), devices.count)
        where = f"epoch {epoch + 1}, batch {had}" if had else f"epoch {epoch + 1}"
        print(f"{run.path} goes on from {where}, step {checkpoint['global_step']}", flush=True)
    else:
        print(f"{run.path} goes on from epoch 1, step 0: it was stopped before its first checkpoint", flush=True)
    run.check_there(config)
    run.save_config(config)
    return _execute(config, run, prepared, devices)


def _check_written(run: Run) -> None:
    """Refuses now what training or its end would refuse: a ledger that is a link, logs that are not ours."""
    ledger_beside(run.path)
    read_rows(run.log)
    read_steps(run.steps)


def rehearse(config: Mapping[str, Any], devices: Devices) -> None:
    """Builds once whatever needs no data, so that it is refused before data are read and before the run appears.

    Raises:
        CxrError: a size, a weights file, or an argument of any part.
    """
    _quieten()
    accumulation(config, devices.count)
    check_workers(config)
    check_loggers(config)
    network = build_network(config, 1)
    norms = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    if int(config["batch_size"]) == 1 and norms and network.backbone.map_size == (1, 1):
        raise CxrError(
            f"batch_size=1 gives batch norm one value a channel on the 1x1 feature map of image_size="
            f"{config['image_size']}; raise batch_size or image_size"
        )
    build_augmentation(config)
    view_of(config)
    task = build_task(config)
    if not taken(config["loss"], {"findings": ()}):  # one that is told their names is built when they are known
        check_loss(build_loss(config, np.zeros((1, 1), np.float32), ["finding"]), task)
    _trainer(config, None, devices, Rank(), 1, task.monitor)
    try:
        optimizer = build(config["optimizer"])(network.parameters())
        build(config["scheduler"])(optimizer, 1)
    except (TypeError, ValueError) as error:
        raise CxrError(f"the optimizer or its scheduler refuses its arguments: {first_line(error)}") from error


def check_labels(config: Mapping[str, Any], prepared: Prepared) -> None:
    """Raises CxrError if the task cannot be learnt from the data's labels, or the loss refuses them."""
    task, catalog = build_task(config), prepared.catalog
    task.check(catalog)
    check_loss(build_loss(config, catalog.targets("train"), catalog.findings), task)


def work(config: Mapping[str, Any], run: Run, prepared: Prepared, devices: Devices, rank: Rank) -> None:
    """What each process of a run does: fit, then score validation and test with the best checkpoint."""
    _quieten()
    pl.seed_everything(int(config["seed"]), verbose=False)
    last = newest_whole(run, show=False)
    start = (0, 0)
    if last:
        checkpoint = read_checkpoint(last)
        start = (place(checkpoint)[0], batches_here(checkpoint, int(config["batch_size"]), rank.count))
        del checkpoint
    data = open_data(prepared, config, rank.number, rank.count, devices.accelerator, start)
    catalog = prepared.catalog
    network = build_network(config, len(catalog.findings))
    provenance = {
        "version": __version__,
        "config": OmegaConf.to_yaml(OmegaConf.create(without_places(config)[0])),
        "findings": list(catalog.findings),
        "split_fingerprint": prepared.split_fingerprint,
        "labels_sha256": prepared.labels_sha256,
        "preprocessing": vars(network.preprocessing) | {"cached": prepared.cache.size, "crop": data.view.crop},
    }
    task = build_task(config).attach(
        network=network,
        loss=build_loss(config, catalog.targets("train"), catalog.findings),
        findings=catalog.findings,
        optimizer=build(config["optimizer"]),
        scheduler=build(config["scheduler"]),
        names=catalog.table["image"].tolist(),
        seed=int(config["seed"]),
        provenance=provenance,
    )
    trainer = _trainer(config, run, devices, rank, len(catalog.rows("train")), task.monitor)
    try:
        with writing_only_if(lambda: run.check_there(config)):
            trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
            finish(config, run, prepared, data, trainer)
    except SystemExit:  # what Lightning makes of ctrl-C
        raise KeyboardInterrupt from None
    except (RuntimeError, OSError, CxrError) as error:
        run.check_there(config)
        raise explained(error, run) from error


def finish(config: Mapping[str, Any], run: Run, prepared: Prepared, data: Any, trainer: pl.Trainer) -> None:
    """Predictions, metrics and figures of the best checkpoint; `metrics.json` last: it says that the run is done."""
    loaded = load_network(run.best)
    device = trainer.strategy.root_device
    splits = ("val",) if is_smoke(config) else ("val", "test")
    predictions = {split: predict(loaded, data, split, device) for split in splits}
    if not trainer.is_global_zero:
        return
    for split, predicted in predictions.items():
        predicted.write(run.predictions(split))
    catalog, train, root = prepared.catalog, prepared.catalog.targets("train"), str(config["data"]["root"])
    positives = {name: int(count) for name, count in zip(catalog.findings, (train == 1).sum(axis=0), strict=True)}
    val, test = predictions["val"], predictions.get("test")
    about: dict[str, Any]
    if test is None:
        judged, about = {"val": summarise(val.target, val.score, val.findings)}, {"smoke": True}
    else:
        judged = judge(val, test, train_positives=positives)
        about = {"localisation": localisation(data, loaded, device, root), "split": describe_split(val, test)}
    for split, predicted in predictions.items():  # what the task adds to what every run says
        own = loaded.task.metrics(predicted.target, predicted.score)
        judged[split] |= {name: number(value) for name, value in own.items() if name not in judged[split]}
    metrics = {
        **judged,
        "train": {"n": len(train), "positives": positives},
        **about,
        "split_fingerprint": prepared.split_fingerprint,
        "labels_sha256": prepared.labels_sha256,
        "checkpoint_sha256": loaded.sha256,
        "best_epoch": loaded.epoch,
        "max_epochs": int(config["trainer"]["max_epochs"]),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "versions": versions(),
    }
    if test is not None:
        write_tables(run, run.path.name, metrics, catalog.findings, notes_of(run, val, test, metrics, "train"))
    draw_run(run, catalog, predictions, data, loaded, device, root)
    log_result(trainer.loggers, run, metrics, predictions)
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")


def _execute(config: Mapping[str, Any], run: Run, prepared: Prepared, devices: Devices) -> float:
    if devices.count > 1:
        launch(run, devices)
    else:
        work(config, run, prepared, devices, Rank())
    result = run.metrics()
    value, test = run.macro_auroc("val"), run.macro_auroc("test")
    said = "smoke run, no test" if is_smoke(config) else f"{shown(test)} test"
    print(f"{run.path}: best epoch {result['best_epoch'] + 1}, macro AUROC {shown(value)} val, {said}")
    print(f"pictures are in {run.figures}", flush=True)
    return selected(run, build_task(config).monitor)


def selected(run: Run, monitor: Monitor) -> float:
    """The value by which a finished run's checkpoint was selected; NaN where it is undefined.

    It is that of `metrics.json`, or of the best epoch's row in `metrics.csv` where the predictions do not tell it.
    """
    result = run.metrics()
    split, _, name = monitor.name.partition("/")
    plain = result.get(split, {}).get(name)
    value = plain.get("value") if isinstance(plain, dict) else plain
    if isinstance(value, float):
        return value
    log = read_log(run.log).set_index("epoch")
    return float(log[monitor.name].get(result.get("best_epoch"), math.nan)) if monitor.name in log else math.nan


def _trainer(
    config: Mapping[str, Any], run: Run | None, devices: Devices, rank: Rank, images: int, monitor: Monitor
) -> pl.Trainer:
    """The Trainer of one rank; without a run, one that only shows whether its options are accepted."""
    first, terminal = rank.number == 0, sys.stderr.isatty()
    processes = OwnProcesses(rank)
    callbacks: list[Callback] = []
    if run:
        written = config["checkpoint"]
        callbacks = [
            WholeWorld(rank),
            EpochLog(run.log, images, show=first),
            StepLog(run.steps, int(config["trainer"]["log_every_n_steps"])),
            MidEpoch(int(config["batch_size"])),
            RunCheckpoints(run, monitor, written["every_steps"], written["every_seconds"], written.get("keep_best", 1)),
        ]
    stopping = config["early_stopping"]
    if stopping and stopping["patience"] is not None:
        by = Monitor(stopping["monitor"], stopping["mode"]) if stopping["monitor"] else monitor
        callbacks.append(EarlyStopping(by.name, patience=int(stopping["patience"]), mode=by.mode))
    if terminal and first:
        callbacks.append(TQDMProgressBar(leave=False))
    options = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("accelerator", "devices", "strategy", "precision")
    }
    try:
        return pl.Trainer(
            accelerator=devices.accelerator,
            devices=devices.count if run else 1,
            strategy="ddp" if devices.count > 1 and run else "auto",
            precision=devices.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=accumulation(config, devices.count),
            callbacks=callbacks,
            logger=build_loggers(config, run) if first and run and not is_smoke(config) else False,
            default_root_dir=run.path if run else None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=terminal and first,
            enable_model_summary=False,
            enable_checkpointing=run is not None,
            plugins=[processes, WholeFiles(run)] if run else [processes],
            **options,
        )
    except (TypeError, ValueError) as error:
        raise CxrError(f"trainer: {first_line(error)}") from error


def _splits(prepared: Prepared) -> str:
    table = prepared.catalog.table
    sizes = [f"{(table['split'] == name).sum()} {name}" for name in ("train", "val", "test")]
    return (
        f"{', '.join(sizes)} images of {table['patient'].nunique()} patients, {len(prepared.catalog.findings)} findings"
    )


def _quieten() -> None:
    """Lightning's notices that say nothing to a user of this program."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

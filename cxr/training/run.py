"""One training, from a composed configuration to a finished run directory."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from omegaconf import OmegaConf

from cxr import __version__
from cxr.configuration.private import without_places
from cxr.configuration.targets import build, taken
from cxr.errors import CxrError, first_line
from cxr.files.reading import check_links
from cxr.files.writing import writing_only_if
from cxr.run.directory import Run
from cxr.run.ledger import ledger_beside
from cxr.run.smoke import is_smoke
from cxr.training.build import build_loss, build_network, build_task, check_loss
from cxr.training.checkpoint import place, read_checkpoint
from cxr.training.failures import explained
from cxr.training.finish import finish, selected
from cxr.training.launch import launch
from cxr.training.log import read_rows, read_steps, shown
from cxr.training.loggers import check_loggers
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
from cxr.training.resumption import batches_here
from cxr.training.saving import newest_whole
from cxr.training.trainer import quieten, trainer_of
from cxr.training.world import Rank


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
    quieten()
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
    trainer_of(config, None, devices, Rank(), 1, task)
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
    quieten()
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
    trainer = trainer_of(config, run, devices, rank, len(catalog.rows("train")), task)
    try:
        with writing_only_if(lambda: run.check_there(config)):
            trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
            finish(config, run, prepared, data, trainer)
    except SystemExit:  # what Lightning makes of ctrl-C
        raise KeyboardInterrupt from None
    except (RuntimeError, OSError, CxrError) as error:
        run.check_there(config)
        raise explained(error, run) from error


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


def _splits(prepared: Prepared) -> str:
    table = prepared.catalog.table
    sizes = [f"{(table['split'] == name).sum()} {name}" for name in ("train", "val", "test")]
    return (
        f"{', '.join(sizes)} images of {table['patient'].nunique()} patients, {len(prepared.catalog.findings)} findings"
    )

"""Builds the parts of a training from a configuration, each once, before the run directory is created.

Checks go from fast to slow: parts that need no data, the table of the data set, the network with its initial weights,
and last the images, since caching may take hours.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import nn

from cxr import __version__
from cxr.configuration.private import without_places
from cxr.configuration.targets import accepted_arguments, build
from cxr.data.attributes import ATTRIBUTES
from cxr.data.augment import Augmentation
from cxr.data.cache.local import local_copy
from cxr.data.catalog import Catalog
from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.data.sampling import BalancedSets, Order
from cxr.data.sources.merged import ids_of
from cxr.errors import CxrError, first_line
from cxr.imaging.preprocessing import read_preprocessing
from cxr.loss.terms import LossTerms
from cxr.model.backbone import Backbone
from cxr.model.network import Network
from cxr.processes.ranks import Rank, given_rank
from cxr.run.ancestry import Ancestry, read_ancestry
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask, OptimizerFactory, SchedulerFactory
from cxr.training.build import (
    NO_WEIGHTS,
    build_augmentation,
    build_backbone,
    build_loss,
    build_mixing,
    build_network,
    build_task,
    check_loss,
    label_vectors,
    warn_of_late_switch,
)
from cxr.training.catalog import read_catalog
from cxr.training.devices import Devices, accumulation, loader_processes
from cxr.training.groups import backbone_layers, build_optimizer, with_groups
from cxr.training.initial import ancestry_of_options, check_frozen, freeze, kept_parts, start_from
from cxr.training.loggers import check_loggers
from cxr.training.prepare import Prepared, cached
from cxr.training.resumption import Restored
from cxr.training.trainer import build_trainer, silence_lightning


@dataclass(frozen=True)
class Parts:
    """The parts of a training in one process."""

    config: Mapping[str, Any]
    run: Run
    devices: Devices
    rank: Rank
    prepared: Prepared
    task: ClassificationTask
    trainer: pl.Trainer
    augmentation: Augmentation
    order: Order

    def loaders(self, start: tuple[int, int]) -> RadiographData:
        """The loaders of this process; `start` is (epoch, number of its batches that are already done)."""
        settings = LoaderSettings(
            batch_size=int(self.config["batch_size"]),
            workers=loader_processes(self.config["data"]["workers"], self.devices.accelerator),
            seed=int(self.config["seed"]),
            rank=self.rank.number,
            ranks=self.rank.count,
            pin_memory=self.devices.accelerator == "gpu",
            attribute_dropout=getattr(self.task.network.fusion, "attribute_dropout", 0.0),
        )
        catalog, cache, preprocessing = self.prepared.catalog, self.prepared.cache, self.task.network.preprocessing
        if local := self.config["cache"]["local"]:
            cache = local_copy(cache, local)
        partners = self.task.mix.partners if self.task.mix else None
        return RadiographData(catalog, cache, preprocessing, settings, self.augmentation, self.order, start, partners)


def assemble(
    config: Mapping[str, Any],
    run: Run,
    devices: Devices,
    restored: Restored | None = None,
    prepared: Prepared | None = None,
) -> Parts:
    """Builds and checks all parts of a training.

    Args:
        run: the run directory, which need not exist yet.
        restored: checkpoint to resume from, in place of initial weights.
        prepared: data that rank 0 has read and checked; by default they are read, and cached if necessary.

    Raises:
        CxrError: an error in the configuration, the data or a weights file.
    """
    silence_lightning()
    task = build_task(config)
    rank = given_rank(str(config["trainer"]["strategy"])) or Rank()
    trainer = build_trainer(config, run, devices, rank, task)
    check_loggers(config)
    augmentation, order = build_augmentation(config)
    mix = build_mixing(config)
    check_frozen(config)
    optimizer, scheduler = _optimizers(config)
    batches = accumulation(config, devices.count) * devices.count
    pl.seed_everything(int(config["seed"]), verbose=False)
    backbone = _backbone_without_weights(config, restored)
    random_state = torch.get_rng_state()
    first = prepared is None
    if first:
        _check_without_data(config, task, backbone, batches)
    catalog = prepared.catalog if prepared else read_catalog(config)
    task.check(catalog)
    stored = restored.content["cxr"].get("label_vectors") if restored else None
    vectors = label_vectors(config, catalog.findings) if stored is None else stored
    torch.set_rng_state(random_state)  # initial weights depend on the seed alone
    built = None if _has_weights(config, restored) else backbone
    network, ancestry = _network(config, catalog, restored, built, vectors)
    prepared = prepared or cached(catalog, config)
    catalog = prepared.catalog
    if isinstance(order, BalancedSets):
        order = order.over(catalog.rows("train").get("source", pd.Series(dtype=str)).tolist())
    loss = build_loss(config, catalog.targets("train"), catalog.findings, network.embedding, vectors)
    check_loss(loss, task, batches)
    if first:
        _check_forward(network, loss)
        warn_of_late_switch(config, loss, task)
    freeze(network, config["freeze"])
    if config["trainer"]["compile"]:
        network.compile()
    provenance = {
        "version": __version__,
        "config": OmegaConf.to_yaml(OmegaConf.create(without_places(config)[0])),
        "findings": list(catalog.findings),
        "split_fingerprint": prepared.split_fingerprint,
        "labels_sha256": prepared.labels_sha256,
        "preprocessing": dict(vars(network.preprocessing)),
        "ancestry": ancestry,
    }
    if vectors is not None:
        provenance["label_vectors"] = vectors
    task.attach(
        network=network,
        loss=loss,
        findings=catalog.findings,
        optimizer=with_groups(optimizer, network, config),
        scheduler=scheduler,
        names=catalog.table["image"].tolist(),
        seed=int(config["seed"]),
        provenance=provenance,
        labels=catalog.table[list(catalog.findings)].to_numpy(np.float32),
        mix=mix,
    )
    return Parts(config, run, devices, rank, prepared, task, trainer, augmentation, order)


def _has_weights(config: Mapping[str, Any], restored: Restored | None) -> bool:
    """Whether the backbone loads pretrained weights, which happens after the table is read."""
    pretrained = bool(config["backbone"].get("pretrained") or config["backbone"].get("weights"))
    return pretrained and not config["init"] and restored is None


def _backbone_without_weights(config: Mapping[str, Any], restored: Restored | None) -> Backbone:
    """The backbone without pretrained weights; on the meta device if it is built again with them."""
    if config["init"] and config["backbone"].get("weights") and restored is None:
        raise CxrError("init and backbone.weights both name initial weights; remove one of them")
    about = restored.content["cxr"] if restored else {}
    preprocessing = read_preprocessing(about.get("preprocessing"), str(restored.path)) if restored else None
    with torch.device("meta" if _has_weights(config, restored) else "cpu"):
        return build_backbone({**config, "backbone": {**config["backbone"], **NO_WEIGHTS}}, preprocessing)


def _network(
    config: Mapping[str, Any],
    catalog: Catalog,
    restored: Restored | None,
    backbone: Backbone | None,
    vectors: torch.Tensor | None,
) -> tuple[Network, dict[str, Any]]:
    """The network with its initial weights, and its ancestry as plain values.

    Raises:
        CxrError: initial weights do not fit, or were trained on a validation or test split of this run.
    """
    findings = len(catalog.findings)
    rows = {split: catalog.rows(split)[["patient", "image"]] for split in ("train", "val", *catalog.test_splits)}
    training = [(rows[split]["patient"], rows[split]["image"]) for split in ("train", "val")]
    if restored:
        about, path = restored.content["cxr"], str(restored.path)
        preprocessing = read_preprocessing(about.get("preprocessing"), path)
        network = build_network(config, findings, preprocessing, backbone, vectors)
        ancestry, known = read_ancestry(about.get("ancestry"), path), about.get("ancestry") is not None
        return network, _as_plain(ancestry if known else ancestry.extended(*training))
    init = config["init"]
    network = build_network(config, findings, backbone=backbone, label_vectors=vectors)
    evaluated = {split: ids_of(catalog.rows(split)) for split in rows if split != "train"}
    ancestry = (
        start_from(network, init, catalog.findings, evaluated, config["init_head"], kept_parts(config))
        if init
        else ancestry_of_options(config)
    )
    return network, _as_plain(ancestry.extended(*training))


def _check_forward(network: Network, loss: nn.Module) -> None:
    """Calls network and loss once on two blank images; an error is raised before the run directory is created."""
    size, name = network.preprocessing.size, type(loss).__name__
    batch = {
        "image": torch.zeros(2, 1, size, size, dtype=torch.uint8),
        "attributes": torch.zeros(2, len(ATTRIBUTES)),
        "index": torch.arange(2),
    }
    call = f"the network on two images of {size} px"
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = network.eval()(batch)
            target = torch.zeros_like(output.logits)
            target[:, 0] = 1
            call = f"{name}(output, batch, epoch)"
            terms = copy.deepcopy(loss)(output, {**batch, "target": target}, 0)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise CxrError(f"{call} fails: {first_line(error)}") from error
    network.train()
    if not isinstance(terms, LossTerms):
        raise CxrError(f"{name} returns {type(terms).__name__}; a loss must return LossTerms(total, number)")


def _as_plain(ancestry: Ancestry) -> dict[str, Any]:
    """The ancestry as a checkpoint stores it."""
    hashes = {name: torch.from_numpy(getattr(ancestry, name)) for name in ("trained", "selected")}
    return hashes | {"unknown": list(ancestry.unknown)}


def _optimizers(config: Mapping[str, Any]) -> tuple[OptimizerFactory, SchedulerFactory | None]:
    """The factories of optimizer and scheduler, called once to check their arguments."""
    optimizer, scheduler = build_optimizer(config), build(config["scheduler"])
    try:
        scheduler(optimizer([nn.Parameter(torch.zeros(1))]), 1)
    except (TypeError, ValueError) as error:
        raise CxrError(f"the optimizer or its scheduler rejects its arguments: {first_line(error)}") from error
    return optimizer, scheduler


def _check_without_data(config: Mapping[str, Any], task: ClassificationTask, backbone: Backbone, batches: int) -> None:
    """Builds attention, head and loss for one finding to check their arguments before data are read."""
    vectors = torch.zeros(1, 8) if config["text"] else None
    if config["optimizer"]["groups"]["layer_decay"] is not None:
        backbone_layers(backbone)
    with torch.device("meta"):
        network = build_network(config, 1, backbone=backbone, label_vectors=vectors)
    norms = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if int(config["batch_size"]) == 1 and norms and backbone.map_size == (1, 1):
        raise CxrError(
            f"batch_size=1 gives batch norm one value per channel on the 1x1 feature map of image_size="
            f"{config['image_size']}; increase batch_size or image_size"
        )
    if not accepted_arguments(config["loss"], {"findings": ()}):  # finding names are known with the catalog
        loss = build_loss(config, np.zeros((1, 1), np.float32), ["finding"], network.embedding, vectors)
        check_loss(loss, task, batches)

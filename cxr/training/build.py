"""Builds network, loss, task, augmentation and mixing from a configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxr.configuration.targets import accepted_arguments, build
from cxr.data.augment import Augmentation
from cxr.data.cache import CacheSettings
from cxr.data.sampling import Order
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.backbone import Backbone
from cxr.model.network import Network
from cxr.run.smoke import is_smoke
from cxr.task.base import ClassificationTask
from cxr.task.mixing import Mixing

NO_WEIGHTS = {"pretrained": False, "weights": None}  # options of a backbone


def build_network(
    config: Mapping[str, Any],
    findings: int,
    preprocessing: Preprocessing | None = None,
    backbone: Backbone | None = None,
    label_vectors: Tensor | None = None,
) -> Network:
    """The network of a resolved configuration, with `findings` outputs.

    An attention with the constructor parameter `findings` receives their number; a head with `label_vectors`
    receives the vectors of the findings' texts.

    Args:
        preprocessing: of a trained network, which is built without pretrained weights; by default that of the
            configuration.
        backbone: by default it is built here.
        label_vectors: (L, E), see `label_vectors`.
    """
    backbone = backbone or build_backbone(config, preprocessing)
    extra = accepted_arguments(config["attention"], {"findings": findings})
    attention: nn.Module = build(config["attention"], in_features=backbone.out_features, **extra)
    fusion: nn.Module = build(config["fusion"], in_features=attention.out_features)
    text = _of_text(config, "head", label_vectors)
    head: nn.Module = build(config["head"], in_features=fusion.out_features, findings=findings, **text)
    if preprocessing is None:
        size, cached, crop = int(config["image_size"]), CacheSettings.of(config).size, config["crop"]
        preprocessing = Preprocessing(size, cached, crop, backbone.mean, backbone.std)
    network = Network(backbone, attention, head, preprocessing, fusion)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_backbone(config: Mapping[str, Any], preprocessing: Preprocessing | None = None) -> Backbone:
    """The backbone of a resolved configuration; without pretrained weights if `preprocessing` is given."""
    size = preprocessing.size if preprocessing else int(config["image_size"])
    weights = NO_WEIGHTS if preprocessing else {}
    backbone: Backbone = build({**config["backbone"], **weights}, image_size=size)
    missing = [name for name in ("out_features", "map_size", "mean", "std") if not hasattr(backbone, name)]
    if missing:
        raise CxrError(f"backbone._target_={config['backbone']['_target_']} has no attribute {', '.join(missing)}")
    return backbone


def label_vectors(config: Mapping[str, Any], findings: Sequence[str]) -> Tensor | None:
    """The vectors (L, E) of the findings' texts; none with `text=none`.

    Raises:
        CxrError: they cannot be read or computed.
    """
    return build(config["text"]).vectors(findings) if config["text"] else None  # type: ignore[no-any-return]


def _of_text(config: Mapping[str, Any], part: str, vectors: Tensor | None) -> dict[str, Any]:
    """The argument `label_vectors` of a part with that constructor parameter."""
    if not accepted_arguments(config[part], {"label_vectors": None}):
        return {}
    if vectors is None:
        raise CxrError(f"{part}._target_={config[part]['_target_']} needs label text; add text=file or text=sentence")
    return {"label_vectors": vectors}


def build_augmentation(config: Mapping[str, Any]) -> tuple[Augmentation, Order]:
    """Augmentation and order of the training images."""
    transforms = [build(transform) for transform in config["augment"]["transforms"]]
    order: Order = build(config["sampler"])
    if not callable(order):
        raise CxrError(
            f"sampler._target_={config['sampler']['_target_']} cannot be called; see cxr.data.sampling.Order"
        )
    return Augmentation(transforms, int(config["seed"])), order


def build_loss(
    config: Mapping[str, Any],
    training_targets: np.ndarray,
    findings: Sequence[str],
    in_features: int = 0,
    label_vectors: Tensor | None = None,
) -> nn.Module:
    """The loss of a resolved configuration.

    Its constructor receives the arguments it has parameters for: `findings` (L names), `positive` and `negative` (L
    counts of the training targets), `epochs` (of the whole run), `activation` (by which the task scores),
    `head_scale` (the option `scale` of a head without label vectors, or none), `in_features` (of the image vector)
    and `label_vectors`.

    Args:
        training_targets: (N, L), NaN unknown.
        findings: L names.
        label_vectors: (L, E), see `label_vectors`.
    """
    offered = {
        "findings": lambda: list(findings),
        "positive": lambda: (training_targets == 1).sum(axis=0).tolist(),
        "negative": lambda: (training_targets == 0).sum(axis=0).tolist(),
        "epochs": lambda: int(config["trainer"]["max_epochs"]),
        "activation": lambda: build_task(config).activation,
        "head_scale": lambda: _head_scale(config["head"]),
        "in_features": lambda: in_features,
    }
    arguments = {name: value() for name, value in accepted_arguments(config["loss"], offered).items()}
    if "head_scale" in arguments and config["task"].get("hierarchy"):
        raise CxrError(
            f"loss._target_={config['loss']['_target_']} needs the logits of the head, and task.hierarchy combines "
            "those of a path; choose another loss, or task=multi_label"
        )
    loss = build(config["loss"], **arguments, **_of_text(config, "loss", label_vectors))
    if not isinstance(loss, nn.Module):
        raise CxrError(f"loss._target_={config['loss']['_target_']} is not a torch.nn.Module")
    return loss


def _head_scale(head: Mapping[str, Any]) -> float | None:
    """The option `scale` of a head; None for a head of label text, whose logits have a bias."""
    return None if accepted_arguments(head, {"label_vectors": None}) else head.get("scale")


def build_task(config: Mapping[str, Any], findings: Sequence[str] = ()) -> ClassificationTask:
    """The task of a resolved configuration.

    Args:
        findings: L names of the logits; needed where scores depend on them, as in a hierarchy.

    Raises:
        CxrError: the configured class is not a task, or its monitor is not a value that it logs.
    """
    node = config["task"]
    task = build(node)
    if not isinstance(task, ClassificationTask):
        raise CxrError(f"task._target_={node['_target_']} is not a subclass of ClassificationTask")
    columns = ["val/loss", *(f"val/{name}" for name in task.logged)]
    if task.monitor.name not in columns or task.monitor.mode not in ("max", "min"):
        raise CxrError(
            f"{type(task).__name__} selects by {task.monitor.mode} of {task.monitor.name}; choose max or min of a "
            f"value that it logs: {', '.join(columns)}"
        )
    task.findings = tuple(findings)
    return task


def build_mixing(config: Mapping[str, Any]) -> Mixing | None:
    """How training batches are mixed; none with `mix=none`.

    Raises:
        CxrError: the configured class is not a `Mixing`, or rejects its arguments.
    """
    if not config["mix"]:
        return None
    mix = build(config["mix"])
    if not isinstance(mix, Mixing):
        raise CxrError(f"mix._target_={config['mix']['_target_']} is not a subclass of cxr.task.mixing.Mixing")
    return mix


def check_loss(loss: nn.Module, task: ClassificationTask, batches: int = 1) -> None:
    """Checks that a loss fits the run.

    Args:
        loss: may have the attributes `activation`, and `couples_samples`, true if the loss of a batch is not a sum over
            its images.
        task: its activation computes scores.
        batches: per optimizer step, over accumulation and devices.

    Raises:
        CxrError: the activations differ, or the loss couples samples of different batches.
    """
    trained = getattr(loss, "activation", task.activation)
    if trained != task.activation:
        raise CxrError(
            f"{type(loss).__name__} trains for {trained}, but {type(task).__name__} scores with {task.activation}; "
            "task=multi_label goes with loss=bce, mae, asl, distribution_balanced, two_way or dwml, task=single_label "
            "with loss=cross_entropy, and both with loss=class_balanced, focal, ldam or logit_adjusted"
        )
    if batches > 1 and getattr(loss, "couples_samples", False):
        raise CxrError(
            f"{type(loss).__name__} compares the images of a batch, and an optimizer step of this run has {batches} "
            "batches; pass synthetic_batch_size=null and trainer.devices=1, with the batch_size that it should see"
        )


def warn_of_late_switch(config: Mapping[str, Any], loss: nn.Module, task: ClassificationTask) -> None:
    """Prints a warning if training ends before deferred weights, or the second stage of a hierarchy, begin."""
    epochs = int(config["trainer"]["max_epochs"])
    switches = {"loss.defer_epochs": getattr(loss, "switch_epoch", None)}
    if config["task"].get("hierarchy"):
        switches["task.conditional_epochs"] = getattr(task, "conditional_epochs", None)
    for option, switch in switches.items():
        if switch and switch >= epochs and not is_smoke(config):
            print(
                f"warning: training ends after {epochs} epochs, before those of {option}={switch} are over; lower it, "
                "or train longer",
                flush=True,
            )

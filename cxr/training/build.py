"""From a configuration to objects: the one place where `_target_` becomes an instance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from cxr.errors import CxrError, first_line
from cxr.model.backbone import Backbone
from cxr.model.network import Network, Preprocessing

# A configuration may come from somebody's checkpoint: it can name these and nothing else.
ALLOWED = (
    "cxr.data.sources.",
    "cxr.ensemble.combine.",
    "cxr.loss.",
    "cxr.model.",
    "cxr.training.schedule.",
    "albumentations.",
    "lightning.pytorch.loggers.",
    "torch.nn.",
    "torch.optim.",
)


def build(config: Any, *args: Any, **kwargs: Any) -> Any:
    """Instantiates the `_target_` of a config node.

    Raises:
        CxrError: the target lies outside the allowed packages, does not exist, or refuses its arguments.
    """
    node: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    _check_targets(node)
    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, CxrError):
            raise cause from error
        target = node.get("_target_")
        raise CxrError(f"the configuration of {target} does not work: {first_line(cause)}") from error


def build_network(config: Mapping[str, Any], findings: int) -> Network:
    """The network of a resolved configuration, with `findings` outputs."""
    size = int(config["image_size"])
    backbone: Backbone = build(config["backbone"], image_size=size)
    attention: nn.Module = build(config["attention"], in_features=backbone.out_features)
    head: nn.Module = build(config["head"], in_features=attention.out_features, findings=findings)
    network = Network(backbone, attention, head, Preprocessing(size, backbone.mean, backbone.std))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_loss(config: Mapping[str, Any], training_targets: np.ndarray) -> nn.Module:
    """The loss of a resolved configuration; it is told the counts of the training targets (N, L)."""
    positive, negative = (training_targets == 1).sum(axis=0), (training_targets == 0).sum(axis=0)
    loss: nn.Module = build(config["loss"], positive=positive.tolist(), negative=negative.tolist())
    return loss


def _check_targets(node: Any) -> None:
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED):
            raise CxrError(
                f"_target_={target} is not allowed; targets lie in {', '.join(name + '*' for name in ALLOWED)}"
            )
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            _check_targets(value)

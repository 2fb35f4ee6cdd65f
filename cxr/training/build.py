"""From a configuration to the network and its loss."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cxr.model.backbone import Backbone
from cxr.model.network import Network, Preprocessing
from cxr.targets import build


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

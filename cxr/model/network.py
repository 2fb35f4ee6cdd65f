"""The whole network: uint8 radiographs in; logits, attention map and image vector out; preprocessing included."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cxr.model.backbone import Backbone


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants of an image; it travels with the weights.

    Attributes:
        size: side of the square input in pixels.
        mean: of the gray channel, where white is 1.
        std: of the gray channel.
        channels: of the input.
    """

    size: int
    mean: float
    std: float
    channels: int = 1

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) uint8 to float32 of mean 0 and deviation 1 over the pretraining data."""
        return (image.float() / 255 - self.mean) / self.std


class NetworkOutput(NamedTuple):
    """Attributes: logits (B, L); attention (B, K, h, w) or none; embedding (B, C)."""

    logits: Tensor
    attention: Tensor | None
    embedding: Tensor


class Network(nn.Module):
    """Backbone, attention and head in a row, with normalisation in front, on the device where the network lives.

    Args:
        backbone: feature extractor.
        attention: pools the feature map.
        head: from the vector to logits.
        preprocessing: of the input.
    """

    def __init__(self, backbone: Backbone, attention: nn.Module, head: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone, self.attention, self.head = backbone, attention, head
        self.preprocessing = preprocessing

    def forward(self, image: Tensor) -> NetworkOutput:
        """(B, 1, H, W) uint8 to the output; H and W are `preprocessing.size`."""
        normalised = self.preprocessing.normalise(image).contiguous(memory_format=torch.channels_last)
        vector, attention = self.attention(self.backbone(normalised))
        return NetworkOutput(self.head(vector), attention, vector)

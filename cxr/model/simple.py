"""Backbones without timm: a small network written for the task, and one that sees nothing."""

from typing import Any

import torch
from torch import Tensor, nn

from cxr.errors import CxrError


class CustomNet(nn.Module):
    """Four blocks of two 3x3 convolutions with batch norm and ReLU, each block followed by 2x2 max pooling.

    Pillai, "Multi-Label Chest X-Ray Classification via Deep Learning", 2022, uses a CustomNet with unpublished layers;
    these layers are our choice.

    Args:
        image_size: side of the input in pixels, 16 or more.
        pretrained: must be false, since no such weights exist.
        weights: must be none.
        mean: of the one channel.
        std: of the one channel.
        channels: width of each block.

    Raises:
        CxrError: initial weights are named, or the image is too small.
    """

    def __init__(
        self,
        image_size: int,
        pretrained: bool = False,
        weights: str | None = None,
        mean: float = 0.449,
        std: float = 0.226,
        channels: tuple[int, ...] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        _refuse_weights(pretrained, weights, "custom")
        smallest = 2 ** len(channels)
        if image_size < smallest:
            raise CxrError(f"image_size={image_size} does not fit backbone=custom; the minimum is {smallest}")
        self.out_features, self.map_size = channels[-1], (image_size // smallest,) * 2
        self.mean, self.std = mean, std
        layers: list[nn.Module] = []
        for before, width in zip((1, *channels), channels, strict=False):
            for inputs in (before, width):
                convolution = nn.Conv2d(inputs, width, kernel_size=3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32, normalised, to (B, C, H / 16, W / 16)."""
        features: Tensor = self.layers(image)
        return features


class Blank(nn.Module):
    """One feature, zero for every image: with `fusion=join` the network uses the attributes only."""

    def __init__(
        self, image_size: int, pretrained: bool = False, weights: str | None = None, mean: float = 0.5, std: float = 0.5
    ) -> None:
        super().__init__()
        _refuse_weights(pretrained, weights, "blank")
        self.out_features, self.map_size, self.mean, self.std = 1, (1, 1), mean, std

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to zeros (B, 1, 1, 1)."""
        return torch.zeros(image.shape[0], 1, 1, 1, dtype=image.dtype, device=image.device)


def _refuse_weights(pretrained: bool, weights: Any, name: str) -> None:
    if pretrained or weights:
        raise CxrError(
            f"backbone={name} has no pretrained weights; pass backbone.pretrained=false and backbone.weights=null"
        )

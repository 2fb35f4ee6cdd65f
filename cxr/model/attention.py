"""Pooling with weights: a feature map (B, C, h, w) in, a vector and the map of weights (B, K, h, w) out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AveragePooling(nn.Module):
    """No attention: the mean over positions, and no map.

    Args:
        in_features: C of the feature map, and of the vector.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """(B, C, h, w) to (B, C) and no map."""
        return features.mean(dim=(2, 3)), None


class LocationAttention(nn.Module):
    """One scalar a position from a 1x1 convolution; softmax over positions; the weighted sum of the features.

    Kejriwal et al., "Classification of Chest X-ray Image into Multiple Disease Findings Simultaneously". The
    convolution has no bias, which the softmax would cancel, and starts at zero, where it is average pooling.

    Args:
        in_features: C of the feature map, and of the vector.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.score = nn.Conv2d(in_features, 1, kernel_size=1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, C) and weights (B, 1, h, w) that sum to one over positions."""
        weights = self.score(features).flatten(2).softmax(dim=2)
        vector = (features.flatten(2) * weights).sum(dim=2)
        return vector, weights.unflatten(2, features.shape[2:])


class GapMaskAttention(nn.Module):
    """One sigmoid mask; the features' average under it: GAP(mask * features) / GAP(mask), then a small dense layer.

    The form in the code that the location-attention paper descends from: batch norm; 1x1 convolutions of 128, 32 and 16
    channels with ELU; 2x2 average smoothing at stride 1 that keeps the size; 1x1 convolution and sigmoid; after
    pooling, dropout 0.5, dense 128 with ELU, dropout 0.5.

    Args:
        in_features: C of the feature map.
        channels: widths of the 1x1 convolutions.
        dense: size of the vector.
        dropout: before and after the dense layer.
    """

    def __init__(
        self, in_features: int, channels: tuple[int, ...] = (128, 32, 16), dense: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.out_features = dense
        self.norm = nn.BatchNorm2d(in_features)
        layers: list[nn.Module] = []
        for width_in, width_out in zip((in_features, *channels), channels, strict=False):
            layers += [nn.Conv2d(width_in, width_out, kernel_size=1), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.mask = nn.Conv2d(channels[-1], 1, kernel_size=1)
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, dense), nn.ELU(), nn.Dropout(dropout))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, dense) and the mask (B, 1, h, w), each weight in (0, 1)."""
        normed = self.norm(features)
        mask = torch.sigmoid(self.mask(smooth(self.layers(normed))))
        pooled = (mask * normed).mean(dim=(2, 3)) / mask.mean(dim=(2, 3))
        return self.dense(pooled), mask


def smooth(features: Tensor) -> Tensor:
    """2x2 mean at stride 1 of the same size: the last row and column average what lies inside the map alone."""
    padded = F.pad(features, (0, 1, 0, 1))
    inside = F.pad(torch.ones_like(features[:1, :1]), (0, 1, 0, 1))
    return F.avg_pool2d(padded, 2, stride=1) / F.avg_pool2d(inside, 2, stride=1)

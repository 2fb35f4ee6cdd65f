"""Classifiers: from an image vector (B, C) to one logit per finding (B, L)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cxr.configuration.kinds import checked_option
from cxr.errors import CxrError


class LinearHead(nn.Module):
    """Dropout and one linear layer.

    Args:
        in_features: C.
        findings: L.
        dropout: share of the vector that is dropped in training.
    """

    def __init__(self, in_features: int, findings: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, findings))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) to logits (B, L)."""
        return self.layers(vector)


class MLPHead(nn.Module):
    """Hidden layers with GELU and dropout, then one linear layer.

    Args:
        in_features: C.
        findings: L.
        hidden: widths of the hidden layers.
        dropout: after each hidden layer.
    """

    def __init__(self, in_features: int, findings: int, hidden: Sequence[int] = (256,), dropout: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), nn.GELU(), nn.Dropout(dropout)]
            in_features = width
        self.layers = nn.Sequential(*layers, nn.Linear(in_features, findings))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) to logits (B, L)."""
        return self.layers(vector)


class PerFindingHead(nn.Module):
    """A separate network for each finding: hidden layers with ReLU, then one logit.

    Taslimi et al., "SwinCheX: Multi-label classification on chest X-ray images with transformers", 2022, whose heads
    have three hidden layers of 384, 48 and 48. There a head has two outputs, and their cross-entropy is trained;
    that equals the binary cross-entropy of their difference, which is the logit here. Weights start from a normal
    distribution of standard deviation .02, and biases at 0.

    Args:
        in_features: C.
        findings: L.
        hidden: widths of the hidden layers; an empty list gives a linear layer for each finding.
        outputs: 2, as published, or 1.
    """

    def __init__(
        self, in_features: int, findings: int, hidden: Sequence[int] = (384, 48, 48), outputs: int = 2
    ) -> None:
        super().__init__()
        if not all(type(width) is int and width > 0 for width in hidden):
            raise CxrError(f"head.hidden={list(hidden)} must be a list of positive whole numbers, such as [384,48,48]")
        checked_option("head.outputs", outputs, Literal[1, 2])
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [SeparateLinear(findings, in_features, width), nn.ReLU()]
            in_features = width
        self.layers = nn.Sequential(*layers, SeparateLinear(findings, in_features, outputs))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) to logits (B, L)."""
        outputs = self.layers(vector)
        return outputs[..., -1] - outputs[..., 0] if outputs.shape[2] == 2 else outputs[..., 0]


class SeparateLinear(nn.Module):
    """L linear layers side by side, computed as one product.

    Args:
        groups: L.
    """

    def __init__(self, groups: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(groups, out_features))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, vector: Tensor) -> Tensor:
        """(B, in_features), which all layers share, or (B, L, in_features) to (B, L, out_features)."""
        if vector.ndim == 2:
            shared = nn.functional.linear(vector, self.weight.flatten(0, 1))
            return shared.view(-1, *self.bias.shape) + self.bias
        return torch.einsum("bli,loi->blo", vector, self.weight) + self.bias

"""Classifiers: an image vector (B, C) in, one logit a finding (B, L) out."""

from collections.abc import Sequence

from torch import Tensor, nn


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

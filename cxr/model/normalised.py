"""A classifier by cosine, for losses that subtract margins."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NormalisedHead(nn.Module):
    """scale * cos(vector, weight of the finding), without a bias (`NormedLinear` of Cao et al., NeurIPS 2019).

    Computed in float32 also under autocast, where `scale` would multiply the rounding of half precision.

    Args:
        in_features: C.
        findings: L.
        scale: of the cosines, which a softmax or sigmoid of values in [-1, 1] needs to become confident.
    """

    def __init__(self, in_features: int, findings: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(findings, in_features))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) to logits (B, L) in [-scale, scale]."""
        with torch.autocast(vector.device.type, enabled=False):
            fine = vector.to(self.weight.dtype)
            return self.scale * F.linear(F.normalize(fine), F.normalize(self.weight))

"""What every loss returns: a sum and the number of terms in it, so that windows of batches can be averaged exactly."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Scored(Protocol):
    """What a loss reads of a network's output; `attention` and `embedding` are there too."""

    @property
    def logits(self) -> Tensor:
        """(B, L) float32."""
        ...

    @property
    def attention(self) -> Tensor | None:
        """(B, K, h, w), or none."""
        ...

    @property
    def embedding(self) -> Tensor:
        """(B, C)."""
        ...


class LossTerms(NamedTuple):
    """Attributes: total, the sum over known targets (scalar); number, how many (scalar float)."""

    total: Tensor
    number: Tensor


def over_known(elementwise: Tensor, known: Tensor) -> LossTerms:
    """Sums values where `known`, of the same shape, holds; unknown targets give neither value nor gradient."""
    return LossTerms(torch.where(known, elementwise, 0.0).sum(), known.sum().to(elementwise.dtype))

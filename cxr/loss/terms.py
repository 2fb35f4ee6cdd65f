"""What every loss returns: a sum and the number of terms in it, so that windows of batches can be averaged exactly."""

from typing import NamedTuple

import torch
from torch import Tensor


class LossTerms(NamedTuple):
    """Attributes: total, the sum over known targets (scalar); number, how many (scalar float)."""

    total: Tensor
    number: Tensor


def over_known(elementwise: Tensor, known: Tensor) -> LossTerms:
    """Sums (B, L) values where `known` (B, L) holds; unknown targets give neither value nor gradient."""
    return LossTerms(torch.where(known, elementwise, 0.0).sum(), known.sum().to(elementwise.dtype))

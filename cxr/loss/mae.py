"""Multi-label mean absolute error (Kejriwal et al., the location-attention paper)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cxr.loss.terms import LossTerms, over_known


class MeanAbsoluteError(nn.Module):
    """|sigmoid(logit) - target|, averaged over labels and instances.

    Args:
        positive: counts of the training split; every loss is given them, this one has no use for them.
        negative: likewise.
    """

    def __init__(self, positive: Sequence[int] = (), negative: Sequence[int] = ()) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        known = ~target.isnan()
        return over_known((torch.sigmoid(logits) - target.nan_to_num(0.0)).abs(), known)

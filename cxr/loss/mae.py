"""Multi-label mean absolute error (Kejriwal et al., the location-attention paper)."""

import torch
from torch import nn

from cxr.loss.terms import Batch, Known, LossTerms, Scored, over_known


class MeanAbsoluteError(nn.Module):
    """|sigmoid(logit) - target|, averaged over labels and instances."""

    activation = "sigmoid"

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        logits, target, mask = Known.of(output, batch)
        return over_known((torch.sigmoid(logits) - target).abs(), mask)

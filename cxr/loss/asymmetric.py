"""Asymmetric loss for many findings, most of which are absent."""

import torch
from torch import nn
from torch.nn import functional as F

from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option, over_known


class Asymmetric(nn.Module):
    """-(y (1 - p)^g+ log p + (1 - y) q^g- log(1 - q)), p = sigmoid(logit), q = max(p - clip, 0).

    Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021. The gradient passes through the focusing
    factors, as in the authors' `AsymmetricLossOptimized`. The mean is over known targets, where the authors sum.

    Args:
        gamma_negative: g-, focus of negatives.
        gamma_positive: g+, focus of positives.
        clip: probability below which a negative gives no loss.
    """

    activation = "sigmoid"

    def __init__(self, gamma_negative: float = 4.0, gamma_positive: float = 1.0, clip: float = 0.05) -> None:
        super().__init__()
        check_option("gamma_negative", gamma_negative)
        check_option("gamma_positive", gamma_positive)
        check_option("clip", clip, below=1)
        self.gamma_negative, self.gamma_positive, self.clip = gamma_negative, gamma_positive, clip

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        logits, target, mask = Known.of(output, batch)
        of_positive, of_negative = F.softplus(-logits), F.softplus(logits)  # -log p and -log(1 - p)
        positive = (-self.gamma_positive * of_negative).exp() * of_positive
        if self.clip:
            shifted = (torch.sigmoid(logits) - self.clip).clamp(min=torch.finfo(logits.dtype).tiny)
            negative = -(shifted**self.gamma_negative) * torch.log1p(-shifted)
        else:
            negative = (-self.gamma_negative * of_positive).exp() * of_negative
        return over_known(torch.lerp(negative, positive, target), mask)

"""Focal loss: findings that are already predicted well weigh less."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option
from cxr.loss.weighted import WeightedLoss


class Focal(WeightedLoss):
    """-w (1 - p)^gamma log p, p the probability of the right answer (Lin et al., ICCV 2017).

    Softmax: p is that of the image's finding and w its class weight; the mean is over images, not over weights. An
    image with an unknown target is left out. Sigmoid: p is that of each target, and w weighs positives alone; the mean
    is over known targets. For soft targets the two or more answers are weighted by their share.

    Args:
        positive: L counts of positive training targets.
        gamma: 0 is cross-entropy.
        activation, weights, beta, defer_epochs: see `WeightedLoss`.
    """

    def __init__(
        self,
        positive: Sequence[int],
        activation: str = "sigmoid",
        gamma: float = 2.0,
        weights: str = "none",
        beta: float = 0.9999,
        defer_epochs: int = 0,
    ) -> None:
        super().__init__(positive, activation, weights, beta, defer_epochs)
        check_option("gamma", gamma)
        self.gamma = gamma

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        (logits, target, mask), weight = Known.of(output, batch, self.activation), self.weight_at(epoch)
        if self.activation == "softmax":
            log_p = logits.log_softmax(dim=1)
            wrong = 1 - log_p.exp()
            if self.gamma < 1:  # else the power of 0 has a finite gradient
                wrong = wrong.clamp(min=torch.finfo(log_p.dtype).tiny)
            shares = target if weight is None else target * weight
            total = -(shares * wrong**self.gamma * log_p).sum()
            return LossTerms(total, mask.sum(dtype=total.dtype))
        of_positive = F.softplus(-logits)  # -log p
        of_negative = of_positive + logits  # -log(1 - p), rounded where p^gamma is tiny
        positive = (-self.gamma * of_negative).exp() * of_positive
        negative = (-self.gamma * of_positive).exp() * of_negative
        of_known = mask.to(logits.dtype)
        shares = target if weight is None else target * weight
        return LossTerms((shares * positive + (of_known - target) * negative).sum(), of_known.sum())

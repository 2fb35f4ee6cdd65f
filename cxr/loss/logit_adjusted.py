"""Cross-entropy of logits that are shifted by prevalence in training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option
from cxr.loss.weighted import cross_entropy


class LogitAdjusted(nn.Module):
    """Cross-entropy of logit + tau s; scores come from the logits without the shift, which favours rare findings.

    Softmax: s = log of the finding's share of the training images (Menon et al., "Long-Tail Learning via Logit
    Adjustment", ICLR 2021). Sigmoid: s = log(positives / negatives), which is ours.

    Args:
        positive: L counts of positive training targets; a count of 0 is taken as 1.
        negative: L counts of negative training targets, alike.
        activation: `softmax` or `sigmoid`, by which the task scores.
        tau: 0 is cross-entropy.
    """

    shift: Tensor

    def __init__(
        self, positive: Sequence[int], negative: Sequence[int], activation: str = "sigmoid", tau: float = 1.0
    ) -> None:
        super().__init__()
        check_option("tau", tau)
        self.activation = activation
        n, m = (torch.tensor(counts, dtype=torch.double).clamp(min=1) for counts in (positive, negative))
        prior = n / n.sum() if activation == "softmax" else n / m
        self.register_buffer("shift", (tau * prior.log()).float(), persistent=False)

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        known = Known.of(output, batch, self.activation)
        return cross_entropy(known._replace(logits=known.logits + self.shift), self.activation)

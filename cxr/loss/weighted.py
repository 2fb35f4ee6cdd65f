"""Cross-entropy with weights of findings from training counts, which may apply from a later epoch on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Count
from cxr.errors import CxrError
from cxr.loss.terms import Known, LossTerms, check_option

SCHEMES = ("none", "inverse", "effective_number")


def class_weights(positive: Sequence[int], scheme: str, beta: float = 0.9999) -> Tensor:
    """The weight of each finding, (L,) float32; a finding without a training positive counts as one with one.

    Args:
        positive: L counts of positive training targets, n.
        scheme: `none`, 1; `inverse`, sum(n) / (L n), scikit-learn's `balanced`; `effective_number`,
            (1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al., "Class-Balanced Loss Based on Effective Number
            of Samples", CVPR 2019).
        beta: at least 0 and below 1.
    """
    check_option("beta", beta, below=1)
    n = torch.tensor(positive, dtype=torch.double).clamp(min=1)
    if scheme == "none":
        weight = torch.ones_like(n)
    elif scheme == "inverse":
        weight = n.sum() / (len(n) * n)
    elif scheme == "effective_number":
        weight = (1 - beta) / (1 - beta**n)
        weight /= weight.mean()
    else:
        raise CxrError(f"loss.weights={scheme} is unknown; choose {', '.join(SCHEMES)}")
    return weight.float()


def cross_entropy(known: Known, activation: str, weight: Tensor | None = None) -> LossTerms:
    """Weighted cross-entropy, summed.

    Softmax: -sum_c w_c y_c log p_c of each image, to be divided by the sum of w_c y_c, as PyTorch's mean does for hard
    targets. An image with an unknown target is left out. Sigmoid: -(w y log p + (1 - y) log(1 - p)) of each known
    target, to be divided by their number.

    Args:
        known: logits and targets, which may be soft, known by the same activation.
        activation: `softmax` or `sigmoid`.
        weight: (L,), or none for 1.
    """
    logits, target, mask = known
    if activation == "sigmoid":
        counts = mask.to(logits.dtype)
        total = F.binary_cross_entropy_with_logits(logits, target, counts, pos_weight=weight, reduction="sum")
        return LossTerms(total, counts.sum())
    shares = target if weight is None else target * weight
    total = -(shares * logits.log_softmax(dim=1)).sum()
    return LossTerms(total, mask.sum(dtype=total.dtype) if weight is None else shares.sum())


class WeightedLoss(nn.Module):
    """Base of losses with class weights.

    Deferred re-weighting (Cao et al., NeurIPS 2019) trains the first epochs without the weights. The epoch in which
    they begin to apply is `switch_epoch`, at which the selection of `best.ckpt` and early stopping start anew.

    Args:
        positive: L counts of positive training targets.
        activation: `softmax` or `sigmoid`, by which the task scores.
        weights: see `class_weights`.
        beta: of the effective number.
        defer_epochs: number of first epochs without the weights.
    """

    weight: Tensor

    def __init__(
        self,
        positive: Sequence[int],
        activation: str = "sigmoid",
        weights: str = "effective_number",
        beta: float = 0.9999,
        defer_epochs: int = 0,
    ) -> None:
        super().__init__()
        checked_option("loss.defer_epochs", defer_epochs, Count)
        self.activation, self.defer_epochs = activation, defer_epochs
        self.weighs = weights != "none"
        self.switch_epoch = defer_epochs if self.weighs and defer_epochs else None
        self.register_buffer("weight", class_weights(positive, weights, beta), persistent=False)

    def weight_at(self, epoch: int) -> Tensor | None:
        """Weights (L,) in an epoch, counted from 0; None if all are 1."""
        return self.weight if self.weighs and epoch >= self.defer_epochs else None

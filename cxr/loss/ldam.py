"""Label-distribution-aware margins, larger for rare findings."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cxr.errors import CxrError
from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option
from cxr.loss.weighted import WeightedLoss, cross_entropy


class LDAM(WeightedLoss):
    """Cross-entropy of scale (cosine - margin y), the margin max_margin (n / min n)^(-1/4) for n positives in training.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019. The logits of
    `head=normalised` are scale * cosine; a margin means nothing for other logits. With `weights` and `defer_epochs` it
    is LDAM-DRW. Sigmoid scores with the same margins are ours, as is the margin of a soft target, its share of it.

    Args:
        positive: L counts of positive training targets; a count of 0 is taken as 1.
        head_scale: of `head=normalised`; none for another head.
        max_margin: of the rarest finding, as a cosine.
        activation, weights, beta, defer_epochs: see `WeightedLoss`.

    Raises:
        CxrError: the head is another.
    """

    margin: Tensor

    def __init__(
        self,
        positive: Sequence[int],
        head_scale: float | None,
        activation: str = "sigmoid",
        max_margin: float = 0.5,
        weights: str = "none",
        beta: float = 0.9999,
        defer_epochs: int = 0,
    ) -> None:
        super().__init__(positive, activation, weights, beta, defer_epochs)
        check_option("max_margin", max_margin, below=2)
        if head_scale is None:
            raise CxrError("loss=ldam subtracts margins from cosines, which only head=normalised gives; choose it")
        n = torch.tensor(positive, dtype=torch.double).clamp(min=1)
        self.register_buffer("margin", (head_scale * max_margin * (n / n.min()) ** -0.25).float(), persistent=False)

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        known = Known.of(output, batch, self.activation)
        shifted = known._replace(logits=known.logits - self.margin * known.target)
        return cross_entropy(shifted, self.activation, self.weight_at(epoch))

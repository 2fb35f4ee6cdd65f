"""Binary cross-entropy per finding."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cxr.configuration.kinds import checked_option
from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option
from cxr.loss.weighted import cross_entropy


class BinaryCrossEntropy(nn.Module):
    """-(w y log p + (1 - y) log(1 - p)), p = sigmoid(logit).

    Args:
        positive: L counts of positive training targets; read if `positive_weights`.
        negative: L counts of negative training targets.
        positive_weights: weigh positives by negatives / positives of the training split (a finding without a positive
            keeps 1).
        smoothing: in training, targets y become (1 - smoothing) y + smoothing / 2.
    """

    activation = "sigmoid"
    weight: Tensor | None

    def __init__(
        self,
        positive: Sequence[int],
        negative: Sequence[int],
        positive_weights: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_option("smoothing", smoothing, below=1)
        self.smoothing = smoothing
        checked_option("loss.positive_weights", positive_weights, bool)
        counts, others = torch.tensor(positive, dtype=torch.float), torch.tensor(negative, dtype=torch.float)
        weight = torch.where(counts > 0, others / counts.clamp(min=1), 1.0)
        self.register_buffer("weight", weight if positive_weights else None, persistent=False)

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        known = Known.of(output, batch)
        if self.training and self.smoothing:
            known = known._replace(target=(1 - self.smoothing) * known.target + self.smoothing / 2)
        return cross_entropy(known, self.activation, self.weight)

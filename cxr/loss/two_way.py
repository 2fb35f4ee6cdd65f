"""Two-way loss: positives above negatives, within each image and within each finding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option

_MASKED = -1e4  # finite, since the gradient of a log-sum-exp of minus infinity alone is NaN


class TwoWay(nn.Module):
    """Kobayashi, "Two-Way Multi-Label Loss", CVPR 2023, over known targets, soft ones rounded.

    softplus(tn LSE(logits of negatives / tn) + tp LSE(-logits of positives / tp)), LSE the log of the sum of
    exponentials: over the findings of an image, averaged over images, plus over the images of a finding in the batch,
    averaged over findings. Images and findings without a positive are left out. Scores are ranks, not probabilities.

    Args:
        positive_temperature: tp.
        negative_temperature: tn.
    """

    activation = "sigmoid"
    couples_samples = True

    def __init__(self, positive_temperature: float = 4.0, negative_temperature: float = 1.0) -> None:
        super().__init__()
        check_option("positive_temperature", positive_temperature, 1e-3)
        check_option("negative_temperature", negative_temperature, 1e-3)
        self.tp, self.tn = positive_temperature, negative_temperature

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown; the loss times the number of known targets, by which it counts."""
        logits, target, mask = Known.of(output, batch)
        positive, negative = mask & (target > 0.5), mask & (target <= 0.5)
        low = torch.where(positive, logits / -self.tp, _MASKED)
        high = torch.where(negative, logits / self.tn, _MASKED)
        number = mask.sum(dtype=logits.dtype)
        within = [self._contrast(low.logsumexp(dim), high.logsumexp(dim), positive.any(dim)) for dim in (1, 0)]
        return LossTerms(number * (within[0] + within[1]), number)

    def _contrast(self, low: Tensor, high: Tensor, counts: Tensor) -> Tensor:
        values = F.softplus(self.tn * high + self.tp * low)
        return torch.where(counts, values, 0.0).sum() / counts.sum().clamp(min=1)

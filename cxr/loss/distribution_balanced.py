"""Distribution-balanced loss: findings that occur together, in a long-tailed data set."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option, over_known


class DistributionBalanced(nn.Module):
    """Wu et al., "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets", ECCV 2020.

    With n_l positives and m_l negatives in training, of image i and finding l:

        r = (1 / n_l) / sum_j y_j / n_j         over the positives j of the image
        w = 0.1 + sigmoid(10 (r - mu))          1.1 for an image without positives
        z = logit - kappa / scale log(m_l / n_l)
        loss = w 2 [y sigmoid(-z)^gamma softplus(-z) + (1 - y) sigmoid(scale z)^gamma softplus(scale z) / scale]

    averaged over known targets. r is how often class-aware sampling (`sampler=class_aware`, as in the paper) draws the
    image for one finding, over how often for any. It draws by known positives alone, so unknown targets are rightly
    absent from the sum.

    Args:
        positive: L counts of positive training targets.
        negative: L counts of negative training targets.
        mu: r at the middle of the weights; 0.2 for COCO and 0.3 for VOC in the paper.
        scale: of the logits of negatives; 2 for COCO and 5 for VOC in the paper.
        kappa: of the shift by prevalence.
        gamma: focus; 0 turns it off, and the factor 2 with it.
    """

    activation = "sigmoid"
    inverse: Tensor
    shift: Tensor

    def __init__(
        self,
        positive: Sequence[int],
        negative: Sequence[int],
        mu: float = 0.2,
        scale: float = 2.0,
        kappa: float = 0.05,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        for name, value in (("mu", mu), ("kappa", kappa), ("gamma", gamma)):
            check_option(name, value)
        check_option("scale", scale, least=1)
        self.mu, self.scale, self.gamma = mu, scale, gamma
        n, m = (torch.tensor(counts, dtype=torch.double).clamp(min=1) for counts in (positive, negative))
        self.register_buffer("inverse", (1 / n).float(), persistent=False)
        self.register_buffer("shift", (-kappa / scale * (m / n).log()).float(), persistent=False)

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        logits, target, mask = Known.of(output, batch)
        drawn = (target * self.inverse).sum(dim=1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)
        weight = 0.1 + torch.sigmoid(10 * (self.inverse / drawn - self.mu))
        z = logits + self.shift
        positive, negative = F.softplus(-z), F.softplus(self.scale * z) / self.scale
        if self.gamma:
            weight = 2 * weight
            positive = positive * (-self.gamma * F.softplus(z)).exp()
            negative = negative * (-self.gamma * F.softplus(-self.scale * z)).exp()
        return over_known(weight * torch.lerp(negative, positive, target), mask)

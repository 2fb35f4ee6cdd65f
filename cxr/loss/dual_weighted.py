"""Binary cross-entropy beside a metric loss between images and label texts, with weights of images and of findings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.errors import CxrError
from cxr.loss.terms import Batch, Known, LossTerms, Scored, check_option

WEIGHTS = ("none", "image", "category", "both")


class DualWeighted(nn.Module):
    """Dual-weighted metric loss. The formula is ours, after the abstract of Jin et al. (Comput Biol Med 157, 2023).

    v_i = P_v x_i and t_l = P_t e_l have length 1, where x_i is the image vector and e_l the frozen vector of finding
    l's text; d is the distance of v_i and t_l. Y_i are the positive findings of image i, n_l the training positives of
    finding l. Sums are over known targets:

        a_i = 1 / max(1, |Y_i|),   b_l = n_l^(-1/2), scaled to a mean of 1
        L_metric = sum a_i b_l (y_il d^2 + (1 - y_il) max(0, margin - d)^2) / sum b_l
        L_class = sum b_l BCE(z_il, y_il) / sum b_l
        L = L_class + factor L_metric

    Args:
        positive: L counts of positive training targets.
        in_features: of the image vector.
        label_vectors: (L, E), e.
        weights: which weights apply: `none`, `image` (a), `category` (b) or `both`.
        factor: of the metric loss.
        margin: distance beyond which an absent finding gives no loss.
        width: of the common space.
    """

    activation = "sigmoid"
    vectors: Tensor
    category: Tensor

    def __init__(
        self,
        positive: Sequence[int],
        in_features: int,
        label_vectors: Tensor,
        weights: str = "both",
        factor: float = 0.5,
        margin: float = 1.0,
        width: int = 128,
    ) -> None:
        super().__init__()
        check_option("factor", factor)
        check_option("margin", margin)
        if weights not in WEIGHTS:
            raise CxrError(f"loss.weights={weights} is unknown; choose {', '.join(WEIGHTS)}")
        self.of_image, self.of_text = _projection(in_features, width), _projection(label_vectors.shape[1], width)
        self.factor, self.margin, self.by_image = factor, margin, weights in ("image", "both")
        category = torch.tensor(positive, dtype=torch.double).clamp(min=1) ** -0.5
        by_category = weights in ("category", "both")
        category = category / category.mean() if by_category else torch.ones_like(category)
        self.register_buffer("category", category.float(), persistent=False)
        self.register_buffer("vectors", label_vectors.clone(), persistent=False)

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, and image vectors (B, C), to the summed loss."""
        logits, target, mask = Known.of(output, batch)
        weight = mask * self.category
        image = F.normalize(self.of_image(output.embedding.to(self.category.dtype)), dim=1)
        cosine = image @ F.normalize(self.of_text(self.vectors), dim=1).T
        square = (2 - 2 * cosine).clamp(min=1e-12)
        metric = target * square + (1 - target) * (self.margin - square.sqrt()).clamp(min=0) ** 2
        if self.by_image:
            metric = metric / target.sum(dim=1, keepdim=True).clamp(min=1)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return LossTerms((weight * (entropy + self.factor * metric)).sum(), weight.sum())


def _projection(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width))

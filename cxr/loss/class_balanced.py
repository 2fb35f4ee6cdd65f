"""Cross-entropy that weighs rare findings more."""

from cxr.loss.terms import Batch, Known, LossTerms, Scored
from cxr.loss.weighted import WeightedLoss, cross_entropy


class ClassBalanced(WeightedLoss):
    """Softmax: the weighted mean over images, each with the weight of its finding. Sigmoid: positives are weighted.

    The weights are those of Cui et al., CVPR 2019, or the inverse of the counts, see `class_weights`. For several
    findings an image the paper has no formula; weights on positives alone are ours. Arguments as in `WeightedLoss`.
    """

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L), NaN unknown, to their summed loss."""
        return cross_entropy(Known.of(output, batch, self.activation), self.activation, self.weight_at(epoch))

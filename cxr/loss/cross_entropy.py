"""Cross-entropy over mutually exclusive findings."""

from torch import nn

from cxr.loss.terms import Batch, Known, LossTerms, Scored
from cxr.loss.weighted import cross_entropy


class CrossEntropy(nn.Module):
    """-sum(y log p) of an image, p = softmax(logits), averaged over images; targets may be soft."""

    activation = "softmax"

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L) to their summed loss; an image with an unknown target (NaN) is left out."""
        return cross_entropy(Known.of(output, batch, self.activation), self.activation)

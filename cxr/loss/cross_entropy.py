"""Cross-entropy over findings that exclude each other, one an image."""

from torch import nn

from cxr.loss.terms import Batch, LossTerms, Scored, over_known


class CrossEntropy(nn.Module):
    """-sum(y log p) of an image, p = softmax(logits), averaged over images; targets may be soft."""

    activation = "softmax"

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        """Logits and targets (B, L) to their summed loss; an image with an unknown target (NaN) is left out."""
        target = batch["target"]
        values = -(target.nan_to_num(0.0) * output.logits.log_softmax(dim=1)).sum(dim=1)
        return over_known(values, ~target.isnan().any(dim=1))

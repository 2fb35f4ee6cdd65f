"""The logits, targets and summed loss of an epoch, kept on the device until its end."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cxr.loss.terms import Batch, LossTerms

Gather = Callable[[Tensor], Tensor]


class EpochScores:
    """Collects indices, logits and targets of an epoch, gathered over ranks and sorted by index, and the summed loss.

    Attributes:
        sums: of this rank's loss so far, (total, number of terms) float64; none before the first batch.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self.sums: Tensor | None = None

    def add(self, batch: Batch, logits: Tensor, terms: LossTerms) -> None:
        """Adds a batch: logits (B, L) and its loss."""
        self.parts.append((batch["index"], logits.detach().float(), batch["target"]))
        sums = torch.stack([terms.total.detach().double(), terms.number.detach().double()])
        self.sums = sums if self.sums is None else self.sums + sums

    def state(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Index (n,), logits (n, L) and targets (n, L) added so far; none before the first batch."""
        if not self.parts:
            return None
        index, logits, target = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.parts = [(index, logits, target)]
        return index, logits, target

    def restore(self, state: Sequence[Tensor], sums: Tensor) -> None:
        """Restores the result of `state`, and `sums`."""
        index, logits, target = state
        self.parts, self.sums = [(index, logits, target)], sums

    def collect(self, gather: Gather) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Index (N,), logits and targets (N, L), on the CPU and sorted by index, and the loss's sums; then resets.

        Filler is dropped. An image that occurred several times is repeated, ordered by its logits, so that the order
        does not depend on the number of ranks.
        """
        assert self.sums is not None
        device = self.parts[-1][0].device  # a restored part may be on the CPU
        parts = [tuple(part.to(device) for part in parts) for parts in self.parts]
        index, logits, target = (gather(torch.cat(part)).cpu() for part in zip(*parts, strict=True))
        sums = gather(self.sums[None]).cpu().sum(dim=0)
        self.parts, self.sums = [], None
        keys = [*logits.numpy().T[::-1], index.numpy()]  # lexsort: the last key is the primary one
        order = torch.from_numpy(np.lexsort(keys))[int((index < 0).sum()) :]  # filler has index -1
        return index[order], logits[order], target[order], sums

"""The result of every loss: a sum and its number of terms, so that accumulated batches can be averaged exactly."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cxr.errors import CxrError

Batch = dict[str, Tensor]


class Scored(Protocol):
    """The parts of a network's output that losses read."""

    @property
    def logits(self) -> Tensor:
        """(B, L) float32."""
        ...

    @property
    def attention(self) -> Tensor | None:
        """(B, K, h, w), or none."""
        ...

    @property
    def embedding(self) -> Tensor:
        """(B, C)."""
        ...


class LossTerms(NamedTuple):
    """Attributes: total, the sum over known targets (scalar); number, what its mean divides by (scalar float).

    The number is the count of the terms, or the sum of their weights where the loss is a weighted mean.
    """

    total: Tensor
    number: Tensor


def over_known(elementwise: Tensor, known: Tensor) -> LossTerms:
    """Sums values where `known`, of the same shape, holds; unknown targets give neither value nor gradient."""
    return LossTerms(torch.where(known, elementwise, 0.0).sum(), known.count_nonzero().to(elementwise.dtype))


class Known(NamedTuple):
    """A batch as losses compute with it.

    Attributes:
        logits: (B, L), float32 or finer.
        target: (B, L), 0 where unknown.
        mask: bool, where the target is known: (B, L) for sigmoid losses; for softmax losses, which couple the targets
            of an image, (B, 1), where all of the image are.
    """

    logits: Tensor
    target: Tensor
    mask: Tensor

    @classmethod
    def of(cls, output: Scored, batch: Batch, activation: str = "sigmoid") -> "Known":
        """Logits in half precision are converted, since sums and logarithms of a loss need float32."""
        logits, target = output.logits, batch["target"]
        known = target.sum(dim=1, keepdim=True) if activation == "softmax" else target  # a sum with NaN is NaN
        mask = known == known
        if logits.dtype.itemsize < 4:
            logits = logits.float()
        return cls(logits, torch.where(mask, target, 0.0).to(logits.dtype), mask)


def check_option(name: str, value: object, least: float = 0.0, below: float = math.inf) -> None:
    """Raises CxrError unless the option `loss.<name>` is a number in [least, below)."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < below:
        limits = f"at least {least:g}" + f" and below {below:g}" * math.isfinite(below)
        raise CxrError(f"loss.{name}={value} must be a finite number of {limits}")

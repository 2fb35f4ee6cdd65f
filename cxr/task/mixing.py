"""Mixing: images, targets and attributes of a training batch become weighted sums of pairs, on the device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Above0
from cxr.data.sampling import ClassAware, Order
from cxr.loss.terms import Batch

_MIXED = ("image", "target", "attributes")


class Mixing(ABC):
    """Replaces x by (1 - share) x + share x', with one share a batch; x' is the image's partner.

    A target is unknown where that of either image is. `index` stays that of the first image.

    Attributes:
        partners: order of the second stream of images, whose batch follows the first one's in the rows of a batch;
            none where partners are of the same batch.
    """

    partners: Order | None = None

    @abstractmethod
    def share(self, rng: np.random.Generator) -> float:
        """The partner's share, in [0, 1]."""

    def __call__(self, batch: Batch, key: Sequence[int]) -> Batch:
        """The mixed batch, (B, ...), its images float32 in [0, 255].

        Args:
            batch: (B, ...), or (2B, ...) with partners from a second stream.
            key: of the random numbers: seed, epoch, batch and rank.
        """
        rng = np.random.default_rng(key)
        share = self.share(rng)
        if self.partners is None:
            partner = _partners(batch["index"], rng)
            pairs = {name: (batch[name], batch[name][partner]) for name in _MIXED if name in batch}
        else:
            pairs = {name: batch[name].tensor_split(2) for name in _MIXED if name in batch}  # type: ignore[misc]
        size = len(batch["index"]) // (1 if self.partners is None else 2)
        mixed = {name: torch.lerp(first.float(), second.float(), share) for name, (first, second) in pairs.items()}
        return {name: value[:size] for name, value in batch.items()} | mixed


class MixUp(Mixing):
    """Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018: partners by permuting the batch.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = checked_option("mix.alpha", alpha, Above0)

    def share(self, rng: np.random.Generator) -> float:
        """See `Mixing`."""
        return float(rng.beta(self.alpha, self.alpha))


class BalancedMixUp(Mixing):
    """Galdran et al., "Balanced-MixUp for Highly Imbalanced Medical Image Classification", MICCAI 2021.

    Images in their natural order are mixed with those of class-aware sampling.

    Args:
        alpha: the share of the class-balanced image is drawn from Beta(alpha, 1), with mean alpha / (1 + alpha).
    """

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = checked_option("mix.alpha", alpha, Above0)
        self.partners = ClassAware()

    def share(self, rng: np.random.Generator) -> float:
        """See `Mixing`."""
        return float(rng.beta(self.alpha, 1))


def _partners(index: Tensor, rng: np.random.Generator) -> Tensor:
    """A permutation (B,) that maps images to images and filler (index -1) to filler."""
    filler = index < 0
    keys = torch.from_numpy(rng.random(len(index))).to(index.device)
    partner = torch.empty_like(index)
    partner[filler.to(keys.dtype).argsort(stable=True)] = (keys + filler).argsort()
    return partner

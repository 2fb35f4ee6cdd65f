"""Probabilities along a tree of findings: a finding's logit is that of its presence given its parent's.

Chen et al., "Deep hierarchical multi-label classification applied to chest X-ray abnormality taxonomies", Medical
Image Analysis 2020. With the ancestors of finding l::

    log P_l = logsigmoid(z_l) + sum over ancestors j of logsigmoid(z_j)

Every function takes `parents`, (L,) columns with -1 for roots, in any order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cxr.metrics.tree import downwards

_CLOSEST = -1e-30  # log probabilities above are cut to it, so that log(1 - P) is finite


def probabilities(logits: Tensor, parents: Sequence[int]) -> Tensor:
    """Conditional logits (N, L) to P (N, L); that of a child is at most its parent's, also after rounding."""
    found = list(torch.sigmoid(logits).unbind(dim=1))
    for child in downwards(parents):
        found[child] = found[child] * found[parents[child]]
    return torch.stack(found, dim=1)


def unconditional(logits: Tensor, parents: Sequence[int]) -> Tensor:
    """Conditional logits (N, L) to log(P / (1 - P)), for which the binary cross-entropy equals that of P.

    It is exact where probabilities would be rounded to 0 or 1; roots keep their logits.
    """
    logs, found = list(F.logsigmoid(logits).unbind(dim=1)), list(logits.unbind(dim=1))
    for child in downwards(parents):
        logs[child] = logs[child] + logs[parents[child]]
        cut = logs[child].clamp(max=_CLOSEST)
        found[child] = cut - torch.log(-torch.expm1(cut))
    return torch.stack(found, dim=1)


def conditional(target: Tensor, parents: Sequence[int]) -> Tensor:
    """Targets (N, L) that are unknown (NaN) where the parent is absent or unknown; a soft parent is present from .5."""
    column = torch.tensor([max(parent, 0) for parent in parents], device=target.device)
    root = torch.tensor([parent < 0 for parent in parents], device=target.device)
    return torch.where(root | (target[:, column] >= 0.5), target, torch.nan)

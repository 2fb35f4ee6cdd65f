"""Row `losses` of systems.py: forward and backward of each loss beside timm's own, or else beside its plain formula.

Both sides see the same logits and leave out the same unknown targets; their values must agree.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from timm.loss import AsymmetricLossMultiLabel, DistributionBalancedLoss, TwoWayLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from benchmarks.made import row, say
from cxr.loss.asymmetric import Asymmetric
from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.class_balanced import ClassBalanced
from cxr.loss.cross_entropy import CrossEntropy
from cxr.loss.distribution_balanced import DistributionBalanced
from cxr.loss.dual_weighted import DualWeighted
from cxr.loss.focal import Focal
from cxr.loss.ldam import LDAM
from cxr.loss.logit_adjusted import LogitAdjusted
from cxr.loss.mae import MeanAbsoluteError
from cxr.loss.two_way import TwoWay

IMAGES, FINDINGS, FEATURES, TEXT = 256, 20, 1280, 128
CALLS, ROUNDS = 40, 21
N = [20_000 // (k + 1) ** 2 for k in range(FINDINGS)]  # training positives, long-tailed
M = [40_000 - n for n in N]
Reference = Callable[[Tensor, Tensor], Tensor]


class Output(NamedTuple):
    logits: Tensor
    attention: None
    embedding: Tensor


def weights(n: Tensor) -> Tensor:
    found = (1 - 0.9999) / (1 - 0.9999**n)
    return found / found.mean()


def masked(values: Callable[[Tensor, Tensor], Tensor]) -> Reference:
    """The mean of elementwise values over known targets."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        known = ~torch.isnan(y)
        return torch.where(known, values(x, torch.where(known, y, 0.0)), 0.0).sum() / known.sum()

    return loss


def masked_softmax(values: Callable[[Tensor, Tensor], Tensor], weight: Tensor | None = None) -> Reference:
    """The (weighted) mean over images whose targets are known."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        known = ~torch.isnan(y).any(dim=1, keepdim=True)
        y = torch.where(known, y, 0.0)
        shares = y if weight is None else y * weight
        return values(x, shares).sum() / (known.sum() if weight is None else shares.sum())

    return loss


def cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    return -y * x.log_softmax(dim=1)


def focal_softmax(x: Tensor, y: Tensor) -> Tensor:
    log_p = x.log_softmax(dim=1)
    return -y * (1 - log_p.exp()) ** 2 * log_p


def sides() -> dict[str, tuple[nn.Module, Reference]]:
    """Loss and reference by the option of `loss=`; `/softmax` is that of `task=single_label`."""
    n, m = torch.tensor(N, dtype=torch.float), torch.tensor(M, dtype=torch.float)
    margin, prior = 30 * 0.5 * (n / n.min()) ** -0.25, n / n.sum()
    entropy = F.binary_cross_entropy_with_logits
    asymmetric = AsymmetricLossMultiLabel(reduction="none")
    balanced = DistributionBalancedLoss(N, N[0] + M[0], reduction="none")
    two_way = TwoWayLoss()
    weight, odds = weights(n), (n / m).log()

    def two_way_masked(x: Tensor, y: Tensor) -> Tensor:
        return two_way(x.masked_fill(torch.isnan(y), -1e4), y.nan_to_num())

    return {
        "bce": (BinaryCrossEntropy(N, M), masked(lambda x, y: entropy(x, y, reduction="none"))),
        "bce, smoothing": (
            BinaryCrossEntropy(N, M, smoothing=0.1),
            masked(lambda x, y: entropy(x, 0.9 * y + 0.05, reduction="none")),
        ),
        "mae": (MeanAbsoluteError(), masked(lambda x, y: (torch.sigmoid(x) - y).abs())),
        "focal": (Focal(N), masked(lambda x, y: sigmoid_focal_loss(x, y, alpha=-1))),
        "asl": (Asymmetric(), masked(asymmetric)),
        "distribution_balanced": (DistributionBalanced(N, M), masked(balanced)),
        "two_way": (TwoWay(), two_way_masked),
        "class_balanced": (ClassBalanced(N), masked(lambda x, y: entropy(x, y, pos_weight=weight, reduction="none"))),
        "ldam": (LDAM(N, 30.0), masked(lambda x, y: entropy(x - margin * y, y, reduction="none"))),
        "logit_adjusted": (LogitAdjusted(N, M), masked(lambda x, y: entropy(x + odds, y, reduction="none"))),
        "cross_entropy": (CrossEntropy(), masked_softmax(cross_entropy)),
        "focal/softmax": (Focal(N, "softmax"), masked_softmax(focal_softmax)),
        "class_balanced/softmax": (ClassBalanced(N, "softmax"), masked_softmax(cross_entropy, weight)),
        "ldam/softmax": (LDAM(N, 30.0, "softmax"), masked_softmax(lambda x, y: cross_entropy(x - margin * y, y))),
        "logit_adjusted/softmax": (
            LogitAdjusted(N, M, "softmax"),
            masked_softmax(lambda x, y: cross_entropy(x + prior.log(), y)),
        ),
    }


def dual_weighted(vectors: Tensor) -> tuple[nn.Module, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """`loss=dwml`, whose reference has layers of its own with the same weights."""
    ours = DualWeighted(N, FEATURES, vectors)
    of_image, of_text = (
        nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 128)) for size in (FEATURES, TEXT)
    )
    of_image.load_state_dict(ours.of_image.state_dict())
    of_text.load_state_dict(ours.of_text.state_dict())
    category = torch.tensor(N, dtype=torch.float) ** -0.5
    category = category / category.mean()

    def loss(x: Tensor, y: Tensor, embedding: Tensor) -> Tensor:
        known = ~torch.isnan(y)
        y = torch.where(known, y, 0.0)
        image, text = F.normalize(of_image(embedding), dim=1), F.normalize(of_text(vectors), dim=1)
        distance = (2 - 2 * image @ text.T).clamp(min=1e-12).sqrt()
        metric = y * distance**2 + (1 - y) * (1 - distance).clamp(min=0) ** 2
        metric = metric / y.sum(dim=1, keepdim=True).clamp(min=1)
        entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        weight = known * category
        return (weight * (entropy + 0.5 * metric)).sum() / weight.sum()

    return ours, loss


def seconds(step: Callable[[], Tensor]) -> float:
    began = time.thread_time()
    for _ in range(CALLS):
        step().backward()
    return time.thread_time() - began


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(IMAGES, FINDINGS, requires_grad=True)
    embedding = torch.randn(IMAGES, FEATURES, requires_grad=True)
    several = (torch.rand(IMAGES, FINDINGS) < 0.1).float()
    several[torch.rand(IMAGES, FINDINGS) < 0.5] = torch.nan
    one = F.one_hot(torch.randint(FINDINGS, (IMAGES,)), FINDINGS).float()
    one[torch.rand(IMAGES) < 0.5] = torch.nan
    text = torch.randn(FINDINGS, TEXT)
    dwml, plain = dual_weighted(text)
    both: dict[str, tuple[nn.Module, Reference]] = sides() | {"dwml": (dwml, lambda x, y: plain(x, y, embedding))}
    ratios = {}
    for name, (loss, reference) in both.items():
        exclusive = name == "cross_entropy" or name.endswith("/softmax")
        y = one if exclusive else several
        batch, output = {"target": y}, Output(x, None, embedding)

        def ours(loss: nn.Module = loss, output: Output = output, batch: dict[str, Tensor] = batch) -> Tensor:
            terms = loss(output, batch, 0)
            return terms.total / terms.number

        def theirs(reference: Reference = reference, y: Tensor = y) -> Tensor:
            return reference(x, y)

        torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-5)
        gc.disable()
        times = np.array([(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)])[1:] / CALLS * 1e6
        gc.enable()
        mine, other = np.median(times, axis=0)
        ratios[name] = (float(mine), float(other), float(np.median(times[:, 1] / times[:, 0])))
        say(f"losses: {name} {mine:.0f} us, reference {other:.0f} us, ratio {ratios[name][2]:.2f}")
    worst = min(ratios, key=lambda name: ratios[name][2])
    say(f"losses: the row is that of {worst}")
    row("losses", *ratios[worst], "us")


if __name__ == "__main__":
    main()

"""Published methods trained by cxr beside bare PyTorch loops: `python benchmarks/systems.py [ROW ...]`.

Each reference is the method as a researcher writes it: MobileNetV2 of timm, tensors in memory, no framework.
docs/benchmarks.md explains the rows.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cxr.training.run as training
from benchmarks.made import configured, row, table_of
from benchmarks.training_rates import BATCH, PIXELS, THREADS, Turns, both_ways, trained
from cxr.findings import NIH14
from cxr.training.build import build_network

STEPS, FINDINGS, WIDTH, KEPT = 50, len(NIH14), 1280, 40  # KEPT: batches in memory
OPTIONS = {
    "mixup": ["mix=mixup"],
    "balanced_mixup": ["mix=balanced_mixup"],
    "csra": ["attention=csra"],
    "ldam": ["head=normalised", "loss=ldam"],
    "join": ["fusion=join"],
    "per_finding": ["head=per_finding"],
    "dwml": ["text=file", "loss=dwml"],
}
bce = F.binary_cross_entropy_with_logits


class Bare(nn.Module):
    """A network and its loss: `loss(images, targets, attributes)`."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.backbone = timm.create_model("mobilenetv2_100", in_chans=1, num_classes=0, global_pool="")
        self.head = head

    def vector(self, images: Tensor) -> Tensor:
        return self.backbone(images).mean(dim=(2, 3))

    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        return bce(self.head(self.vector(images)), targets)


class CSRA(Bare):
    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        features = self.backbone(images)
        weight = F.normalize(self.head.weight, dim=1)[:, :, None, None]
        scores = F.conv2d(features, weight, self.head.bias).flatten(2)
        return bce(scores.mean(dim=2) + 0.1 * (scores.softmax(dim=2) * scores).sum(dim=2), targets)


class LDAM(Bare):
    def __init__(self, head: nn.Module, counts: Tensor) -> None:
        super().__init__(head)
        self.margin = 0.5 * (counts / counts.min()) ** -0.25

    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(self.vector(images)), F.normalize(self.head.weight))
        return bce(30 * (cosine - self.margin * targets), targets)


class Join(Bare):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTH + 32, FINDINGS)))
        self.hidden = nn.Sequential(nn.Linear(7, 32), nn.ReLU())

    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        return bce(self.head(torch.cat([self.vector(images), self.hidden(attributes)], dim=1)), targets)


class PerFinding(Bare):
    """One small network after the other, as in the code of SwinCheX."""

    def __init__(self) -> None:
        sizes = (WIDTH, 384, 48, 48)
        super().__init__(nn.ModuleList())
        for _ in range(FINDINGS):
            layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
            self.head.append(nn.Sequential(*layers, nn.Linear(48, 2)))

    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        vector = self.vector(images)
        each = [F.cross_entropy(head(vector), targets[:, k].long()) for k, head in enumerate(self.head)]
        return torch.stack(each).sum()


class DWML(Bare):
    def __init__(self, counts: Tensor, text: Tensor) -> None:
        super().__init__(nn.Linear(WIDTH, FINDINGS))
        self.of_image, self.of_text = (
            nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 128)) for size in (WIDTH, text.shape[1])
        )
        self.text, self.weight = text, counts**-0.5 / (counts**-0.5).mean()

    def loss(self, images: Tensor, targets: Tensor, attributes: Tensor) -> Tensor:
        vector = self.vector(images)
        image, text = F.normalize(self.of_image(vector), dim=1), F.normalize(self.of_text(self.text), dim=1)
        distance = (2 - 2 * image @ text.T).clamp(min=1e-12).sqrt()
        metric = targets * distance**2 + (1 - targets) * (1 - distance).clamp(min=0) ** 2
        metric = metric / targets.sum(dim=1, keepdim=True).clamp(min=1)
        entropy = bce(self.head(vector), targets, reduction="none")
        return (self.weight * (entropy + 0.5 * metric)).sum() / (self.weight.sum() * len(images))


def network_of(name: str, counts: Tensor, text: Tensor) -> Bare:
    linear = nn.Linear(WIDTH, FINDINGS)
    if name == "csra":
        return CSRA(linear)
    if name == "ldam":
        return LDAM(nn.Linear(WIDTH, FINDINGS, bias=False), counts)
    if name in ("join", "per_finding"):
        return Join() if name == "join" else PerFinding()
    return DWML(counts, text) if name == "dwml" else Bare(linear)


def batches(name: str, images: Tensor, targets: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in order; mixed in pairs, or with those of a second, class-balanced order."""
    positives = [targets[:, k].nonzero()[:, 0] for k in range(FINDINGS)]
    rng = np.random.default_rng(0)
    for step in range(steps):
        start = step % KEPT * BATCH
        x, y = images[start : start + BATCH], targets[start : start + BATCH]
        if name == "mixup":
            share, partner = float(rng.beta(0.2, 0.2)), torch.randperm(BATCH)
            x, y = torch.lerp(x, x[partner], share), torch.lerp(y, y[partner], share)
        elif name == "balanced_mixup":
            share, drawn = float(rng.beta(0.1, 1)), torch.randint(FINDINGS, (BATCH,)).tolist()
            partner = torch.stack([positives[k][torch.randint(len(positives[k]), ())] for k in drawn])
            x, y = torch.lerp(x, images[partner], share), torch.lerp(y, targets[partner], share)
        yield x, y


def bare(name: str, steps: int, text: Tensor) -> Callable[[Turns, int], None]:
    def go(turns: Turns, side: int) -> None:
        targets = torch.from_numpy(table_of(KEPT * BATCH)[list(NIH14)].to_numpy(np.float32))
        images = torch.randn(len(targets), 1, PIXELS, PIXELS).contiguous(memory_format=torch.channels_last)
        attributes = torch.rand(BATCH, 7)
        network = network_of(name, targets.sum(dim=0), text).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(network.parameters())
        made = batches(name, images, targets, steps)
        for _ in range(steps):
            turns.begin(side)
            x, y = next(made)
            optimizer.zero_grad()
            network.loss(x, y, attributes).backward()
            optimizer.step()
            turns.over(side)

    return go


def attention_params() -> None:
    """Parameters of a network with `attention=csra` beyond those of one with `attention=none`."""
    sizes = []
    for attention in ("csra", "none"):
        config = configured("backbone=mobilenet_v2", f"attention={attention}", "head=linear")
        network = build_network(config, len(NIH14))
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    added = sizes[0] - sizes[1]
    row("attention_params", added, 0, float(added == 0), "parameters")


def main() -> None:
    every = (*OPTIONS, "losses", "attention_params")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(every)}; default all")
    rows = parser.parse_args().rows or every
    unknown = sorted(set(rows) - set(every))
    if unknown:
        parser.error(f"unknown row {', '.join(unknown)}; rows are {', '.join(every)}")
    training.finish = lambda *_: None  # type: ignore[assignment]
    torch.set_num_threads(THREADS)
    text = torch.randn(FINDINGS, 384, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as scratch:
        place = Path(scratch)
        np.savez(place / "text.npz", **dict(zip(NIH14, text.numpy(), strict=True)))
        for name in [name for name in OPTIONS if name in rows]:
            options = [*OPTIONS[name], *([f"text.file={place / 'text.npz'}"] if name == "dwml" else [])]

            def ours(
                run: str, steps: int, name: str = name, options: list[str] = options
            ) -> Callable[[Turns, int], None]:
                return trained(place, f"{name}-{run}", steps, 300, *options)

            both_ways(name, ours, lambda _, steps, name=name: bare(name, steps, text), STEPS)  # type: ignore[misc]
    if "losses" in rows:
        subprocess.run([sys.executable, str(Path(__file__).with_name("losses.py"))], check=True)
    if "attention_params" in rows:
        attention_params()


if __name__ == "__main__":
    main()

"""The dual-weighted metric loss against its formula in loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.errors import CxrError
from cxr.loss.dual_weighted import DualWeighted
from cxr.loss.terms import LossTerms
from cxr.model.network import NetworkOutput

POSITIVE = (100, 4, 25)


def made(weights: str = "both", positive: tuple[int, ...] = POSITIVE, seed: int = 0) -> DualWeighted:
    torch.manual_seed(seed)
    vectors = torch.randn(3, 5, generator=torch.Generator().manual_seed(7))
    return DualWeighted(positive, 4, vectors, weights, factor=0.7, margin=1.2, width=6)


def given(loss: DualWeighted, target: Tensor) -> LossTerms:
    generator = torch.Generator().manual_seed(1)
    logits, embedding = torch.randn(2, 3, generator=generator), torch.randn(2, 4, generator=generator)
    return loss(NetworkOutput(logits, None, embedding), {"target": target}, 0)


def unit(layers: torch.nn.Sequential, vector: Tensor) -> np.ndarray:
    first, second = layers[0], layers[2]
    hidden = np.maximum(first.weight.detach().numpy() @ vector.numpy() + first.bias.detach().numpy(), 0)  # type: ignore[operator,union-attr]
    out = second.weight.detach().numpy() @ hidden + second.bias.detach().numpy()  # type: ignore[operator,union-attr]
    return out / math.sqrt((out**2).sum())  # type: ignore[no-any-return]


@pytest.mark.parametrize("weights", ["none", "image", "category", "both"])
def test_it_is_the_formula(weights: str) -> None:
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, math.nan, 1.0]])
    loss = made(weights)
    terms = given(loss, target)
    generator = torch.Generator().manual_seed(1)
    logits, embedding = torch.randn(2, 3, generator=generator), torch.randn(2, 4, generator=generator)
    inverse = np.array(POSITIVE) ** -0.5
    category = inverse / inverse.mean() if weights in ("category", "both") else np.ones(3)
    total = number = 0.0
    for i in range(2):
        known = [label for label in range(3) if not math.isnan(target[i, label])]
        image = 1 / max(1, sum(float(target[i, label]) for label in known)) if weights in ("image", "both") else 1.0
        for label in known:
            y, z = float(target[i, label]), float(logits[i, label])
            v, t = unit(loss.of_image, embedding[i]), unit(loss.of_text, loss.vectors[label])
            d = math.sqrt(((v - t) ** 2).sum())
            metric = d**2 if y else max(0.0, 1.2 - d) ** 2
            entropy = math.log1p(math.exp(-z)) if y else math.log1p(math.exp(z))
            total += category[label] * (entropy + 0.7 * image * metric)
            number += category[label]
    assert float(terms.total) == pytest.approx(total, rel=1e-4)
    assert float(terms.number) == pytest.approx(number, rel=1e-5)


def test_equal_counts_weigh_findings_equally() -> None:
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    both, image = given(made("both", (9, 9, 9)), target), given(made("image", (9, 9, 9)), target)
    assert float(both.total) == pytest.approx(float(image.total)) and float(both.number) == 6


def test_an_unknown_target_gives_no_gradient_and_no_term() -> None:
    loss = made()
    logits = torch.zeros(1, 3, requires_grad=True)
    output = NetworkOutput(logits, None, torch.ones(1, 4))
    terms = loss(output, {"target": torch.tensor([[1.0, math.nan, 0.0]])}, 0)
    terms.total.backward()
    assert logits.grad is not None and logits.grad[0, 1] == 0 and bool(torch.isfinite(logits.grad).all())
    assert float(terms.number) == pytest.approx(float(loss.category[[0, 2]].sum()))


def test_terms_of_parts_add_up_to_those_of_the_whole() -> None:
    loss, generator = made(), torch.Generator().manual_seed(2)
    logits, embedding = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    target = (torch.rand(6, 3, generator=generator) < 0.5).float()
    parts = [
        loss(NetworkOutput(logits[k], None, embedding[k]), {"target": target[k]}, 0) for k in (slice(0, 1), slice(1, 6))
    ]
    whole = loss(NetworkOutput(logits, None, embedding), {"target": target}, 0)
    assert float(sum(part.total for part in parts)) == pytest.approx(float(whole.total), rel=1e-5)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(CxrError, match=r"loss\.weights=all is unknown; choose none, image, category, both"):
        made("all")

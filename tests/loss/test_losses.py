"""Losses against formulas written out, and unknown targets."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.cross_entropy import CrossEntropy
from cxr.loss.mae import MeanAbsoluteError
from cxr.loss.terms import LossTerms
from cxr.model.network import NetworkOutput


def given(loss: nn.Module, logits: Tensor, target: Tensor) -> LossTerms:
    return loss(NetworkOutput(logits, None, logits), {"target": target}, 0)


LOGITS = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, -4.0]], dtype=torch.float64)
TARGET = torch.tensor([[1.0, 0.0, math.nan], [0.0, math.nan, 1.0]], dtype=torch.float64)


def known_pairs() -> list[tuple[float, float, int]]:
    pairs = zip(LOGITS.flatten().tolist(), TARGET.flatten().tolist(), [0, 1, 2] * 2, strict=True)
    return [(logit, target, column) for logit, target, column in pairs if not math.isnan(target)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bce_is_the_formula_over_known_targets() -> None:
    terms = given(BinaryCrossEntropy([1, 1, 1], [1, 1, 1]), LOGITS, TARGET)
    expected = sum(-(t * math.log(sigmoid(x)) + (1 - t) * math.log(1 - sigmoid(x))) for x, t, _ in known_pairs())
    assert float(terms.total) == pytest.approx(expected) and float(terms.number) == 4


def test_positive_weights_are_negatives_over_positives() -> None:
    positive, negative = [2, 0, 5], [8, 10, 5]
    terms = given(BinaryCrossEntropy(positive, negative, positive_weights=True), LOGITS, TARGET)
    weight = [4.0, 1.0, 1.0]
    expected = sum(
        -(weight[k] * t * math.log(sigmoid(x)) + (1 - t) * math.log(1 - sigmoid(x))) for x, t, k in known_pairs()
    )
    assert float(terms.total) == pytest.approx(expected)


def test_mae_is_the_distance_of_probability_and_target() -> None:
    terms = given(MeanAbsoluteError(), LOGITS, TARGET)
    assert float(terms.total) == pytest.approx(sum(abs(sigmoid(x) - t) for x, t, _ in known_pairs()))
    assert float(terms.number) == 4


@pytest.mark.parametrize("loss", [BinaryCrossEntropy([1], [1]), MeanAbsoluteError()])
def test_unknown_targets_give_no_gradient_even_at_extreme_logits(loss: torch.nn.Module) -> None:
    logits = torch.tensor([[1e4], [-1e4], [0.3]], requires_grad=True)
    given(loss, logits, torch.tensor([[math.nan], [math.nan], [1.0]])).total.backward()
    assert logits.grad is not None
    assert logits.grad[:2].tolist() == [[0.0], [0.0]] and float(logits.grad[2]) < 0


def test_bce_agrees_with_pytorch_where_all_is_known() -> None:
    rng = np.random.default_rng(0)
    logits, target = (
        torch.tensor(rng.normal(size=(50, 4)) * 10),
        torch.tensor(rng.integers(0, 2, (50, 4)).astype(float)),
    )
    terms = given(BinaryCrossEntropy([1] * 4, [1] * 4), logits, target)
    torch.testing.assert_close(terms.total / terms.number, F.binary_cross_entropy(torch.sigmoid(logits), target))


def test_cross_entropy_is_that_of_pytorch_for_hard_and_soft_targets_and_leaves_out_unknown_images() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(50, 4)) * 5, requires_grad=True)
    hard = F.one_hot(torch.tensor(rng.integers(0, 4, 50)), 4).double()
    soft = torch.tensor(rng.dirichlet(np.ones(4), 50))
    for target in (hard, soft):
        terms = given(CrossEntropy(), logits, target)
        torch.testing.assert_close(terms.total / terms.number, F.cross_entropy(logits, target))
    filler = hard.clone()
    filler[7:] = math.nan
    terms = given(CrossEntropy(), logits, filler)
    torch.testing.assert_close(terms.total, F.cross_entropy(logits[:7], hard[:7], reduction="sum"))
    assert float(terms.number) == 7
    terms.total.backward()
    assert logits.grad is not None and not logits.grad[7:].any() and logits.grad[:7].all()

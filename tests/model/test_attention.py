"""Multi-head and class-specific residual attention against loops in NumPy and published numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.attention import (
    TEMPERATURES,
    AveragePooling,
    ClassSpecificResidualAttention,
    LocationAttention,
    MultiHeadAttention,
)
from cxr.model.backbone import Backbone
from cxr.model.head import LinearHead, MLPHead
from cxr.model.network import Network
from cxr.training.build import build_network
from tests.training.conftest import composed


def linear(weight: list[list[float]], bias: float = 0.0) -> LinearHead:
    """A linear head of these rows."""
    head = LinearHead(len(weight[0]), len(weight))
    with torch.no_grad():
        head.layers[1].weight.copy_(torch.tensor(weight))
        head.layers[1].bias.fill_(bias)
    return head


def test_csra_gives_the_published_number() -> None:
    features = torch.tensor([[[[1.0, 2.0, 4.0]], [[9.0, 9.0, 9.0]]]])
    logits, vector, maps = ClassSpecificResidualAttention(2, 1)(features, linear([[5.0, 0.0]]))
    assert float(logits.detach()) == pytest.approx(2.697891, abs=1e-6)
    assert vector.tolist() == [[pytest.approx(7 / 3), 9.0]]
    assert maps.flatten().tolist() == pytest.approx(np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum())


@pytest.mark.parametrize("heads", TEMPERATURES)
def test_csra_pools_as_a_loop_over_heads_findings_and_positions(heads: int) -> None:
    torch.manual_seed(0)
    attention, head = ClassSpecificResidualAttention(5, 3, heads, lam=0.3), LinearHead(5, 3)
    features = torch.randn(2, 5, 2, 4)
    logits, vector, maps = attention(features, head)
    assert vector.shape == (2, 5) and maps.shape == (2, 3, 2, 4)
    x, first = features.numpy().reshape(2, 5, 8), head.layers[1]
    weights = [first.weight.detach().numpy(), *(one.weight.detach().numpy() for one in attention.classifiers)]
    biases = [first.bias.detach().numpy()] + [np.zeros(3)] * (heads - 1)
    assert len(weights) == heads
    for b in range(2):
        for finding in range(3):
            expected, mean = 0.0, np.zeros(8)
            for w, bias, t in zip(weights, biases, TEMPERATURES[heads], strict=True):
                s = w[finding] @ x[b] / np.sqrt((w[finding] ** 2).sum()) + bias[finding]
                a = np.eye(8)[s.argmax()] if t == 99 else np.exp(t * s) / np.exp(t * s).sum()
                expected += s.mean() + 0.3 * (a * s).sum()
                mean += a / heads
            assert float(logits[b, finding]) == pytest.approx(expected, rel=1e-5)
            np.testing.assert_allclose(maps[b, finding].detach().numpy().ravel(), mean, rtol=1e-4, atol=1e-6)


def test_csra_without_the_attention_term_is_the_mean_score_of_each_head() -> None:
    features, head = torch.randn(2, 4, 3, 3), linear([[0.0, 0.0, 3.0, 0.0]], bias=0.5)
    logits, _, _ = ClassSpecificResidualAttention(4, 1, lam=0.0)(features, head)
    torch.testing.assert_close(logits[:, 0], features[:, 2].mean((1, 2)) + 0.5)


def test_csra_with_one_head_adds_no_parameter_to_a_linear_head() -> None:
    def count(*options: str) -> int:
        return sum(p.numel() for p in build_network(composed("image_size=64", *options), 14).parameters())

    assert count("attention=csra") == count("attention=none")
    width = Backbone("resnet10t", 64).out_features
    assert count("attention=csra", "attention.heads=4") == count("attention=none") + 3 * 14 * width


def test_csra_scores_positions_with_any_head() -> None:
    torch.manual_seed(0)
    head, features = MLPHead(6, 2, (8,), dropout=0.0), torch.randn(3, 6, 2, 2)
    logits, _, maps = ClassSpecificResidualAttention(6, 2)(features, head)
    scores = torch.stack([head(features[:, :, y, x]) for y in range(2) for x in range(2)], dim=2)
    expected = scores.mean(2) + 0.1 * (scores.exp() / scores.exp().sum(2, keepdim=True) * scores).sum(2)
    torch.testing.assert_close(logits, expected)
    assert maps.shape == (3, 2, 2, 2)


def test_one_query_is_location_attention_and_several_are_several_of_it() -> None:
    torch.manual_seed(0)
    features, several = torch.randn(2, 6, 3, 4), MultiHeadAttention(6, heads=3)
    nn.init.normal_(several.score.weight)
    vector, maps = several(features)
    assert vector.shape == (2, several.out_features) == (2, 18) and maps.shape == (2, 3, 3, 4)
    for k in range(3):
        one = LocationAttention(6)
        with torch.no_grad():
            one.score.weight.copy_(several.score.weight[k : k + 1])
        theirs, their_map = one(features)
        torch.testing.assert_close(vector[:, 6 * k : 6 * (k + 1)], theirs)
        torch.testing.assert_close(maps[:, k : k + 1], their_map)


def test_queries_start_as_average_pooling_and_part_at_the_first_step() -> None:
    torch.manual_seed(0)
    attention, head, features = MultiHeadAttention(4, heads=2), LinearHead(8, 3), torch.randn(5, 4, 3, 3)
    vector, _ = attention(features)
    torch.testing.assert_close(vector, AveragePooling(4)(features)[0].repeat(1, 2))
    head(vector).square().sum().backward()
    first, second = attention.score.weight.grad
    assert float((first - second).abs().max()) > 1e-4


def test_maps_of_csra_are_those_of_findings_and_of_queries_those_of_heads() -> None:
    for name, of, count in (("csra", "findings", 5), ("multi_head", "heads", 4)):
        network = build_network(composed("image_size=64", f"attention={name}"), 5).eval()
        output = network({"image": torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)})
        assert output.attention_of == of and output.logits.shape == (2, 5)
        assert output.attention.shape == (2, count, *network.backbone.map_size)
        torch.testing.assert_close(output.attention.sum((2, 3)), torch.ones(2, count))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, r"attention\.heads=3 is unknown; choose one of 1, 2, 4, 6, 8"),
        ({"lam": -0.1}, r"attention\.lam=-0\.1 must be a finite number, 0 or more"),
        ({"lam": float("nan")}, r"attention\.lam=nan must be"),
    ],
)
def test_csra_refuses_what_it_has_no_temperatures_for(options: dict[str, float], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        ClassSpecificResidualAttention(4, 2, **options)  # type: ignore[arg-type]


def test_no_query_at_all_is_refused() -> None:
    with pytest.raises(CxrError, match=r"attention\.heads=0 must be a positive whole number"):
        MultiHeadAttention(4, heads=0)


def test_csra_is_finite_in_half_precision() -> None:
    backbone = Backbone("resnet10t", 64)
    attention = ClassSpecificResidualAttention(backbone.out_features, 3, heads=2)
    network = Network(backbone, attention, LinearHead(backbone.out_features, 3), Preprocessing(64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        output = network({"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8)})
        output.logits.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)

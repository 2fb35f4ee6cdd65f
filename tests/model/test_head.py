"""A head for each finding, against networks built finding by finding."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cxr.errors import CxrError
from cxr.model.head import PerFindingHead


def test_the_default_is_swinchex() -> None:
    head = PerFindingHead(1536, 14)
    assert sum(p.numel() for p in head.parameters()) == 8_555_932  # SwinCheX with Swin-L: 1536-384-48-48-2, 14 times
    weights = torch.cat([p.flatten() for name, p in head.named_parameters() if name.endswith("weight")])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.01)
    assert all(not p.any() for name, p in head.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("hidden", [(), (7,), (9, 6), (9, 6, 5)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_each_finding_has_its_own_network(hidden: tuple[int, ...], outputs: int) -> None:
    torch.manual_seed(0)
    head, vector = PerFindingHead(4, 3, hidden, outputs), torch.randn(5, 4)
    for p in head.parameters():
        nn.init.normal_(p)
    linear = [layer for layer in head.layers if not isinstance(layer, nn.ReLU)]
    logits = head(vector)
    assert logits.shape == (5, 3) and len(linear) == len(hidden) + 1
    for finding in range(3):
        layers: list[nn.Module] = []
        for layer in linear:
            one = nn.Linear(layer.weight.shape[2], layer.weight.shape[1])
            one.load_state_dict({"weight": layer.weight[finding], "bias": layer.bias[finding]})
            layers += [one, nn.ReLU()]
        theirs = nn.Sequential(*layers[:-1])(vector)
        expected = theirs[:, 1] - theirs[:, 0] if outputs == 2 else theirs[:, 0]
        torch.testing.assert_close(logits[:, finding], expected, rtol=1e-4, atol=1e-4)


def test_a_finding_moves_no_other_findings_network() -> None:
    head = PerFindingHead(4, 3, (6,))
    head(torch.randn(8, 4))[:, 1].sum().backward()
    for p in head.parameters():
        moved = p.grad.flatten(1).abs().sum(1) if p.grad is not None else torch.ones(3)
        assert moved[0] == moved[2] == 0
    assert float(head.layers[-1].bias.grad[1].abs().sum()) > 0


def test_the_difference_of_two_outputs_trains_as_their_smoothed_cross_entropy() -> None:
    outputs = torch.tensor([[0.0, 1.2]])  # golden number of SwinCheX's loss
    theirs = F.cross_entropy(outputs, torch.tensor([1]), label_smoothing=0.1)
    ours = F.binary_cross_entropy_with_logits(outputs[:, 1] - outputs[:, 0], torch.tensor([0.95]))
    assert float(ours) == pytest.approx(float(theirs)) == pytest.approx(0.323282, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden": [0]}, r"head\.hidden=\[0\] must be a list of positive whole numbers"),
        ({"outputs": 3}, r"head\.outputs=3 is unknown; choose 1 or 2"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        PerFindingHead(4, 2, **options)  # type: ignore[arg-type]

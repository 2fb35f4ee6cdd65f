"""Probabilities along a tree of findings, against products and logarithms in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cxr.errors import CxrError
from cxr.model.network import NetworkOutput
from cxr.task.chain import conditional, probabilities, unconditional
from cxr.task.multi_label import MultiLabel

CHAIN = [-1, 0, 1]
TREE = [2, -1, 1, 0, -1, 2]  # 1 above 2; 2 above 0 and 5; 0 above 3; 4 alone: children may come before their parents
PATHS = [(0, 2, 1), (1,), (2, 1), (3, 0, 2, 1), (4,), (5, 2, 1)]


def test_a_chain_of_three_gives_the_golden_numbers() -> None:
    logits, target = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert probabilities(logits, CHAIN)[0].tolist() == pytest.approx([0.880797, 0.236883, 0.147450], abs=1e-6)
    loss = F.binary_cross_entropy_with_logits(unconditional(logits, CHAIN), target, reduction="sum")
    assert float(loss) == pytest.approx(1.726641, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_tree_in_any_order_multiplies_along_paths(scale: float) -> None:
    logits = scale * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    sigmoid = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = np.stack([sigmoid[:, path].prod(axis=1) for path in PATHS], axis=1)
    np.testing.assert_allclose(probabilities(logits, TREE).numpy(), expected, rtol=1e-5)
    found = unconditional(logits, TREE)
    np.testing.assert_allclose(found.numpy(), np.log(expected) - np.log1p(-expected), rtol=2e-5, atol=2e-5)
    assert torch.equal(found[:, [1, 4]], logits[:, [1, 4]]), "roots keep their logits"


@given(st.lists(st.floats(-200, 200, width=32), min_size=6, max_size=6))
def test_a_child_is_never_above_its_parent_and_gradients_are_finite(values: list[float]) -> None:
    logits = torch.tensor([values], requires_grad=True)
    found = probabilities(logits, TREE)[0]
    assert all(found[child] <= found[parent] for child, parent in enumerate(TREE) if parent >= 0)
    for target in (torch.zeros(1, 6), torch.ones(1, 6)):
        (gradient,) = torch.autograd.grad(
            F.binary_cross_entropy_with_logits(unconditional(logits, TREE), target), logits
        )
        assert torch.isfinite(gradient).all()


def test_gradients_are_those_of_finite_differences() -> None:
    logits = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: unconditional(z, TREE), (logits,))


def test_targets_are_unknown_where_the_parent_is_not_present() -> None:
    nan = float("nan")
    target = torch.tensor([[1, 1, 0], [0, 1, 1], [nan, 1, 1], [1, nan, 0], [0.6, 0.4, 1.0]])
    expected = [[1, 1, 0], [0, nan, 1], [nan, nan, 1], [1, nan, nan], [0.6, 0.4, nan]]
    np.testing.assert_array_equal(conditional(target, CHAIN).numpy(), np.float32(expected))


def test_training_is_conditional_in_the_first_epochs_and_validation_never(monkeypatch: pytest.MonkeyPatch) -> None:
    task = MultiLabel({"a": {"b": None}}, conditional_epochs=1)
    task.findings = ("a", "b")
    output = NetworkOutput(torch.tensor([[1.0, 2.0]]), None, torch.zeros(1, 1))
    batch = {"target": torch.tensor([[0.0, 0.0]])}
    joint = np.log([[np.e, 1 / ((1 + np.exp(-1)) * (1 + np.exp(-2)) - 1)]])  # logits of .73 and of .73 * .88
    for epoch, training, expected, known in ((0, True, [[1, 2]], 1), (1, True, joint, 2), (0, False, joint, 2)):
        monkeypatch.setattr(MultiLabel, "current_epoch", epoch)
        seen, shown = task.train(training).loss_inputs(output, batch)
        np.testing.assert_allclose(seen.logits.numpy(), expected, rtol=1e-5)
        assert int((~shown["target"].isnan()).sum()) == known


def test_a_task_without_a_tree_changes_nothing() -> None:
    output, batch = NetworkOutput(torch.ones(1, 2), None, torch.zeros(1, 1)), {"target": torch.ones(1, 2)}
    seen, shown = MultiLabel().loss_inputs(output, batch)
    assert seen is output and shown is batch


def test_a_number_of_epochs_below_0_is_refused() -> None:
    with pytest.raises(CxrError, match=r"task\.conditional_epochs=-1 must be 0 or a positive whole number"):
        MultiLabel({"a": None}, conditional_epochs=-1)

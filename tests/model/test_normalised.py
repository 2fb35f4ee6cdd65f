"""A head of cosines."""

import numpy as np
import pytest
import torch

from cxr.model.normalised import NormalisedHead


def test_logits_are_scaled_cosines_whatever_the_lengths_and_under_autocast_too() -> None:
    head = NormalisedHead(5, 3, scale=20.0)
    vector = torch.tensor(np.random.default_rng(0).normal(size=(4, 5)), dtype=torch.float32)
    weight = head.weight.detach().numpy()
    expected = [
        [20 * x @ w / np.sqrt((x @ x) * (w @ w)) for w in weight.astype(float)] for x in vector.numpy().astype(float)
    ]
    for scaled in (vector, 100 * vector):
        np.testing.assert_allclose(head(scaled).detach().numpy(), expected, rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_allclose(head(scaled).detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    assert head(torch.zeros(1, 5)).tolist() == [[0.0] * 3]
    assert sum(p.numel() for p in head.parameters()) == 15  # no bias
    with pytest.raises(RuntimeError, match="shapes"):
        head(vector[:, :4])

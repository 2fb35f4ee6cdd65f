"""Age, sex and view joined to the image vector, and hidden at random in training."""

from math import nan

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cxr.data.attributes import hidden
from cxr.data.augment import Draws
from cxr.errors import CxrError
from cxr.model.fusion import Join, encoded
from cxr.training.build import build_network
from tests.training.conftest import composed

MAN = [0.6, 1.0, 0.0, 1.0, 0.0]  # 60 years, PA
UNKNOWN = [nan, 0.0, 0.0, 0.0, 0.0]


def test_attributes_are_encoded_with_a_flag_for_each_that_is_missing() -> None:
    rows = [MAN, [1.5, 0.0, 1.0, 0.0, 1.0], UNKNOWN, [0.0, 1.0, 0.0, 0.0, 0.0]]
    assert encoded(torch.tensor(rows)).tolist() == [
        [pytest.approx(0.6), 0, 0, 0, 1, 0, 0],  # age, none; female, none; PA, AP, none
        [1, 0, 1, 0, 0, 1, 0],
        [0, 1, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
    ]


def test_the_vector_is_followed_by_a_hidden_layer_of_the_attributes() -> None:
    torch.manual_seed(0)
    join, vector = Join(5, width=4).eval(), torch.randn(2, 5)
    joined = join(vector, {"attributes": torch.tensor([MAN, UNKNOWN])})
    assert joined.shape == (2, join.out_features) == (2, 9)
    layer = join.hidden[0]
    inputs = torch.tensor([[0.6, 0, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 1.0]])
    torch.testing.assert_close(joined, torch.cat([vector, F.relu(inputs @ layer.weight.T + layer.bias)], dim=1))


def test_a_network_learns_from_attributes_and_without_the_image_from_them_alone() -> None:
    torch.manual_seed(0)
    network = build_network(composed("image_size=32", "backbone=blank", "fusion=join"), 3)
    batch = {
        "image": torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8),
        "attributes": torch.tensor([MAN, [0.2, 0.0, 1.0, 0.0, 1.0]]),
    }
    logits = network.eval()(batch).logits
    assert torch.equal(logits, network(batch | {"image": 255 - batch["image"]}).logits)
    assert not torch.equal(logits[0], logits[1])
    logits.sum().backward()
    assert float(network.fusion.hidden[0].weight.grad.abs().sum()) > 0


def test_without_fusion_attributes_change_nothing() -> None:
    network = build_network(composed("image_size=32", "experiment=pillai_customnet", "fusion=none", "data.root=x"), 3)
    image = torch.randint(0, 256, (2, 1, 224, 224), dtype=torch.uint8)
    outputs = [network.eval()({"image": image, "attributes": torch.tensor([a, a])}).logits for a in (MAN, UNKNOWN)]
    assert torch.equal(*outputs)


def test_csra_has_no_vector_that_attributes_could_join() -> None:
    with pytest.raises(CxrError, match=r"scores positions, and Join joins .*; choose another attention, or fusion=no"):
        build_network(composed("image_size=32", "attention=csra", "fusion=join"), 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, r"fusion\.width=0 must be a positive whole number"),
        ({"dropout": 1.0}, r"fusion\.dropout=1\.0 must be 0 or more and below 1"),
        ({"attribute_dropout": -0.1}, r"fusion\.attribute_dropout=-0\.1 must be"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        Join(4, **options)  # type: ignore[arg-type]


class TestHidden:
    """Attributes that training does not see."""

    values = np.tile(np.float32(MAN), (4000, 1))

    def missing(self, epoch: int = 0, seed: int = 0, rows: slice = slice(None)) -> np.ndarray:
        """(N, 3), whether age, sex and view of images are missing."""
        index = np.arange(4000)[rows]
        inputs = encoded(torch.from_numpy(hidden(self.values[rows], 0.1, seed, Draws.of(index, epoch))))
        return inputs[:, [1, 3, 6]].numpy().astype(bool)

    def test_each_is_hidden_in_its_share_of_images_independently_of_the_others(self) -> None:
        missing = self.missing()
        np.testing.assert_allclose(missing.mean(axis=0), 0.1, atol=0.02)
        assert (missing[:, 0] & missing[:, 1]).mean() == pytest.approx(0.01, abs=0.006)

    def test_what_is_hidden_depends_on_seed_epoch_and_image_alone(self) -> None:
        whole = self.missing()
        assert np.array_equal(whole[1000:1010], self.missing(rows=slice(1000, 1010)))
        assert not np.array_equal(whole, self.missing(epoch=1))
        assert not np.array_equal(whole, self.missing(seed=1))

    def test_what_is_not_hidden_stays_and_a_share_of_none_hides_nothing(self) -> None:
        shown, missing = hidden(self.values, 0.1, 0, Draws.of(np.arange(4000))), self.missing()
        assert np.array_equal(shown[~missing[:, 0], 0], self.values[~missing[:, 0], 0])
        assert (shown[~missing[:, 1], 1:3] == [1, 0]).all() and (shown[~missing[:, 2], 3:] == [1, 0]).all()
        assert np.array_equal(hidden(self.values, 0.0, 0, Draws.of(np.arange(4000))), self.values)

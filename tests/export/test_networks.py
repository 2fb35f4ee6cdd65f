"""Features for the detectors are averages of a network's feature maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.export.networks import Calibrated, stages, to_onnx
from cxr.export.opened import Scorer, open_run
from cxr.use.bundle import forward_of
from tests.export.conftest import FINDINGS, Runs


class Pyramid(nn.Module):
    """Two convolutions of stride 2 whose maps have channels first or last, and modules that return other tensors."""

    def __init__(self, last: bool, calls: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, 2, 1), nn.Conv2d(3, 5, 3, 2, 1)
        self.attention, self.pooled, self.shared = nn.Identity(), nn.Identity(), nn.Identity()
        self.last, self.calls = last, calls

    def forward(self, image: Tensor) -> Tensor:
        found = self.first(image)
        for _ in range(self.calls):
            found = self.shared(found)
        found = self.second(found)
        self.attention(torch.zeros(len(image), 2, 64, 64))
        self.pooled(found.mean(dim=(2, 3), keepdim=True))
        return found.permute(0, 2, 3, 1) if self.last else found


@pytest.mark.parametrize("last", [False, True])
def test_stages_are_the_last_maps_of_each_resolution(last: bool) -> None:
    assert stages(Pyramid(last, calls=0), 32) == {"first": 3, "": 5}
    assert stages(Pyramid(last, calls=1), 32) == {"shared": 3, "": 5}
    assert stages(Pyramid(last, calls=2), 32) == {"": 5}, "a module that is called twice has two averages"
    assert stages(Pyramid(last, calls=0), 2) == {}, "maps of one position"


def test_exported_features_are_averages_of_feature_maps(runs: Runs) -> None:
    opened = open_run(str(runs["b"].path))
    member, backbone = opened.system.members[0], opened.scorers[0].network.backbone
    network = Calibrated(opened.scorers[0], member, None, (-1,) * 3, pooled=True)
    maps = dict[str, Tensor]()
    hooks = [
        backbone.get_submodule(name).register_forward_hook(
            lambda _, given, value, name=name: maps.update({name: value})
        )
        for name in network.stages
    ]
    image = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 24), np.uint8)
    attributes = torch.tensor([[0.5, 1, 0, 0, 1]] * 3)
    with torch.no_grad():
        opened.scorers[0](torch.from_numpy(image), attributes)
    for hook in hooks:
        hook.remove()
    sides = [value.shape[-1] for value in maps.values()]
    assert len(sides) >= 2 and sides == sorted(set(sides), reverse=True) and sides[0] < 24
    lengths = list(network.stages.values())
    forward = forward_of(to_onnx(network, "b"), member, 3, "b", sum(lengths))
    expected = torch.cat([value.flatten(2).mean(dim=2) for value in maps.values()], dim=1)
    np.testing.assert_allclose(forward(image, attributes.numpy())[2], expected, atol=1e-5, rtol=1e-5)
    assert [value.shape[1] for value in maps.values()] == lengths


@pytest.mark.parametrize(("tta", "size"), [("flip", 24), ("crops", 32)])
def test_features_of_several_views_are_those_of_the_first(runs: Runs, tta: str, size: int) -> None:
    opened, sides = open_run(str(runs["b"].path)), list[int]()
    loaded, member = opened.loaded[0], opened.system.members[0]
    plain = Calibrated(opened.scorers[0], member, None, (-1,) * 3, pooled=True)
    averaging = Scorer(replace(loaded, config={**loaded.config, "tta": tta}), FINDINGS)
    shown = replace(member.preprocessing, size=size, crop=False)
    loaded.network.backbone.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))
    several = Calibrated(averaging, replace(member, preprocessing=shown, maps=""), None, (-1,) * 3, pooled=True)
    image, attributes = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8), torch.zeros(2, 5)
    edge = (size - 24) // 2
    with torch.no_grad():
        expected = plain(image[..., edge : edge + 24, edge : edge + 24].contiguous(), attributes)[-1]
        torch.testing.assert_close(several(image, attributes)[-1], expected)
    assert set(sides) == {24}, "a network for a fixed size sees that size only"

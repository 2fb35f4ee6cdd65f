"""Rates and weight decay by parameter, against timm's own groups of a whole network."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.training.assemble import assemble
from cxr.training.build import build_network
from cxr.training.devices import resolve_devices
from cxr.training.groups import build_optimizer, with_groups
from cxr.training.initial import freeze
from cxr.training.schedule import cosine
from tests.training.conftest import Configure, composed


def settings(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """Rate and weight decay of every parameter of the backbone, by timm's name; of any other by ours."""
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name.removeprefix("backbone.net."): of[id(p)] for name, p in network.named_parameters()}


def made(*overrides: str) -> tuple[torch.optim.Optimizer, torch.nn.Module]:
    config = composed("optimizer.lr=0.1", "optimizer.weight_decay=0.02", "image_size=64", *overrides)
    network = build_network(config, 3)
    return with_groups(build_optimizer(config), network, config)(network.parameters()), network


@pytest.mark.parametrize(
    "name", ["resnet10t", "convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "densenet121"]
)
def test_rates_and_decay_of_a_backbone_are_those_of_timm(name: str) -> None:
    optimizer, network = made(
        "backbone=timm",
        f"backbone.name={name}",
        "optimizer.groups.layer_decay=0.7",
        "optimizer.groups.decay_norms=false",
    )
    size = {"img_size": 64} if name.startswith(("swin", "vit")) else {}
    whole = timm.create_model(name, in_chans=1, num_classes=3, **size)
    theirs = param_groups_layer_decay(whole, 0.02, whole.no_weight_decay() if hasattr(whole, "no_weight_decay") else (),
                                      layer_decay=0.7)  # fmt: skip
    names = {id(p): key for key, p in whole.named_parameters()}
    expected = {names[id(p)]: (0.1 * g["lr_scale"], g["weight_decay"]) for g in theirs for p in g["params"]}
    found = settings(optimizer, network)
    backbone = {key: value for key, value in found.items() if not key.startswith(("attention.", "head.layers"))}
    assert backbone and backbone == {key: pytest.approx(expected[key]) for key in backbone}
    assert found["head.layers.1.weight"] == (0.1, 0.02) and found["head.layers.1.bias"] == (0.1, 0)
    assert len({rate for rate, _ in found.values()}) > 4 and optimizer.param_groups[0]["lr"] == 0.1


def test_without_layer_decay_every_rate_is_the_same_and_only_matrices_decay() -> None:
    optimizer, network = made("optimizer.groups.decay_norms=false", "head=per_finding", "head.hidden=[4]")
    theirs = param_groups_weight_decay(network, 0.02)
    bare = {id(p) for group in theirs if group["weight_decay"] == 0 for p in group["params"]}
    for name, parameter in network.named_parameters():
        none = id(parameter) in bare or name.endswith("bias")  # those of per_finding have two dimensions
        assert settings(optimizer, network)[name.removeprefix("backbone.net.")] == (0.1, 0 if none else 0.02), name


def test_by_default_there_is_one_group_of_all_parameters() -> None:
    optimizer, network = made()
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(list(network.parameters()))]


def test_the_schedule_scales_every_group_alike() -> None:
    optimizer, _ = made("optimizer.groups.layer_decay=0.5")
    before = [group["lr"] for group in optimizer.param_groups]
    entry = cosine(optimizer, 10, warmup=0.5)
    assert entry is not None
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 5 for rate in before])


def test_a_backbone_without_layers_is_refused_before_data_are_read(configure: Configure, tmp_path: Any) -> None:
    config = configure("backbone=custom", "optimizer.groups.layer_decay=0.5", "data.train_list=none.txt")
    with pytest.raises(CxrError, match=r"CustomNet has no group_matcher; pass optimizer\.groups\.layer_decay=null"):
        assemble(config, Run(tmp_path / "a"), resolve_devices(config["trainer"]))


def test_frozen_parts_are_in_no_group() -> None:
    config = composed("optimizer.groups.layer_decay=0.5", "optimizer.groups.decay_norms=false")
    network = build_network(config, 3)
    freeze(network, ["backbone", "attention"])
    optimizer = with_groups(build_optimizer(config), network, config)(
        p for p in network.parameters() if p.requires_grad
    )
    layer = network.head.layers[1]
    assert [group["params"] for group in optimizer.param_groups] == [[layer.weight], [layer.bias]]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0]

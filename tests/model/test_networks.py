"""Backbones, attention and heads, alone and in every combination."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import nn

from cxr.configuration.targets import build
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.attention import AveragePooling, GapMaskAttention, LocationAttention, smooth
from cxr.model.backbone import Backbone
from cxr.model.simple import Blank, CustomNet
from cxr.training.build import build_network
from tests.training.conftest import composed

CONF = Path(__file__).parents[2] / "conf"


def option(group: str, name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))  # type: ignore[return-value]


def options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


BACKBONES = options_of("backbone")


@pytest.mark.parametrize(
    ("backbone", "attention", "head"),
    [(name, "location", "linear") for name in BACKBONES]
    + [("resnet10", attention, head) for attention in options_of("attention") for head in options_of("head")],
)
def test_one_backward_pass_gives_every_parameter_a_gradient(backbone: str, attention: str, head: str) -> None:
    config = composed(f"backbone={backbone}", f"attention={attention}", f"head={head}", "image_size=80")
    network = build_network(config, 5, label_vectors=torch.randn(5, 8)).train()
    output = network({"image": torch.randint(0, 256, (2, 1, 80, 80), dtype=torch.uint8)})
    assert output.logits.shape == (2, 5) and output.embedding.shape == (2, network.attention.out_features)
    output.logits.square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("timm", "blank", "custom")])
def test_stated_mean_and_std_are_the_mean_over_the_weights_channels(name: str) -> None:
    stated = option("backbone", name)
    published = timm.get_pretrained_cfg(stated["name"])
    assert stated["mean"] == pytest.approx(np.mean(published.mean), abs=5e-4)
    assert stated["std"] == pytest.approx(np.mean(published.std), abs=5e-4)


def test_vgg_carries_no_classifier() -> None:
    network = Backbone("vgg19", 64)
    convolutions = sum(m.weight.numel() + m.bias.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    assert sum(p.numel() for p in network.parameters()) == convolutions < 21e6


def test_too_small_an_image_is_refused_with_the_least_size_that_works() -> None:
    with pytest.raises(CxrError, match=r"image_size=64 does not fit inception_resnet_v2.*the minimum is 75"):
        Backbone("inception_resnet_v2", 64)
    theirs = timm.create_model("inception_resnet_v2", num_classes=0).eval()
    theirs(torch.zeros(1, 3, 75, 75))
    with pytest.raises(RuntimeError):
        theirs(torch.zeros(1, 3, 74, 74))


def test_unknown_model_is_refused_with_close_names() -> None:
    with pytest.raises(CxrError, match=r"backbone\.name=resnet5 is not a model of timm; the closest are .*resnet50"):
        Backbone("resnet5", 64)


def test_transformers_of_one_image_size_are_built_for_ours() -> None:
    assert Backbone("vit_tiny_patch16_224", 96)(torch.zeros(2, 1, 96, 96)).shape == (2, 192, 6, 6)
    assert Backbone("swin_tiny_patch4_window7_224", 112)(torch.zeros(1, 1, 112, 112)).shape[:2] == (1, 768)


def test_drop_path_skips_branches_in_training_alone() -> None:
    torch.manual_seed(0)
    image, skips = torch.randn(4, 1, 32, 32), Backbone("vit_tiny_patch16_224", 32, drop_path=0.5)
    assert torch.equal(skips.eval()(image), skips(image)) and not torch.equal(skips.train()(image), skips(image))
    with pytest.raises(CxrError, match=r"vgg16 has no residual branches to skip; pass backbone\.drop_path=0"):
        Backbone("vgg16", 64, drop_path=0.1)
    with pytest.raises(CxrError, match=r"backbone\.drop_path=1 must be 0 or more and below 1"):
        Backbone("resnet10t", 32, drop_path=1)


def test_customnet_halves_four_times() -> None:
    network = CustomNet(80)
    features = network(torch.zeros(2, 1, 80, 80))
    assert features.shape == (2, 256, 5, 5) == (2, network.out_features, *network.map_size)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    widths = [(m.in_channels, m.out_channels) for m in convolutions]
    assert widths == [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    with pytest.raises(CxrError, match=r"image_size=15 does not fit backbone=custom; the minimum is 16"):
        CustomNet(15)


def test_backbones_without_weights_say_so() -> None:
    for backbone, name in ((CustomNet, "custom"), (Blank, "blank")):
        with pytest.raises(CxrError, match=rf"backbone={name} has no pretrained weights"):
            backbone(64, pretrained=True)


class TestWeights:
    """Local weight files."""

    def save(self, path: Path, **changes: Any) -> Path:
        state = timm.create_model("mobilenetv1_100", num_classes=10).state_dict()
        state.update(changes)
        torch.save({key: value for key, value in state.items() if value is not None}, path)
        return path

    def test_a_gray_image_scores_as_three_equal_channels_did(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "w.pth")
        colour = timm.create_model("mobilenetv1_100", num_classes=10)
        colour.load_state_dict(torch.load(path))
        gray = Backbone("mobilenetv1_100", 64, weights=str(path))
        image = torch.randn(2, 1, 64, 64)
        ours, theirs = gray.eval()(image), colour.eval().forward_features(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"blocks.0.0.conv_pw.weight": None}, "lacks blocks.0.0.conv_pw.weight"),
            ({"stranger": torch.zeros(1)}, "has the unknown stranger"),
            ({"bn1.weight": torch.zeros(7)}, "has another shape of bn1.weight"),
        ],
    )
    def test_all_but_the_classifier_must_fit(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(CxrError, match=message):
            Backbone("mobilenetv1_100", 64, weights=str(self.save(tmp_path / "w.pth", **changes)))

    def test_a_file_that_is_none_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_text("hello")
        with pytest.raises(CxrError, match="is not a weights file"):
            Backbone("mobilenetv1_100", 64, weights=str(tmp_path / "w.pth"))
        with pytest.raises(CxrError, match="is not a file"):
            Backbone("mobilenetv1_100", 64, weights=str(tmp_path / "none.pth"))

    def test_a_pickle_with_code_in_it_runs_nothing(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "boom",)

        torch.save({"w": Bomb()}, tmp_path / "w.pth")
        with pytest.raises(CxrError):
            Backbone("mobilenetv1_100", 64, weights=str(tmp_path / "w.pth"))
        assert not (tmp_path / "boom").exists()

    def test_real_weights_load_and_describe_images(self, shared: Path) -> None:
        file = shared / "weights" / "tf_efficientnet_lite0_timm.pth"
        network = Backbone("tf_efficientnet_lite0", 64, weights=str(file)).eval()
        assert network(torch.randn(1, 1, 64, 64)).shape == (1, 1280, 2, 2)


def test_location_weights_sum_to_one_and_pool_as_a_loop_does() -> None:
    torch.manual_seed(0)
    attention = LocationAttention(3)
    nn.init.normal_(attention.score.weight)
    features = torch.randn(2, 3, 4, 5)
    vector, weights = attention(features)
    kernel = attention.score.weight.detach().numpy().reshape(3)
    for b in range(2):
        scalars = {(y, x): float(kernel @ features[b, :, y, x].numpy()) for y in range(4) for x in range(5)}
        total = sum(np.exp(v) for v in scalars.values())
        expected = sum(np.exp(v) / total * features[b, :, y, x].numpy() for (y, x), v in scalars.items())
        np.testing.assert_allclose(vector[b].detach().numpy(), expected, rtol=1e-5, atol=1e-6)
        assert float(weights[b, 0, 2, 3]) == pytest.approx(np.exp(scalars[2, 3]) / total, rel=1e-5)
        assert float(weights[b].sum()) == pytest.approx(1)


def test_location_attention_starts_as_average_pooling() -> None:
    features = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(LocationAttention(8)(features)[0], AveragePooling(8)(features)[0])


def test_gap_mask_divides_by_the_masks_own_mean() -> None:
    torch.manual_seed(0)
    attention = GapMaskAttention(6).eval()
    features = torch.randn(2, 6, 4, 4)
    vector, mask = attention(features)
    assert mask.shape == (2, 1, 4, 4) and float(mask.min()) > 0 and float(mask.max()) < 1
    normed = attention.norm(features)
    pooled = torch.stack([(normed[b] * mask[b]).sum((1, 2)) / mask[b].sum() for b in range(2)])
    linear = attention.dense[1]
    torch.testing.assert_close(vector, torch.nn.functional.elu(pooled @ linear.weight.T + linear.bias))


def test_smoothing_averages_what_lies_inside_alone() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert smooth(image).tolist() == [[[[2.5, 3.0], [3.5, 4.0]]]]
    assert smooth(torch.ones(1, 2, 1, 1)).tolist() == [[[[1.0]], [[1.0]]]]


def test_the_network_normalises_bytes_itself() -> None:
    config = {
        "image_size": 32,
        "cache": {"size": 40, "dir": None, "on_error": "fail", "processes": None},
        "crop": True,
        "backbone": option("backbone", "mobilenet"),
        "attention": option("attention", "none"),
        "fusion": option("fusion", "none"),
        "head": option("head", "linear"),
    }
    network = build_network(config, 2).eval()
    image = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8)
    floats = (image.numpy().astype(np.float32) / 255 - 0.5) / 0.5
    features = network.backbone(torch.from_numpy(floats))
    torch.testing.assert_close(network({"image": image}).embedding, features.mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert network.preprocessing == Preprocessing(size=32, cached=40, crop=True, mean=0.5, std=0.5)


def test_a_target_outside_the_allowed_packages_is_refused() -> None:
    with pytest.raises(CxrError, match=r"_target_=os\.system is not allowed"):
        build({"_target_": "cxr.model.head.LinearHead", "in_features": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(CxrError, match=r"_target_=torch\.hub\.load is not allowed"):
        build({"_target_": "torch.hub.load"})

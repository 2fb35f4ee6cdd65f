"""Feature extractors from timm: one input channel, a feature map (B, C, h, w), and no unused parameters."""

import difflib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Below1
from cxr.errors import CxrError, first_line

_SMALLEST, _LARGEST = 8, 1024  # pixels; range in which the minimum image size is searched
_MISFITS = (
    RuntimeError,
    AssertionError,
    ValueError,
    ZeroDivisionError,
)  # timm's errors for an image size


class Backbone(nn.Module):
    """A timm network up to its last feature map, with one input channel.

    Modules that the feature map does not depend on are removed, such as the classifier of 120 million parameters in
    timm's VGG.

    Args:
        name: timm's model name, with or without a weights tag.
        image_size: side of the input in pixels.
        pretrained: load ImageNet weights from timm's hub.
        weights: a local `.pth` or `.safetensors` file with timm's keys, instead of the hub's.
        mean: of the one channel, in [0, 1]; by default the mean over the weights' three.
        std: of the one channel; by default the mean over the weights' three.
        drop_path: share of residual branches that training skips, for models with stochastic depth.

    Attributes:
        out_features: C.
        map_size: (h, w) at `image_size`.
        mean, std: as resolved.

    Raises:
        CxrError: no such model; an image too small for it; the hub cannot be reached; the file does not fit.
    """

    def __init__(
        self,
        name: str,
        image_size: int,
        pretrained: bool = False,
        weights: str | None = None,
        mean: float | None = None,
        std: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
            hint = f"; the closest are {', '.join(close)}" if close else ""
            raise CxrError(f"backbone.name={name} is not a model of timm{hint} (timm.list_models() lists all)")
        pretrained = pretrained and not weights
        if image_size < _SMALLEST or (pretrained and not _fits(name, image_size)):  # before weights are downloaded
            raise _too_small(name, image_size)
        try:
            self.net: Any = _create(name, image_size, pretrained, drop_path)
            features = _blank_features(self.net, image_size)
        except _MISFITS as error:
            raise _too_small(name, image_size) from error
        self.out_features = int(self.net.num_features)
        self.prefix_tokens = int(getattr(self.net, "num_prefix_tokens", 0))
        self.map_size = (features.shape[2], features.shape[3])
        if min(self.map_size) < 1:
            raise _too_small(name, image_size)
        config = dict(self.net.pretrained_cfg)
        self.mean = sum(config["mean"]) / 3 if mean is None else mean
        self.std = sum(config["std"]) / 3 if std is None else std
        used = _leaves(features)
        _remove(self.net, frozenset(key for key, value in self.net.named_parameters() if id(value) not in used))
        if weights:
            load_weights(self.net, weights, config)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32, normalised, to (B, C, h, w)."""
        return as_map(self.net.forward_features(image), self.out_features, self.prefix_tokens)


def as_map(features: Tensor, channels: int, prefix_tokens: int) -> Tensor:
    """Converts timm's outputs, NCHW, NHWC or tokens (B, T, C) of a square grid, to (B, C, h, w)."""
    if features.ndim == 3:
        tokens = features[:, prefix_tokens:]
        side = round(tokens.shape[1] ** 0.5)
        return tokens.transpose(1, 2).reshape(tokens.shape[0], channels, side, -1)
    if features.shape[1] != channels and features.shape[3] == channels:
        return features.permute(0, 3, 1, 2)
    return features


def load_weights(net: nn.Module, path: str, config: Mapping[str, object]) -> None:
    """Loads a local file into a timm network; classifier weights are ignored, three-channel stems are converted.

    Args:
        path: `.safetensors`, or a file that `torch.load(weights_only=True)` reads.
        config: timm's `pretrained_cfg`, which names the first convolution and the classifier.

    Raises:
        CxrError: the file is missing, is not a weights file, or its names or shapes are not those of the network.
    """
    state = read_state(path)
    stems, heads = _names(config.get("first_conv")), _names(config.get("classifier"))
    for stem in stems:
        kernel = state.get(f"{stem}.weight")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3:
            state[f"{stem}.weight"] = adapt_input_conv(1, kernel)
    own = net.state_dict()
    extra = [
        key for key in state if key not in own and not key.startswith(tuple(f"{h}." for h in (*heads, "pre_logits")))
    ]
    absent = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    for what, keys in (("lacks", absent), ("has the unknown", extra), ("has another shape of", shapes)):
        if keys:
            listed = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise CxrError(
                f"backbone.weights={path} does not fit the backbone: it {what} {listed}; "
                "pass weights of the same timm model"
            )
    net.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def read_state(path: str) -> dict[str, Tensor]:
    """Reads named tensors from a `.safetensors` or a PyTorch file, without unpickling objects."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise CxrError(f"backbone.weights={path} is not a file; pass a .pth or .safetensors file")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's message suggests weights_only=False
        raise CxrError(
            f"backbone.weights={path} is not a weights file: it is damaged, or contains Python objects, which are "
            "never unpickled; pass a .safetensors file, or one written by torch.save(model.state_dict(), FILE)"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CxrError(f"backbone.weights={path} has no named tensors; pass a state dict of a timm model")
    return dict(state)


def _create(name: str, image_size: int, pretrained: bool, drop_path: float = 0.0) -> Any:
    checked_option("backbone.drop_path", drop_path, Below1)
    fixed: dict[str, Any] = {"img_size": image_size} if _takes_image_size(name) else {}
    fixed |= {"drop_path_rate": drop_path} if drop_path else {}
    logging.getLogger("timm").setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints every retry
    try:
        return timm.create_model(name, pretrained=pretrained, in_chans=1, num_classes=0, global_pool="", **fixed)
    except Exception as error:
        if drop_path and "drop_path_rate" in str(error):
            raise CxrError(f"{name} has no residual branches to skip; pass backbone.drop_path=0") from error
        if not pretrained:
            raise
        raise CxrError(
            f"the pretrained weights of {name} could not be downloaded from timm's hub ({first_line(error)}); "
            "connect to the internet, or pass a local file with backbone.weights=FILE, or backbone.pretrained=false"
        ) from error


def _takes_image_size(name: str) -> bool:
    """Whether a model is built for a fixed image size (most transformers), which timm takes as an argument."""
    return bool(
        timm.get_pretrained_cfg(name, allow_unregistered=True)
        and timm.get_pretrained_cfg_value(name, "fixed_input_size")
    )


def _blank_features(net: Any, image_size: int) -> Tensor:
    """The feature map (1, C, h, w) of one blank image."""
    training = net.training
    with torch.enable_grad():
        features = net.eval().forward_features(torch.zeros(1, 1, image_size, image_size))
    net.train(training)
    return as_map(features, int(net.num_features), int(getattr(net, "num_prefix_tokens", 0)))


def _fits(name: str, image_size: int) -> bool:
    """Whether a model accepts an image size and its feature map is not empty; tested on the meta device."""
    try:
        with torch.device("meta"):
            return min(_blank_features(_create(name, image_size, pretrained=False), image_size).shape) > 0
    except _MISFITS:
        return False


def _too_small(name: str, image_size: int) -> CxrError:
    """An error that names the minimum image size."""
    low, high = max(image_size, _SMALLEST - 1), _LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(name, middle) else (middle, high)
    return CxrError(f"image_size={image_size} does not fit {name}: empty feature map; the minimum is {high}")


def _leaves(output: Tensor) -> set[int]:
    """The ids of the parameters that an output depends on, from its graph, which is faster than a backward pass."""
    leaves, seen, following = set(), set(), [output.grad_fn]
    while following:
        node: Any = following.pop()
        if node is not None and node not in seen:
            seen.add(node)
            leaves.add(id(getattr(node, "variable", None)))
            following += [other for other, _ in node.next_functions]
    return leaves


def _remove(net: nn.Module, unused: frozenset[str]) -> None:
    """Replaces every module with only unused parameters by an identity."""
    for name in list(_outermost_unused(net, unused)):
        parent, _, last = name.rpartition(".")
        setattr(net.get_submodule(parent), last, nn.Identity())


def _outermost_unused(module: nn.Module, unused: frozenset[str], prefix: str = "") -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        own = {f"{path}.{key}" for key, _ in child.named_parameters()}
        if own and own <= unused:
            yield path
        elif own:
            yield from _outermost_unused(child, unused, f"{path}.")


def _names(value: object) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(str(item) for item in value)  # type: ignore[attr-defined]

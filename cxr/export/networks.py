"""Writes a network as an ONNX file: uint8 images in, scores out, with normalisation and calibration inside."""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cxr.errors import CxrError, first_line
from cxr.export.opened import Scorer
from cxr.metrics.scaling import Scaling
from cxr.metrics.tree import downwards
from cxr.use.graph import check_graph
from cxr.use.system import Member

OPSET = 20
_MOST_IMAGES = 256  # of a batch
_TWO = 2  # images that show which dimension is the batch


class Calibrated(nn.Module):
    """A scorer with calibrated scores as a further output, computed in float64 as `Scaling.apply` does.

    Args:
        scorer: the network.
        member: what it takes and returns.
        scaling: of its scores; without one there are no calibrated scores.
        parents: (L,) of the findings, see `System`.
        pooled: whether the features that detectors need are an output, too.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(
        self, scorer: Scorer, member: Member, scaling: Scaling | None, parents: tuple[int, ...], pooled: bool = False
    ) -> None:
        super().__init__()
        self.scorer, self.member, self.scaling, self.parents = scorer, member, scaling, parents
        self.stages = stages(scorer.network.backbone, scorer.size) if pooled else {}
        if scaling is not None:
            self.register_buffer("slope", torch.tensor(scaling.slope, dtype=torch.float64))
            self.register_buffer("intercept", torch.tensor(scaling.intercept, dtype=torch.float64))

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        present = {"calibrated": self.scaling is not None, "maps": self.member.maps, "features": self.stages}
        return ["score", *(name for name, given in present.items() if given)]

    def forward(self, image: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Images (N, 1, S, S) uint8, and attributes (N, 5) if the network uses them, to the outputs."""
        pooled = dict[str, Tensor]()

        def note(name: str, value: Tensor) -> None:
            if name not in pooled:  # the first view of `tta` is the image as it is, or the middle crop
                pooled[name] = _pool(value)

        with _hooks(self.scorer.network.backbone, self.stages, note):
            score, maps = self.scorer(image, attributes)
        found = [score]
        if self.scaling is not None:
            exact = score.double()
            scaled = torch.sigmoid(self.slope * torch.log(exact / (1 - exact)) + self.intercept)
            columns = list(torch.where((self.slope == 1) & (self.intercept == 0), exact, scaled).float().unbind(dim=1))
            for child in downwards(self.parents):
                columns[child] = torch.minimum(columns[child], columns[self.parents[child]])
            found.append(torch.stack(columns, dim=1))
        found += [maps] * bool(self.member.maps)
        return (*found, torch.cat([pooled[name] for name in self.stages], dim=1)) if self.stages else tuple(found)


def stages(backbone: nn.Module, size: int) -> dict[str, int]:
    """Names of the modules with the last feature map (B, C, h, h) of each resolution, and their numbers of channels.

    Resolutions fall from module to module and lie below the input's. Maps of one position are left out, and so are
    modules that are called more than once.

    Args:
        backbone: on the CPU, in evaluation mode.
        size: side of its input in pixels.
    """
    last, calls = dict[int, tuple[str, int]](), Counter[str]()

    def note(name: str, value: Tensor) -> None:
        calls[name] += 1
        is_map = value.ndim == 4 and len(value) == _TWO and value.shape[2] in (value.shape[1], value.shape[3])
        if is_map and 1 < value.shape[2] <= min(last, default=size - 1):  # an attention's weights may be larger
            last[value.shape[2]] = (name, _pool(value).shape[1])

    with _hooks(backbone, [name for name, _ in backbone.named_modules()], note), torch.no_grad():
        backbone(torch.zeros(_TWO, 1, size, size))
    return {name: channels for _, (name, channels) in sorted(last.items(), reverse=True) if calls[name] == 1}


def _pool(features: Tensor) -> Tensor:
    """Features (B, C, h, h) or (B, h, h, C) to their means (B, C)."""
    return features.mean(dim=(2, 3) if features.shape[2] == features.shape[3] else (1, 2))


@contextlib.contextmanager
def _hooks(network: nn.Module, names: Iterable[str], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Reports every tensor that the named modules return."""
    hooks = []
    for name in names:

        def hook(module: nn.Module, given: Any, value: Any, name: str = name) -> None:
            if isinstance(value, Tensor):
                note(name, value)

        hooks.append(network.get_submodule(name).register_forward_hook(hook))
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def to_onnx(network: Calibrated, origin: str) -> bytes:
    """The ONNX model of a network, for batches of 1 to 256 images.

    Args:
        network: on the CPU.
        origin: what errors call it.

    Raises:
        CxrError: the network cannot be exported, or the packages of the extra `export` are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise CxrError("an export needs onnx and onnxscript; run make setup EXTRAS=export") from None
    size = network.member.preprocessing.size
    inputs = [torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)]
    inputs += [torch.tensor([[0.5, 1, 0, 0, 1], [0.6, 0, 1, 1, 0]])] * network.member.attributes
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    silent = contextlib.redirect_stdout(io.StringIO())
    try:
        with warnings.catch_warnings(), silent, torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(),
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image", "attributes"][: len(inputs)],
                output_names=network.outputs,
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                verbose=False,
            )
        assert program is not None
        content = _without_notes(program.model_proto).SerializeToString()
    except Exception as error:  # the exporter has no error class of its own for all its stages
        raise CxrError(f"{origin} cannot be exported to ONNX: {first_line(error)}") from error
    check_graph(content, origin)
    return content


def _without_notes(model: Any) -> Any:
    """An ONNX model without what the exporter notes about its source, such as paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    return model

"""Networks with 8-bit weights and activations: static quantisation, per channel, with ranges from training images."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError, first_line
from cxr.use.graph import check_graph
from cxr.use.scoring import Floats

IMAGES = 128  # of training, from which the ranges of activations are read
_BATCH = 16
_TYPES = ("Conv", "Gemm", "MatMul")  # operators that are quantised


def quantise(content: bytes, images: NDArray[np.uint8], attributes: Floats, origin: str) -> bytes:
    """A network in 8 bits, about a quarter of the size.

    Args:
        content: of its ONNX file.
        images: (N, 1, S, S) uint8, training images as the network sees them.
        attributes: (N, 5) float32.
        origin: what errors call it.

    Raises:
        CxrError: ONNX Runtime cannot quantise it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, names: list[str]) -> None:
            self.batches: Iterator[dict[str, NDArray[np.generic]]] = (
                {name: given[start : start + _BATCH] for name, given in (("image", images), ("attributes", attributes))
                 if name in names}
                for start in range(0, len(images), _BATCH)
            )  # fmt: skip

        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            return next(self.batches, None)

    try:
        import onnx

        names = [given.name for given in onnx.load_model_from_string(content).graph.input]
        with tempfile.TemporaryDirectory() as folder:
            whole, ready, small = (str(Path(folder) / f"{name}.onnx") for name in ("whole", "ready", "small"))
            Path(whole).write_bytes(content)
            quant_pre_process(whole, ready, skip_symbolic_shape=True)
            quantize_static(
                ready, small, Reader(names), quant_format=QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=list(_TYPES), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
            found = _sharing(onnx.load(small))
    except Exception as error:  # it raises errors of many kinds
        raise CxrError(f"{origin} cannot be quantised: {first_line(error)}; export it without int8") from error
    check_graph(found, origin)
    return found


def _sharing(model: Any) -> bytes:
    """An ONNX model with equal weights stored once: quantisation gives each view of `tta` weights of its own."""
    weights, first, kept = model.graph.initializer, dict[bytes, str](), dict[str, str]()
    for place in reversed(range(len(weights))):
        name, weights[place].name = weights[place].name, ""
        kept[name] = first.setdefault(weights[place].SerializeToString(deterministic=True), name)
        weights[place].name = name
        if kept[name] != name:
            del weights[place]
    for node in model.graph.node:
        node.input[:] = [kept.get(name, name) for name in node.input]
    return bytes(model.SerializeToString())

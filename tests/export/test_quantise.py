"""A network in 8 bits stores weights that several views of an image share once, and scores about as before."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, load_model_from_string, numpy_helper

from cxr.export.quantise import quantise

KERNELS = np.random.default_rng(0).normal(0, 0.3, (16, 1, 5, 5)).astype(np.float32)


def of_two_views() -> bytes:
    """Scores are means over an image and its transpose; each view has a copy of the kernels, as after a fusion."""
    view = [helper.make_node("Cast", ["image"], ["first"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["first"], ["second"], perm=[0, 1, 3, 2])]  # fmt: skip
    for name in ("first", "second"):
        view += [
            helper.make_node("Div", [name, "white"], [f"{name} shown"]),
            helper.make_node("Conv", [f"{name} shown", f"{name} kernels"], [f"{name} features"]),
            helper.make_node("ReduceMean", [f"{name} features", "axes"], [f"{name} mean"], keepdims=0),
        ]
    ends = [helper.make_node("Mean", ["first mean", "second mean"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["score"])]  # fmt: skip
    weights = {"first kernels": KERNELS, "second kernels": KERNELS, "axes": np.array([2, 3])}
    weights["white"] = np.float32([255])
    graph = helper.make_graph(
        [*view, *ends], "views", [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 1, 12, 12])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_equal_weights_of_several_views_are_stored_once() -> None:
    images = np.random.default_rng(1).integers(0, 256, (40, 1, 12, 12)).astype(np.uint8)
    whole = of_two_views()
    small = quantise(whole, images, np.zeros((40, 5), np.float32), "runs/a-flip")
    held = [numpy_helper.to_array(tensor) for tensor in load_model_from_string(small).graph.initializer]
    assert [values.shape for values in held if values.dtype == np.int8 and values.size > 16] == [KERNELS.shape]
    scores = [onnxruntime.InferenceSession(content).run(None, {"image": images})[0] for content in (whole, small)]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.02 < np.ptp(scores[0])

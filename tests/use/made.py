"""A model whose scores are known: the mean and the largest gray value of an image; and a bundle made by hand."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cxr.imaging.preprocessing import Preprocessing
from cxr.metrics.scaling import Scaling
from cxr.use.description import describe
from cxr.use.scoring import Floats, Model, Outputs
from cxr.use.system import Member, Rule, System

FINDINGS = ("Mass", "Effusion")


def forward(image: np.ndarray, attributes: Floats) -> Outputs:
    values = image.astype(np.float32) / 255
    maps = values.reshape(len(image), 1, 4, -1).mean(axis=3).reshape(len(image), 1, 2, 2)
    return np.stack([values.mean(axis=(1, 2, 3)), values.max(axis=(1, 2, 3))], axis=1), maps, features(image)


def second(image: np.ndarray, attributes: Floats) -> Outputs:
    return forward(image, attributes)[0] / 2 + np.nan_to_num(attributes[:, :1]), None, None


def features(image: np.ndarray) -> Floats:
    """Images (N, 1, S, S) to the means of their 4 x 4 tiles, and those of their squares (N, 32)."""
    tiles = image.astype(np.float32).reshape(len(image), 4, image.shape[2] // 4, 4, -1)
    return np.concatenate([(tiles**power).mean(axis=(2, 4)).reshape(-1, 16) for power in (1, 2)], axis=1)


def model(**changes: object) -> Model:
    """Two members of 8 and 4 px; `changes` are of the system."""
    about = {
        "name": "made", "model": "0" * 64, "findings": FINDINGS, "parents": (-1, -1),
        "members": (Member("a", Preprocessing(8, 16), maps="heads"), Member("b", Preprocessing(4, 8), attributes=True)),
        "rule": Rule("mean", ((0.25, 0.75), (1.0, 0.0))),
        "scaling": Scaling("platt", FINDINGS, (1.0, 2.0), (0.0, 1.0), ("Mass",)),
        "points": {"half": (0.5, None), "youden": (0.25, 0.5)},
    }  # fmt: skip
    return Model(System(**{**about, **changes}), (forward, second))  # type: ignore[arg-type]


def network(inputs: Sequence[str] = ("image",), size: int = 8, gain: float = 1 / 255) -> Any:
    """An ONNX model made by hand: scores are the mean gray value times `gain`, maps are the pixels; `features`."""
    kinds = {"image": (TensorProto.UINT8, ["n", 1, size, size]), "attributes": (TensorProto.FLOAT, ["n", 5])}
    nodes = [
        helper.make_node("Cast", ["image"], ["maps"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["maps", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["score"], axis=1),
        helper.make_node("Mul", ["maps", "maps"], ["squares"]),
        helper.make_node("Concat", ["maps", "squares"], ["both"], axis=1),
        helper.make_node("AveragePool", ["both"], ["tiles"], kernel_shape=[size // 4] * 2, strides=[size // 4] * 2),
        helper.make_node("Flatten", ["tiles"], ["features"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(np.float32([gain]), "gain")
    ]  # fmt: skip
    outputs = {"score": ["n", 2], "maps": ["n", 1, size, size], "features": ["n", 32]}
    graph = helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info(name, *kinds[name]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def bundle(folder: Path, first: bytes | None = None, **changes: Any) -> str:
    """Writes a bundle of two members, `changes` of its `bundle.json`, and returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = [first or network().SerializeToString(), network(("image", "attributes"), 4).SerializeToString()]
    about = describe(model().system)
    for number, (described, content) in enumerate(zip(about["members"], contents, strict=True)):
        (folder / f"{number}.onnx").write_bytes(content)
        described |= {"file": f"{number}.onnx", "sha256": sha256(content).hexdigest()}
    (folder / "MODEL_CARD.md").write_text("a card")
    text = json.dumps(about | {"files": {"MODEL_CARD.md": sha256(b"a card").hexdigest()}} | changes)
    (folder / "bundle.json").write_text(text)
    return sha256(text.encode()).hexdigest()

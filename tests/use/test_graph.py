"""ONNX models are refused unless they are plain networks with all weights inside."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cxr.errors import CxrError
from cxr.use.graph import OPERATORS, check_graph
from tests.use.made import network

GOOD = network().SerializeToString()
Change = Callable[[Any], object]


def external(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def constant(model: Any) -> None:
    tensor = numpy_helper.from_array(np.float32([1]), "c")
    external(tensor)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def branch(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [])
    model.graph.node.append(helper.make_node("Identity", ["image"], ["z"], body=inner))


def function(model: Any) -> None:
    made = helper.make_function("mine", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    model.functions.append(made)


def sparse(model: Any) -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [9]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.node.append(helper.make_node("Evil", ["image"], ["z"], domain="mine")), "'mine.Evil'"),
        (lambda m: m.graph.node.append(helper.make_node("Loop", ["a", "b"], ["z"])), "'Loop'"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "'com.microsoft.Cast'"),
        (branch, "a graph inside"),
        (function, "functions of its own"),
        (sparse, "dense and in the file"),
        (constant, "dense and in the file"),
        (lambda m: external(m.graph.initializer[1]), "dense and in the file"),
        (lambda m: m.training_info.add(), "functions of its own"),
    ],
)
def test_what_a_network_does_not_need_is_refused(change: Change, said: str) -> None:
    model = onnx.load_model_from_string(GOOD)
    change(model)
    with pytest.raises(CxrError, match=f"^x .*{said}"):
        check_graph(model.SerializeToString(), "x")


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


@pytest.mark.parametrize("bit", [32, 33, 34])
@pytest.mark.parametrize("key", [(1 << 3) | 2, (25 << 3) | 2])  # nodes of a graph, functions of a model
def test_fields_that_other_readers_see_in_upper_bits_are_refused(key: int, bit: int) -> None:
    inner = helper.make_node("Loop", ["a", "b"], ["z"]).SerializeToString()
    field = varint(key + (1 << bit)) + varint(len(inner)) + inner
    graph = onnx.load_model_from_string(GOOD).graph.SerializeToString() + field
    contents = (GOOD + field, varint((7 << 3) | 2) + varint(len(graph)) + graph)
    for content in contents:
        with pytest.raises(CxrError, match=r"^x is not an ONNX model"):
            check_graph(content, "x")


def test_a_domain_is_not_hidden_by_a_number_in_its_field() -> None:
    model = onnx.load_model_from_string(GOOD)
    model.graph.node[0].domain = "com.microsoft"
    node = model.graph.node[0].SerializeToString() + varint(7 << 3) + b"\x01"
    graph = varint((1 << 3) | 2) + varint(len(node)) + node
    assert onnx.GraphProto.FromString(graph).node[0].domain == "com.microsoft"
    with pytest.raises(CxrError, match=r"'com\.microsoft\.Cast'"):
        check_graph(varint((7 << 3) | 2) + varint(len(graph)) + graph, "x")


def test_known_operators_exist_in_onnx_and_contain_no_graphs() -> None:
    check_graph(GOOD, "x")
    for name in OPERATORS:
        schema = onnx.defs.get_schema(name, 23)
        kinds = {attribute.type for attribute in schema.attributes.values()}
        assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}, name
        deterministic = schema.node_determinism != onnx.defs.OpSchema.NodeDeterminism.NonDeterministic
        assert deterministic, name


@pytest.mark.parametrize("content", [b"", b"\x08", GOOD[:-1], GOOD + GOOD, b"ORTM" * 9, b"\xff" * 40, GOOD[1:]])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(CxrError, match=r"^x is not an ONNX model"):
        check_graph(content, "x")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.booleans())
def test_damaged_models_raise_no_other_error(place: int, value: int, cut: bool) -> None:
    content = bytearray(GOOD)
    content[place] = value
    try:
        check_graph(bytes(content[:place] if cut else content), "x")
    except CxrError as error:
        assert str(error).startswith("x ")

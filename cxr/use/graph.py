"""Checks an ONNX file before ONNX Runtime sees it: known operators only, no external data, no subgraphs.

It reads the protocol buffers itself (https://protobuf.dev/programming-guides/encoding; field numbers are those of
`onnx.proto`), so that a bundle needs no other package.
"""

from collections.abc import Iterator

from cxr.errors import CxrError

# Of the standard domain, without those that contain graphs (If, Loop, Scan), draw random numbers or handle text.
_NAMES = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape
    Conv Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual
    Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad
    Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape
    Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu
    Tile TopK Transpose Trilu Unsqueeze Where Xor
    """
OPERATORS = frozenset(_NAMES.split())
_STANDARD = frozenset(("", "ai.onnx"))
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


def check_graph(content: bytes, origin: str) -> None:
    """Checks the bytes of an ONNX model.

    Raises:
        CxrError: it is not such a model, has an unknown operator or domain, a subgraph or a custom function, or stores
            weights outside the file; `origin` is named.
    """
    try:
        graphs = 0
        for field, value in _fields(memoryview(content)):
            if field in (20, 25):  # training_info, functions
                raise CxrError(f"{origin} defines functions of its own, which are not run; export the run again")
            if field == 7:
                graphs += 1
                _check_nodes(value, origin)
        if graphs != 1:
            raise ValueError
    except (ValueError, IndexError, UnicodeDecodeError):
        raise CxrError(f"{origin} is not an ONNX model; export the run again") from None


def _check_nodes(graph: memoryview, origin: str) -> None:
    for field, value in _fields(graph):
        if field == 5:  # initializer
            _check_tensor(value, origin)
        elif field == 15:  # sparse_initializer
            raise _outside(origin)
        elif field == 1:
            operators, domains = list[str](), list[str]()  # all that are given: readers differ in which one counts
            for name, part in _fields(value):
                if name == 4:
                    operators.append(bytes(part).decode())
                elif name == 7:
                    domains.append(bytes(part).decode())
                elif name == 5:
                    _check_attribute(part, origin)
            if not operators or not OPERATORS.issuperset(operators) or not _STANDARD.issuperset(domains):
                shown = ".".join(filter(None, (*domains, *operators)))
                raise CxrError(f"{origin} contains the operator {shown!r}, which is not run; export the run again")


def _check_attribute(attribute: memoryview, origin: str) -> None:
    for field, value in _fields(attribute):
        if field in (6, 11):  # g, graphs
            raise CxrError(f"{origin} contains an operator with a graph inside, which is not run")
        if field in (5, 10):  # t, tensors
            _check_tensor(value, origin)
        elif field in (22, 23):  # sparse_tensor, sparse_tensors
            raise _outside(origin)


def _check_tensor(tensor: memoryview, origin: str) -> None:
    if any(field in (13, 14) for field, _ in _fields(tensor)):  # external_data, data_location
        raise _outside(origin)


def _outside(origin: str) -> CxrError:
    return CxrError(f"{origin} does not hold its weights as export writes them; they must be dense and in the file")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of a message's fields; contents are empty but for fields with a length."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key >= 1 << 32:  # other readers drop the upper bits and see another field
            raise ValueError
        kind, length = key & 7, 0
        if kind == _LENGTH:
            length, place = _varint(message, place)
        elif kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_EIGHT, _FOUR):
            place += 8 if kind == _EIGHT else 4
        else:
            raise ValueError
        if place + length > len(message):
            raise ValueError
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError

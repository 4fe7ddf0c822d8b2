"""Models of one valid ONNX node, with one or two random mutations of its attributes, inputs and outputs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def byte(*shape: int) -> Any:
    return RNG.integers(0, 9, shape).astype(np.uint8)


ONE, ZERO = np.float32(0.5), np.uint8(3)
IMAGE, ROWS = floats(2, 3, 5, 4), floats(3, 4)
SCAN = helper.make_graph(
    [helper.make_node("Add", ["h", "s"], ["h2"]), helper.make_node("Tanh", ["h2"], ["z"])],
    "body",
    [onnx.ValueInfoProto(name="h"), onnx.ValueInfoProto(name="s")],
    [onnx.ValueInfoProto(name="h2"), onnx.ValueInfoProto(name="z")],
)
# operator, inputs, the number of outputs, attributes
NODES: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    ("Add", [ROWS, floats(4)], 1, {}),
    ("MatMul", [ROWS, floats(4, 2)], 1, {}),
    ("Gemm", [ROWS, floats(4, 2), floats(2)], 1, {"alpha": 0.5, "beta": 2.0, "transA": 0, "transB": 0}),
    ("Conv", [IMAGE, floats(4, 3, 3, 2), floats(4)], 1, {"pads": [1, 0, 1, 1], "strides": [2, 1]}),
    ("ConvTranspose", [IMAGE, floats(3, 2, 3, 2), floats(2)], 1, {"pads": [1, 0, 0, 1], "strides": [2, 1]}),
    ("MaxPool", [IMAGE], 1, {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}),
    ("AveragePool", [IMAGE], 1, {"kernel_shape": [3, 2], "strides": [2, 1], "count_include_pad": 1}),
    ("LpPool", [IMAGE], 1, {"kernel_shape": [2, 2], "p": 2, "auto_pad": "SAME_UPPER"}),
    ("MaxUnpool", [floats(1, 1, 2, 2), ints(5, 7, 13, 15).reshape(1, 1, 2, 2)], 1,
     {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GlobalAveragePool", [IMAGE], 1, {}),
    ("Softmax", [ROWS], 1, {"axis": 1}),
    ("LayerNormalization", [ROWS, floats(4), floats(4)], 1, {"axis": -1, "epsilon": 1e-3}),
    ("BatchNormalization", [IMAGE, floats(3), floats(3), floats(3), np.abs(floats(3))], 1, {}),
    ("InstanceNormalization", [IMAGE, floats(3), floats(3)], 1, {}),
    ("GroupNormalization", [floats(2, 4, 3), floats(4), floats(4)], 1, {"num_groups": 2}),
    ("LRN", [IMAGE], 1, {"size": 3}),
    ("LpNormalization", [ROWS], 1, {"axis": 1, "p": 1}),
    ("LeakyRelu", [ROWS], 1, {"alpha": 0.1}),
    ("PRelu", [ROWS, floats(4)], 1, {}),
    ("Clip", [ROWS, -ONE, ONE], 1, {}),
    ("Where", [ROWS > 0, ROWS, floats(4)], 1, {}),
    ("Reshape", [ROWS, ints(2, -1)], 1, {}),
    ("Transpose", [IMAGE], 1, {"perm": [0, 2, 3, 1]}),
    ("Squeeze", [floats(1, 3), ints(0)], 1, {}),
    ("Unsqueeze", [ROWS, ints(0, 3)], 1, {}),
    ("Flatten", [IMAGE], 1, {"axis": 2}),
    ("Concat", [ROWS, floats(3, 2)], 1, {"axis": 1}),
    ("Split", [ROWS, ints(1, 2)], 2, {"axis": 0}),
    ("Split", [ROWS], 2, {"axis": 1, "num_outputs": 2}),
    ("Slice", [ROWS, ints(0, 1), ints(3, 4), ints(0, 1), ints(2, 1)], 1, {}),
    ("Pad", [ROWS, ints(1, 0, 0, 2), ONE], 1, {"mode": "constant"}),
    ("Expand", [floats(3, 1), ints(2, 1, 4)], 1, {}),
    ("Tile", [ROWS, ints(2, 1)], 1, {}),
    ("Gather", [ROWS, ints(0, 2, -1)], 1, {"axis": 0}),
    ("GatherElements", [ROWS, ints(0, 2, 1, 0).reshape(1, 4)], 1, {"axis": 0}),
    ("GatherND", [ROWS, ints(0, 1, 2, 3).reshape(2, 2)], 1, {"batch_dims": 0}),
    ("ScatterElements", [ROWS, ints(0, 2).reshape(1, 2), floats(1, 2)], 1, {"axis": 0, "reduction": "add"}),
    ("ScatterND", [ROWS, ints(0, 2).reshape(2, 1), floats(2, 4)], 1, {}),
    ("OneHot", [ints(0, 2), np.int64(3), floats(2)], 1, {"axis": -1}),
    ("TopK", [ROWS, ints(2)], 2, {"axis": 1, "largest": 1}),
    ("ArgMax", [ROWS], 1, {"axis": 1, "keepdims": 0}),
    ("CumSum", [ROWS, np.int64(1)], 1, {"reverse": 1}),
    ("ReduceSum", [ROWS, ints(1)], 1, {"keepdims": 0}),
    ("ReduceMax", [ROWS, ints(0)], 1, {}),
    ("Cast", [ROWS], 1, {"to": 7}),
    ("Shape", [IMAGE], 1, {"start": 1, "end": 3}),
    ("Range", [np.int64(0), np.int64(5), np.int64(2)], 1, {}),
    ("ConstantOfShape", [ints(2, 3)], 1, {}),
    ("Trilu", [ROWS, np.int64(1)], 1, {"upper": 0}),
    ("EyeLike", [ROWS], 1, {"k": 1}),
    ("Resize", [IMAGE, None, np.array([1, 1, 2, 1.5], np.float32)], 1, {"mode": "linear"}),
    ("DepthToSpace", [floats(1, 8, 2, 3)], 1, {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [floats(1, 2, 4, 6)], 1, {"blocksize": 2}),
    ("ReverseSequence", [ROWS, ints(1, 2, 3, 2)], 1, {"time_axis": 0, "batch_axis": 1}),
    ("Einsum", [ROWS, floats(4, 2)], 1, {"equation": "ij,jk->ik"}),
    ("QuantizeLinear", [ROWS, ONE, ZERO], 1, {"axis": 1}),
    ("DequantizeLinear", [byte(1, 3, 3, 2), floats(3), byte(3)], 1, {"axis": 1}),
    ("DynamicQuantizeLinear", [ROWS], 3, {}),
    ("MatMulInteger", [byte(3, 4), byte(4, 2), ZERO, ZERO], 1, {}),
    ("ConvInteger", [byte(1, 2, 4, 4), byte(3, 2, 2, 2), ZERO, ZERO], 1, {"pads": [1, 1, 0, 0]}),
    ("QLinearMatMul", [byte(3, 4), ONE, ZERO, byte(4, 2), ONE, ZERO, ONE, ZERO], 1, {}),
    ("QLinearConv", [byte(1, 2, 4, 4), ONE, ZERO, byte(3, 2, 2, 2), ONE, ZERO, ONE, ZERO], 1, {}),
    ("RNN", [floats(5, 2, 3), floats(1, 4, 3), floats(1, 4, 4)], 2, {"hidden_size": 4}),
    ("GRU", [floats(5, 2, 3), floats(1, 12, 3), floats(1, 12, 4), floats(1, 24)], 2,
     {"hidden_size": 4, "linear_before_reset": 1, "clip": 0.5}),
    ("LSTM", [floats(5, 2, 3), floats(2, 16, 3), floats(2, 16, 4), floats(2, 32), ints(5, 2).astype("i4")], 3,
     {"hidden_size": 4, "direction": "bidirectional"}),
    ("Scan", [floats(2), floats(4, 2)], 2, {"body": SCAN, "num_scan_inputs": 1, "scan_output_axes": [1]}),
    ("DFT", [floats(1, 4, 1), None, np.int64(1)], 1, {"onesided": 1}),
    ("STFT", [floats(1, 16, 1), np.int64(4), floats(8)], 1, {"onesided": 1}),
    ("GridSample", [IMAGE, floats(2, 3, 3, 2)], 1, {"mode": "linear", "padding_mode": "border"}),
    ("GroupedMatMul", [floats(5, 4), floats(2, 4, 3), ints(2, 5)], 1, {}),
    ("Col2Im", [floats(1, 4, 4), ints(4, 4), ints(2, 2)], 1, {"strides": [2, 2]}),
    ("Mod", [ints(5, -3), ints(3, 2)], 1, {"fmod": 0}),
    ("BitShift", [byte(3), byte(3)], 1, {"direction": "LEFT"}),
    ("NonZero", [ROWS], 1, {}),
    ("Compress", [ROWS, np.array([True, False, True])], 1, {"axis": 0}),
    ("Unique", [ints(3, 1, 3)], 4, {"sorted": 1}),
    ("NonMaxSuppression", [floats(1, 4, 4), floats(1, 2, 4), np.int64(2)], 1, {}),
    ("SplitToSequence", [ROWS, ints(1, 2)], 1, {"axis": 0}),
    ("Dropout", [ROWS], 1, {}),
    ("Attention", [floats(1, 2, 3, 4), floats(1, 2, 5, 4), floats(1, 2, 5, 4)], 1, {"is_causal": 1}),
    ("NegativeLogLikelihoodLoss", [ROWS, ints(0, 3, 1)], 1, {"reduction": "mean"}),
]  # fmt: skip
NUMBERS = [-(2**63), -(2**31), -5, -1, 0, 1, 2, 3, 7, 1 << 62]
VALUES: list[Any] = [0.5, -1.0, float("nan"), float("inf"), "", "x", [], [0.5], ["x"], [2], [1, 1, 1], ROWS]
DTYPES = ["float64", "float16", "int64", "int32", "int8", "uint8", "uint16", "bool", "complex64", "object"]


class Mutant(NamedTuple):
    """A model of one node, its inputs, and what the node is."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    description: str


def mutants(rng: np.random.Generator, count: int) -> Iterator[Mutant]:
    """Yield models whose node has one or two mutations."""
    for number in range(count):
        operator, inputs, outputs, attributes = NODES[number % len(NODES)]
        inputs, attributes = list(inputs), dict(attributes)
        for _ in range(rng.integers(1, 3)):
            kind = rng.integers(6)
            if kind < 3 and inputs:
                place = int(rng.integers(len(inputs)))
                inputs[place] = mutated_input(rng, inputs[place])
            elif kind < 5 and attributes:
                key = str(rng.choice(list(attributes)))
                attributes[key] = mutated_value(rng, attributes[key])
            elif rng.integers(5) == 0:
                attributes[str(rng.choice(["name", "source", "operation", "inputs", "axis"]))] = 1
            else:
                inputs, outputs = mutated_counts(rng, inputs, outputs)
        yield model_of(rng, operator, inputs, outputs, attributes)


def mutated_input(rng: np.random.Generator, x: Any) -> Any:
    """An input of another rank, size, dtype or value, or none."""
    if x is None:
        return floats(2)
    x = np.asarray(x)
    match rng.integers(7):
        case 0:
            return None
        case 1:
            return x[None] if rng.integers(2) else x[..., None]
        case 2:
            return x.reshape(-1)[: int(rng.integers(4))]
        case 3:
            return np.take(x, range(int(rng.integers(3))), 0) if x.ndim and x.shape[0] > 1 else x[..., None]
        case 4 if x.dtype.kind in "iu" and x.size:
            changed = x.astype(np.int64)
            changed[(0,) * x.ndim] = rng.choice(NUMBERS)
            return changed.astype(x.dtype)
        case 5:
            return x.reshape(())[None] if x.size == 1 else x.reshape(-1)
        case _:
            return x.astype(np.float64).astype(str(rng.choice(DTYPES)))


def mutated_value(rng: np.random.Generator, value: Any) -> Any:
    """Another value of an attribute, of the same type in most cases."""
    if isinstance(value, onnx.GraphProto) or rng.integers(4) == 0:
        return VALUES[rng.integers(len(VALUES))]
    number = int(rng.choice(NUMBERS))
    if isinstance(value, list) and value and isinstance(value[0], int):
        changed = list(value)
        match rng.integers(3):
            case 0:
                return changed[:-1]
            case 1:
                return [*changed, number]
        changed[int(rng.integers(len(changed)))] = number
        return changed
    return str(rng.choice(["", "x", "SAME_LOWER", "max", "reverse"])) if isinstance(value, str) else number


def mutated_counts(rng: np.random.Generator, inputs: list[Any], outputs: int) -> tuple[list[Any], int]:
    """One input or output more or less."""
    match rng.integers(4):
        case 0:
            return [*inputs, floats(2, 3)], outputs
        case 1:
            return inputs[:-1], outputs
        case 2:
            return inputs, outputs + 1
    return inputs, max(1, outputs - 1)


def model_of(
    rng: np.random.Generator, operator: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]
) -> Mutant:
    """A model of a node, some of whose inputs are constants."""
    feeds, constants = dict[str, Any](), []
    names = [f"x{place}" if x is not None else "" for place, x in enumerate(inputs)]
    for name, x in zip(names, inputs, strict=True):
        if name and rng.integers(2):
            constants.append(numpy_helper.from_array(_storable(x), name))
        elif name:
            feeds[name] = _storable(x)
    node = helper.make_node(operator, names, [f"y{place}" for place in range(outputs)], "node")
    for key, value in attributes.items():
        stored = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        kind = onnx.AttributeProto.INTS if isinstance(value, list) and not value else None
        node.attribute.append(helper.make_attribute(key, stored, attr_type=kind))
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), None)
        for name, x in feeds.items()
    ]
    results = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "mutant", declared, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    shapes = [None if x is None else (np.asarray(x).dtype.name, np.shape(x)) for x in inputs]
    constant = [each.name for each in constants]
    described = {key: value for key, value in attributes.items() if not isinstance(value, onnx.GraphProto)}
    return Mutant(model, feeds, f"{operator} {shapes} {described} -> {outputs}, constant {constant}")


def _storable(x: Any) -> Any:
    x = np.asarray(x)
    return x.astype(str).astype(object) if x.dtype == object else x

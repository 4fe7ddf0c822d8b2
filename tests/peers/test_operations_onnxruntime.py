"""The operations of graphs in NumPy against onnxruntime, with options that ONNX's test suite leaves out."""

from typing import Any

import numpy as np
import onnx
import pytest
from support import onnx_nodes
from support.evaluate import evaluate
from support.frameworks import onnxruntime_session
from support.running import simplified

from onward.errors import ArgumentError
from onward.graph.node import Signature
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def uint8(*shape: int) -> Any:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def int8(*shape: int) -> Any:
    """Random integers of 7 bits, which onnxruntime multiplies exactly without VNNI, too."""
    return RNG.integers(-64, 64, shape).astype(np.int8)


def number(value: float, dtype: Any = np.float32) -> Any:
    return np.array(value, dtype)


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def model_of(
    operation: str, domain: str, inputs: list[Any], attributes: dict[str, Any], outputs: list[str]
) -> Any:
    """A model of one node; an input may be None and the name of an output empty."""
    names = [f"input_{i}" if a is not None else "" for i, a in enumerate(inputs)]
    declared = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in zip(names, inputs, strict=True)
        if a is not None
    ]
    node = onnx.helper.make_node(operation, names, outputs, domain=domain, **attributes)
    graph = onnx.helper.make_graph(
        [node], "graph", declared, [onnx.ValueInfoProto(name=name) for name in outputs if name]
    )
    opsets = [onnx.helper.make_opsetid("", 22), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def onnxruntime_outputs(model: Any, inputs: list[Any]) -> Any:
    session = onnxruntime_session(model)
    feeds = [a for a in inputs if a is not None]
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), feeds, strict=True)))


def assert_close(mine: Any, theirs: Any) -> None:
    assert Signature.of(mine) == Signature.of(theirs)
    if mine.dtype.kind == "f":
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)
    else:
        np.testing.assert_array_equal(mine, theirs)


def assert_like_onnxruntime(
    operation: str, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1
) -> None:
    model = model_of(operation, "", inputs, attributes, [f"output_{i}" for i in range(outputs)])
    found = OPERATIONS[operation].compute(inputs, attributes)
    signatures = OPERATIONS[operation].signatures(inputs, attributes)
    assert signatures is not None
    for mine, theirs, signature in zip(found, onnxruntime_outputs(model, inputs), signatures, strict=False):
        assert Signature.of(mine) == signature
        assert_close(mine, theirs)


IMAGE = floats(2, 3, 8, 7)
WINDOWS: list[Any] = [
    (
        "MaxPool",
        [IMAGE],
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "dilations": [2, 1]},
    ),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [0, 1, 1, 1]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [4, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", [floats(2, 3, 5, 4, 6)], {"kernel_shape": [2, 2, 3]}),
    ("MaxPool", [int8(2, 3, 9)], {"kernel_shape": [3], "pads": [1, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [1, 1, 1, 1]}),
    (
        "AveragePool",
        [IMAGE],
        {
            "kernel_shape": [3, 3],
            "strides": [2, 2],
            "pads": [1, 1, 1, 1],
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
    ),
    ("LpPool", [IMAGE], {"kernel_shape": [3, 2], "p": 3, "pads": [1, 1, 0, 0]}),
    ("LpPool", [IMAGE], {"kernel_shape": [3, 2], "p": 1, "strides": [2, 2]}),
    ("Conv", [IMAGE, floats(4, 3, 3, 2), floats(4)], {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    ("Conv", [floats(2, 4, 6, 5, 7), floats(6, 2, 3, 2, 3)], {"group": 2, "pads": [1, 0, 2, 0, 1, 1]}),
    ("ConvTranspose", [IMAGE, floats(3, 2, 3, 2), floats(2)], {"strides": [2, 3], "output_shape": [18, 22]}),
    ("ConvTranspose", [IMAGE, floats(3, 2, 3, 2)], {"strides": [2, 3], "output_shape": [14, 17]}),
    (
        "ConvTranspose",
        [IMAGE, floats(3, 2, 3, 4)],
        {"strides": [2, 3], "output_shape": [16, 19], "auto_pad": "SAME_UPPER"},
    ),
    (
        "ConvTranspose",
        [IMAGE, floats(3, 2, 3, 2)],
        {"strides": [2, 3], "dilations": [2, 1], "pads": [1, 0, 2, 1]},
    ),
    (
        "ConvTranspose",
        [floats(2, 4, 9), floats(4, 3, 3)],
        {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2]},
    ),
]
RESIZED: list[Any] = [
    ("Resize", [IMAGE, None, None, integers(2, 3, *sizes)], {"mode": mode, **options})
    for sizes in ((5, 13), (16, 3))
    for mode, options in (
        *(
            ("nearest", {"nearest_mode": m})
            for m in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        ),
        ("linear", {"coordinate_transformation_mode": "align_corners"}),
        ("linear", {"coordinate_transformation_mode": "asymmetric"}),
        ("linear", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
        ("linear", {"coordinate_transformation_mode": "half_pixel_symmetric"}),
        ("linear", {"antialias": 1}),
        ("cubic", {"cubic_coeff_a": -0.5}),
        ("cubic", {"exclude_outside": 1}),
        ("cubic", {"antialias": 1}),
    )
]
SAMPLED: list[Any] = [
    (
        "GridSample",
        [IMAGE, 1.5 * floats(2, 4, 5, 2)],
        {"mode": mode, "padding_mode": padding, "align_corners": align},
    )
    for mode in ("nearest", "linear", "cubic")
    for padding in ("zeros", "border", "reflection")
    for align in (0, 1)
]
OTHERS: list[Any] = [
    ("Resize", [IMAGE, floats(0), np.array([1, 1, 1.3, 2.6], np.float32)], {"mode": "linear"}),
    (
        "Resize",
        [IMAGE, np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], np.float32), None, integers(2, 3, 5, 9)],
        {
            "mode": "linear",
            "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 7.0,
        },
    ),
    ("LRN", [floats(2, 7, 5, 3)], {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 1.5}),
    ("MeanVarianceNormalization", [IMAGE], {"axes": [0, 3]}),
    ("LpNormalization", [IMAGE], {"axis": 2, "p": 1}),
    ("InstanceNormalization", [IMAGE, floats(3), floats(3)], {"epsilon": 0.1}),
    ("Einsum", [floats(2, 3, 4), floats(3, 5, 4)], {"equation": "...ij,ikj->i...k"}),
    ("Einsum", [floats(4, 4), floats(3, 4)], {"equation": "ii,ji"}),
    ("ReduceLogSumExp", [100 * floats(4, 5), integers(1)], {}),
    ("DFT", [floats(2, 33, 3, 2), None, number(1, np.int64)], {"inverse": 1}),
    ("STFT", [floats(2, 100, 1), number(7, np.int64), floats(32), None], {}),
    ("DequantizeLinear", [int8(6, 5), np.abs(floats(2, 5)), int8(2, 5)], {"axis": 0, "block_size": 3}),
    ("QuantizeLinear", [100 * floats(6, 5), np.abs(floats(5)), int8(5)], {"axis": -1}),
    ("MatMulInteger", [uint8(3, 5, 7), int8(7, 4), number(7, np.uint8), int8(4)], {}),
    (
        "ConvInteger",
        [uint8(2, 4, 8, 7), uint8(6, 2, 3, 2), number(9, np.uint8)],
        {"group": 2, "pads": [1, 1, 0, 0]},
    ),
]
QUANTIZED = [number(0.07), number(120, np.uint8)]
MICROSOFT: list[Any] = [
    ("FusedMatMul", [floats(5, 2, 3), floats(2, 5, 4)], {"transA": 1, "transBatchA": 1, "alpha": 0.3}),
    ("FusedMatMul", [floats(2, 3, 5), floats(2, 4, 5)], {"transB": 1}),
    ("BiasGelu", [floats(3, 5), floats(5)], {}),
    ("FastGelu", [floats(3, 5), floats(5)], {}),
    (
        "SkipLayerNormalization",
        [floats(2, 3, 5), floats(2, 3, 5), floats(5), floats(5), floats(5)],
        {"epsilon": 0.1},
    ),
    ("SkipSimplifiedLayerNormalization", [floats(2, 3, 5), floats(2, 3, 5), floats(5)], {"epsilon": 0.1}),
    (
        "MatMulIntegerToFloat",
        [uint8(3, 5), int8(5, 4), number(0.1), np.abs(floats(4)), number(3, np.uint8), int8(4), floats(4)],
        {},
    ),
    ("DynamicQuantizeMatMul", [floats(3, 5), int8(5, 4), number(0.2), number(0, np.int8), floats(4)], {}),
    (
        "QGemm",
        [uint8(3, 5), *QUANTIZED, int8(4, 5), number(0.2), int8(), np.arange(4, dtype=np.int32)],
        {"transB": 1, "alpha": 0.5},
    ),
    ("QLinearAdd", [uint8(3, 5), *QUANTIZED, uint8(5), number(0.2), number(3, np.uint8), *QUANTIZED], {}),
    ("QLinearMul", [int8(3, 5), number(0.1), int8(), int8(5), number(0.2), int8(), number(1.5), int8()], {}),
    ("QLinearSigmoid", [uint8(3, 50), *QUANTIZED, number(1 / 256), number(0, np.uint8)], {}),
    ("QLinearLeakyRelu", [uint8(3, 50), *QUANTIZED, number(0.05), number(30, np.uint8)], {"alpha": 0.2}),
    (
        "QLinearSoftmax",
        [uint8(3, 9), *QUANTIZED, number(1 / 256), number(0, np.uint8)],
        {"axis": -1, "opset": 13},
    ),
    (
        "QLinearAveragePool",
        [uint8(2, 3, 8, 7), *QUANTIZED, number(0.0437), number(100, np.uint8)],
        {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1]},
    ),
    ("QLinearGlobalAveragePool", [uint8(2, 3, 8, 7), *QUANTIZED, number(0.02), number(100, np.uint8)], {}),
    (
        "QLinearConcat",
        [*QUANTIZED, uint8(2, 3), number(0.2), number(3, np.uint8), uint8(4, 3), *QUANTIZED],
        {"axis": 0},
    ),
]


@pytest.mark.parametrize("case", [*WINDOWS, *RESIZED, *SAMPLED, *OTHERS], ids=lambda case: case[0])
def test_operations_of_onnx(case: Any) -> None:
    assert_like_onnxruntime(*case)


@pytest.mark.parametrize("case", MICROSOFT, ids=lambda case: case[0])
def test_operations_of_onnxruntime(case: Any) -> None:
    operation, inputs, attributes = case
    outputs = ["y", "", "", "sum"] if operation.startswith("Skip") else ["y"]
    model = model_of(operation, "com.microsoft", inputs, attributes, outputs)
    graph = onnx_nodes.open_model(model)
    expected = onnxruntime_outputs(model, inputs)
    for found in (graph(*inputs), evaluate(simplified(graph), *inputs)):  # planned, and in NumPy
        for mine, theirs in zip(found, expected, strict=True):
            assert_close(mine, theirs)


@pytest.mark.parametrize("signed", [False, True])
def test_quantized_results_without_zero_points_have_the_dtype_of_the_input(signed: bool) -> None:
    x = int8(3, 5) if signed else uint8(3, 5)
    zero = number(0, x.dtype)
    whole, scales = [x, number(0.1), zero, number(0.01), zero], [x, number(0.1), number(0.01)]
    model = model_of("QLinearSigmoid", "com.microsoft", whole, {}, ["y"])
    (expected,) = onnxruntime_outputs(model, whole)
    omitted = model_of("QLinearSigmoid", "com.microsoft", [*scales[:2], None, scales[2]], {}, ["y"])
    assert_close(onnx_nodes.open_model(omitted)(*scales)[0], expected)  # onnxruntime crashes on it


@pytest.mark.parametrize("opset", [12, 13])
def test_softmax_of_quantized_arrays_joins_axes_before_opset_13(opset: int) -> None:
    inputs = [uint8(3, 5, 7), *QUANTIZED, number(1 / 256), number(0, np.uint8)]
    model = model_of("QLinearSoftmax", "com.microsoft", inputs, {"axis": 1, "opset": opset}, ["y"])
    (expected,) = onnxruntime_outputs(model, inputs)
    assert_close(onnx_nodes.open_model(model)(*inputs)[0], expected)


def test_unknown_attributes_and_missing_inputs_name_the_node() -> None:
    for inputs, attributes in (([floats(3, 5)], {}), ([floats(3, 5), floats(5)], {"gamma": 1})):
        model = model_of("BiasGelu", "com.microsoft", inputs, attributes, ["y"])
        with pytest.raises(ArgumentError, match=r"y .*do not fit BiasGelu"):
            onnx_nodes.open_model(model)


@pytest.mark.parametrize("order", [0, 1])
def test_indices_of_maxima(order: int) -> None:
    options = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "storage_order": order}
    assert_like_onnxruntime("MaxPool", [IMAGE], options, outputs=2)


def test_statistics_of_layer_normalization() -> None:
    inputs = [floats(4, 5, 33), floats(5, 33), floats(5, 33)]
    assert_like_onnxruntime("LayerNormalization", inputs, {"axis": 1, "epsilon": 0.1}, outputs=3)


@pytest.mark.parametrize("signed", [False, True])
def test_quantized_convolution(signed: bool) -> None:
    make, dtype = (int8, np.int8) if signed else (uint8, np.uint8)
    inputs = [
        *(make(2, 4, 8, 7), number(0.1), number(5, dtype)),
        *(int8(6, 2, 3, 2), np.abs(floats(6)) / 9, np.zeros(6, np.int8)),
        *(number(3.5), number(7, dtype), RNG.integers(-900, 900, 6).astype(np.int32)),
    ]
    assert_like_onnxruntime("QLinearConv", inputs, {"group": 2, "pads": [1, 1, 1, 0], "strides": [1, 2]})


def test_quantized_product() -> None:
    a, b = [uint8(5, 7), number(0.1), number(5, np.uint8)], [int8(7, 4), number(0.2), number(-3, np.int8)]
    assert_like_onnxruntime("QLinearMatMul", [*a, *b, number(3.5), number(99, np.uint8)], {})


def test_quantized_lstm() -> None:
    """A value halfway between two bytes may round either way, about once in hundreds of nodes."""
    rng, steps_off, nodes = np.random.default_rng(0), 0, 200
    for _ in range(nodes):
        case, _ = onnx_nodes.draw_quantized(rng)
        (node,), stored = case.model.graph.node, case.model.graph.initializer
        values = {a.name: onnx.numpy_helper.to_array(a) for a in stored} | case.feeds
        inputs = [values[name] if name else None for name in node.input]
        found = OPERATIONS["DynamicQuantizeLSTM"].compute(inputs, attributes_of(node))
        expected = onnxruntime_session(case.model).run(None, case.feeds)
        used = [mine for mine, name in zip(found, node.output, strict=False) if name]
        off = max(np.abs(mine - theirs).max() for mine, theirs in zip(used, expected, strict=True))
        assert off < 0.02, case.attributes
        steps_off += off > 1e-5
    assert steps_off < nodes / 100


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    as_text = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
    return {
        name: [text.decode() for text in value] if name == "activations" else value
        for name, value in as_text.items()
    }

"""Write operations on dequantized arrays as products of integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..node import AnyArray, Node
from .registry import rewrite

if TYPE_CHECKING:
    from .simplify import Simplifier


@rewrite("Conv", "Gemm", "MatMul")
def _quantized_product(s: Simplifier, node: Node) -> Iterator[Node]:
    """A product of two dequantized arrays becomes an integer product, which is then scaled."""
    a, x, W = node.attributes, *(_quantized(s, name) for name in node.inputs[:2])
    is_conv, transposed = node.operation == "Conv", bool(a.get("transB"))
    is_plain = a.get("alpha", 1) == 1 and a.get("beta", 1) == 1 and not a.get("transA")
    if x is None or W is None or x.scale.size != 1 or not is_plain or a.get("group", 1) != 1:
        yield node
        return
    q = s.constants.get(W.name)
    units_axis = 0 if is_conv or transposed else 1
    if q is None or (not is_conv and q.ndim != 2) or (W.scale.size != 1 and W.axis % q.ndim != units_axis):
        yield node
        return
    name, output = (node.name, node.source or node.operation), node.outputs[0]
    sums, floats, scaled = f"{output}/sums", f"{output}/floats", f"{output}/scaled"
    matrix = s.constant(f"{output}/matrix", np.ascontiguousarray(q.T)) if transposed else W.name
    operation, options = ("ConvInteger", a) if is_conv else ("MatMulInteger", {})
    yield Node(operation, (x.name, matrix, x.zero_point, W.zero_point), (sums,), options, *name)
    yield Node("Cast", (sums,), (floats,), {"to": np.dtype(np.float32)}, *name)
    per_unit = [-1] + [1] * (q.ndim - 2) if is_conv else [-1]
    scale = (x.scale.reshape(()) * W.scale).reshape([] if W.scale.size == 1 else per_unit)
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    product = scaled if bias else output
    yield Node("Mul", (floats, s.constant(f"{output}/scale", scale)), (product,), {}, *name)
    if bias:
        if is_conv:
            shape = s.constant(f"{output}/shape", np.array(per_unit))
            bias, reshaped = f"{output}/bias", Node("Reshape", (bias, shape), (f"{output}/bias",), {}, *name)
            s.add(reshaped)
        yield Node("Add", (product, bias), (output,), {}, *name)


@rewrite("QGemm")
def _quantized_gemm(s: Simplifier, node: Node) -> Iterator[Node]:
    A, a_scale, a_zero, B, b_scale, b_zero, C, y_scale, y_zero = (*node.inputs, "", "", "")[:9]
    W, bias, A_factor, W_factor = (s.constants.get(name) for name in (B, C, a_scale, b_scale))
    has_unknown_bias = bool(C) and bias is None
    if W is None or A_factor is None or W_factor is None or has_unknown_bias or node.attributes.get("transA"):
        yield node
        return
    name, output = (node.name, node.source or node.operation), node.outputs[0]
    scale = np.asarray(np.float32(node.attributes.get("alpha", 1)) * A_factor.reshape(()) * W_factor)
    matrix = np.ascontiguousarray(W.T) if node.attributes.get("transB") else W
    floats = output if not y_scale else f"{output}/floats"
    product = f"{output}/product" if C else floats
    inputs = (A, s.constant(f"{output}/matrix", matrix), a_zero, b_zero)
    yield Node("MatMulInteger", inputs, (f"{output}/sums",), {}, *name)
    yield Node("Cast", (f"{output}/sums",), (f"{output}/cast",), {"to": np.dtype(np.float32)}, *name)
    factor = s.constant(f"{output}/scale", scale.reshape(()) if scale.size == 1 else scale)
    yield Node("Mul", (f"{output}/cast", factor), (product,), {}, *name)
    if bias is not None:
        scaled = s.constant(f"{output}/bias", bias.astype(np.float32) * scale)
        yield Node("Add", (product, scaled), (floats,), {}, *name)
    if y_scale:
        yield Node("QuantizeLinear", (floats, y_scale, y_zero), (output,), {}, *name)


# The operations of onnxruntime that dequantize their inputs, compute and quantize, and the number of inputs.
QUANTIZED_FUNCTIONS = {
    **{"QLinearAdd": ("Add", 2), "QLinearMul": ("Mul", 2), "QLinearSigmoid": ("Sigmoid", 1)},
    **{"QLinearLeakyRelu": ("LeakyRelu", 1), "QLinearAveragePool": ("AveragePool", 1)},
    "QLinearSoftmax": ("Softmax", 1),
}


@rewrite(*QUANTIZED_FUNCTIONS)
def _quantized_function(s: Simplifier, node: Node) -> Iterator[Node]:
    operation, count = QUANTIZED_FUNCTIONS[node.operation]
    y_scale, y_zero = (*node.inputs[3 * count :], "")[:2]
    joins_axes = node.attributes.get("opset", 13) < 13
    if not y_zero or node.attributes.get("channels_last") or joins_axes:
        yield node
        return
    name, output, inputs = (node.name, node.source or node.operation), node.outputs[0], []
    for place in range(count):
        inputs.append(f"{output}/input_{place}")
        s.add(Node("DequantizeLinear", node.inputs[3 * place : 3 * place + 3], (inputs[-1],), {}, *name))
    own = ("channels_last", "opset")
    attributes = {key: value for key, value in node.attributes.items() if key not in own}
    s.add(Node(operation, tuple(inputs), (f"{output}/floats",), attributes, *name))
    yield Node("QuantizeLinear", (f"{output}/floats", y_scale, y_zero), (output,), {}, *name)


class _Quantized(NamedTuple):
    """The bytes that an array was dequantized from: the names of the bytes and of their zero point."""

    name: str
    scale: AnyArray
    zero_point: str
    axis: int


def _quantized(s: Simplifier, name: str) -> _Quantized | None:
    """Return the bytes from which DequantizeLinear made a value; None if it did not."""
    node = s.dequantized.get(name) or s.makers.get(name)
    if node is None or node.operation != "DequantizeLinear" or len(node.inputs) < 3:
        return None
    scale, zero_point = (s.constants.get(other) for other in node.inputs[1:])
    is_plain = not node.attributes.get("block_size") and not node.attributes.get("output_dtype")
    if scale is None or scale.dtype != np.float32 or zero_point is None or not is_plain:
        return None
    if zero_point.dtype not in (np.int8, np.uint8) or zero_point.size != scale.size or scale.ndim > 1:
        return None
    return _Quantized(node.inputs[0], scale, node.inputs[2], node.attributes.get("axis", 1))

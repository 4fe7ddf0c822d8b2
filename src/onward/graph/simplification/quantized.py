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

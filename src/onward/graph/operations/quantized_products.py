"""Products and convolutions with constant matrices in float16, or in int8 with one scale for each output.

float16: the product with the widened matrix. int8: the rows are quantized as well, each by its largest
magnitude, and sums are exact; see `layers.quantize`.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ... import _core
from ...layers.conv import Filters
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .convolutions import CONVOLUTION, conv_geometry, conv_signature, filter_rows, pad_or_crop
from .products import product_shape, product_step
from .registry import Inputs, Known, combining, known, operation, over_time, view
from .windows import windows_combine, windows_over_time


def _matmul_signature(x: Known, W: Known, scale: Known | None = None, bias: Known | None = None) -> Signature:
    return Signature(product_shape(x.shape, W.shape[::-1]), np.dtype(np.float32))


@operation("QuantizedMatMul", signature=_matmul_signature)
def quantized_matmul(
    x: AnyArray, W: AnyArray, scale: AnyArray | None = None, bias: AnyArray | None = None
) -> AnyArray:
    """x W^T + bias for x (..., K) and W (O, K), the scale (O,) of int8 and the bias (O,)."""
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = np.empty((len(rows), len(W)), np.float32)
    _core.Dense(W, bias, scale).forward(rows, y)
    return y.reshape(*x.shape[:-1], len(W))


@quantized_matmul.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, W, scale, bias = view(b, inputs[0]), *(known(value) for value in (*inputs[1:], None, None)[:3])
    if x is None or W is None:
        return None
    packed = b.packed((W, scale, bias), "quantized", lambda: (W, bias, scale))
    return [product_step(b, packed, x, len(W))]


@combining("QuantizedMatMul")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [[len(inputs[0].shape) - 1], range(2), [0], [0]]  # type: ignore[union-attr]  # x is not optional


def _conv_signature(
    x: Known, W: Known, scale: Known | None = None, bias: Known | None = None, **attributes: Any
) -> Signature:
    return conv_signature(x, W, bias, **attributes)


@operation("QuantizedConv", signature=_conv_signature, attributes=CONVOLUTION)
def quantized_conv(
    x: AnyArray,
    W: AnyArray,
    scale: AnyArray | None = None,
    bias: AnyArray | None = None,
    **attributes: Any,
) -> AnyArray:
    """The convolution of x (N, C, *in) with W (M, C / group, *kernel); int8 quantizes each window of x."""
    g = conv_geometry(x, W, attributes)
    y = np.empty((x.shape[0], W.shape[0], *g.out), np.float32)
    if y.size:
        filters = Filters(W, bias, attributes.get("group", 1), scale)
        y[...] = filters(pad_or_crop(x, g.sides), g.strides, [(0, 0)] * len(g.kernel), g.dilations)
    return y


@quantized_conv.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    W, scale, bias = (known(value) for value in (*inputs[1:], None, None)[:3])
    return None if W is None else filter_rows(b, node, inputs[0], W, bias, scale)


combining("QuantizedConv")(windows_combine)
over_time("QuantizedConv")(windows_over_time)

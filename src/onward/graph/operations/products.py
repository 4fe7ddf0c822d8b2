"""Matrix products."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..builder import Builder
from ..node import Node
from ..view import View
from .registry import Inputs, known, lowering, view


def product(
    b: Builder, x: View, matrix: NDArray[Any], bias: NDArray[Any] | None, transposed: bool = False
) -> View:
    """Return the product (.., O) of x (.., K) and a matrix (K, O), or (O, K) if transposed, plus the bias."""
    W = b.packed((matrix, bias), transposed, lambda: (matrix if transposed else matrix.T, bias))
    leading = x.shape[:-1]
    y = b.new_rows(math.prod(leading), matrix.shape[0 if transposed else 1])
    b.add("product", W, x, len(leading), None, y)
    return split_rows(y, leading)


def split_rows(y: View, leading: tuple[int, ...]) -> View:
    """Split the first axis of y (rows, O) into the leading axes."""
    strides, stride = [], y.strides[0]
    for size in reversed(leading):
        strides.append(stride)
        stride *= size
    return y._replace(shape=(*leading, y.shape[1]), strides=(*reversed(strides), y.strides[1]))


@lowering("MatMul")
def matmul(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Lower A B, or A B + C."""
    A, B = view(b, inputs[0]), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    if A is None or B is None or B.array.dtype != np.float32:
        return None
    W = known(B)
    if W is not None and W.ndim == 2 and inputs[0] is not None and inputs[0].array.ndim >= 1:
        if bias is None or (bias.known and bias.array.shape == W.shape[1:]):
            return [product(b, A, W, known(bias))]
        y = product(b, A, W, None)
    else:
        other = view(b, B)
        if other is None or len(A.shape) < 2 or len(other.shape) < 2:
            return None
        y = b.new(*np.broadcast_shapes(A.shape[:-2], other.shape[:-2]), A.shape[-2], other.shape[-1])
        b.add("matmul", A, other, y)
    if bias is None:
        return [y]
    C = view(b, bias)
    return C and [b.binary("add", y, C)]


@lowering("Gemm")
def gemm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Lower alpha A B + beta C."""
    A, W, attributes = view(b, inputs[0]), known(inputs[1]), node.attributes
    bias = inputs[2] if len(inputs) > 2 else None
    if A is None or W is None or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
        return None
    A = A.permuted(1, 0) if attributes.get("transA") else A
    transposed = bool(attributes.get("transB"))
    outputs = W.shape[0 if transposed else 1]
    if bias is None or (bias.known and bias.array.shape == (outputs,)):
        return [product(b, A, W, known(bias), transposed)]
    C = view(b, bias)
    return C and [b.binary("add", product(b, A, W, None, transposed), C)]

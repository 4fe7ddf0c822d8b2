"""Matrix products: MatMul, Gemm, FusedMatMul and Einsum.

Each number of a product of floats is a sum in the order of the inner axis, one fused multiply-add for each
term, so that a row does not depend on the other rows.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ...errors import ShapeError
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .registry import Inputs, Known, Value, combining, common_dtype, known, lowering, operation, view

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def product_shape(A: Sequence[int], B: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the product of arrays with shapes A and B, as np.matmul."""
    if not A or not B or A[-1] != B[max(0, len(B) - 2)]:
        raise ShapeError(f"the shapes {tuple(A)} and {tuple(B)} do not match in a matrix product")
    rows = A[-2:-1] if len(A) > 1 else ()
    columns = B[-1:] if len(B) > 1 else ()
    return (*np.broadcast_shapes(tuple(A[:-2]), tuple(B[:-2])), *rows, *columns)


def multiply(A: AnyArray, B: AnyArray, bias: AnyArray | None = None) -> AnyArray:
    """Return A B + bias as np.matmul; sums of floats begin with a bias (N,) if B is a matrix (K, N)."""
    shape = product_shape(A.shape, B.shape)
    if A.dtype not in FLOATS or A.dtype != B.dtype:
        y: AnyArray = np.matmul(A, B)
        return y if bias is None else y + bias
    rows, matrices = np.atleast_2d(A), B[:, None] if B.ndim == 1 else B
    begins = bias is not None and B.ndim == 2 and bias.shape == B.shape[1:] and bias.dtype == B.dtype
    first = np.ascontiguousarray(bias) if begins else None
    if B.ndim <= 2:
        y = _rows_times(rows, matrices, first)
    else:
        leading = np.broadcast_shapes(rows.shape[:-2], matrices.shape[:-2])
        rows = np.broadcast_to(rows, (*leading, *rows.shape[-2:]))
        matrices = np.broadcast_to(matrices, (*leading, *matrices.shape[-2:]))
        y = np.empty((*leading, rows.shape[-2], matrices.shape[-1]), A.dtype)
        for place in np.ndindex(leading):
            y[place] = _rows_times(rows[place], matrices[place], None)
    y = y.reshape(shape)
    return y if bias is None or begins else y + bias


def _rows_times(x: AnyArray, W: AnyArray, bias: AnyArray | None) -> AnyArray:
    """Return x W + bias for x (..., K) and W (K, N)."""
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), W.shape[0])
    y = np.zeros((len(rows), W.shape[1]), x.dtype)
    if W.shape[0] and W.shape[1]:
        _core.Dense(np.ascontiguousarray(W.T), bias).forward(rows, y)
    elif bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], W.shape[1])


def product(
    b: Builder, x: View, matrix: NDArray[Any], bias: NDArray[Any] | None, transposed: bool = False
) -> View:
    """Return the product (.., O) of x (.., K) and a matrix (K, O), or (O, K) if transposed, plus the bias."""
    W = b.packed((matrix, bias), transposed, lambda: (matrix if transposed else matrix.T, bias))
    return product_step(b, W, x, matrix.shape[0 if transposed else 1])


def product_step(b: Builder, W: _core.Dense, x: View, outputs: int) -> View:
    """Return the product (.., outputs) of x (.., K) and a packed matrix."""
    leading = x.shape[:-1]
    y = b.new_rows(math.prod(leading), outputs)
    b.add("product", W, x, len(leading), None, y)
    return split_rows(y, leading)


def split_rows(y: View, leading: tuple[int, ...]) -> View:
    """Split the first axis of y (rows, O) into the leading axes."""
    strides, stride = [], y.strides[0]
    for size in reversed(leading):
        strides.append(stride)
        stride *= size
    return y._replace(shape=(*leading, y.shape[1]), strides=(*reversed(strides), y.strides[1]))


def swap_last(x: View) -> View:
    """Return the view with its last two axes swapped."""
    n = len(x.shape)
    return x.permuted(*range(n - 2), n - 1, n - 2)


def _lower_product(
    b: Builder,
    A: View | None,
    B: Value | None,
    bias: Value | None,
    transposed: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> list[View] | None:
    """Lower alpha A B + beta C; if transposed, the last two axes of B are swapped."""
    if A is None or B is None or B.dtype != np.float32 or not A.shape:
        return None
    W, C = known(B), view(b, bias)
    if bias is not None and C is None:
        return None
    if W is not None and W.ndim == 2 and W.size:
        outputs = W.shape[0 if transposed else 1]
        if bias is not None and bias.known and bias.shape == (outputs,) and alpha == beta == 1:
            return [product(b, A, W, known(bias), transposed)]
        y = product(b, A, W, None, transposed)
    else:
        other = view(b, B)
        if other is None or len(A.shape) < 2 or len(other.shape) < 2:
            return None
        y = matmul_step(b, A, swap_last(other) if transposed else other)
    if alpha != 1:
        y = b.binary("multiply", y, b.scalar(alpha))
    if C is not None:
        y = b.binary("add", y, C if beta == 1 else b.binary("multiply", C, b.scalar(beta)))
    return [y]


def matmul_step(b: Builder, A: View, B: View) -> View:
    """Return the product of two views with at least two axes each."""
    y = b.new(*product_shape(A.shape, B.shape))
    b.add("matmul", A, B, y)
    return y


def _optional(inputs: Inputs, index: int) -> Value | None:
    return inputs[index] if len(inputs) > index else None


def _matmul_signature(A: Known, B: Known, C: Known | None = None, **attributes: Any) -> Signature:
    shape = product_shape(A.shape, B.shape)
    return Signature(shape if C is None else np.broadcast_shapes(shape, C.shape), common_dtype(A, B, C))


@operation("MatMul", signature=_matmul_signature, widens=True)
def matmul(A: AnyArray, B: AnyArray, C: AnyArray | None = None) -> AnyArray:
    """A B, or A B + C."""
    return multiply(A, B, C)


@matmul.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    return _lower_product(b, view(b, inputs[0]), inputs[1], _optional(inputs, 2))


def _gemm_signature(
    A: Known, B: Known, C: Known | None = None, *, transA: int = 0, transB: int = 0, **attributes: Any
) -> Signature:
    rows, columns = A.shape[::-1] if transA else A.shape, B.shape[::-1] if transB else B.shape
    if len(rows) != 2 or len(columns) != 2:
        raise ShapeError(f"Gemm takes matrices, not arrays of shapes {A.shape} and {B.shape}")
    shape = product_shape(rows, columns)
    if C is not None and np.broadcast_shapes(shape, C.shape) != shape:
        raise ShapeError(f"C has shape {C.shape}, which does not broadcast into {shape}")
    return Signature(shape, common_dtype(A, B, C))


@operation("Gemm", signature=_gemm_signature, widens=True)
def gemm(
    A: AnyArray,
    B: AnyArray,
    C: AnyArray | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> AnyArray:
    """alpha A B + beta C, with A and B transposed on request."""
    A, B = A.T if transA else A, B.T if transB else B
    if alpha == beta == 1:
        y = multiply(A, B, C)
    else:
        y = (alpha * multiply(A, B)).astype(A.dtype, copy=False)
        y = y if C is None else y + (beta * C).astype(A.dtype, copy=False)
    return np.broadcast_to(y, (A.shape[0], B.shape[1]))


@gemm.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, attributes = view(b, inputs[0]), node.attributes
    if A is not None and attributes.get("transA"):
        A = A.permuted(1, 0)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    return _lower_product(b, A, inputs[1], _optional(inputs, 2), bool(attributes.get("transB")), alpha, beta)


def _order(rank: int, swapped: int, moved: int) -> list[int]:
    """Return the order of axes of an operand of FusedMatMul.

    `moved` says that the matrices lie in the first and the last axis; `swapped`, that they are transposed.
    """
    axes = list(range(rank))
    if moved and rank > 2:
        axes = [*axes[1:-1], 0, axes[-1]]
    return [*axes[:-2], axes[-1], axes[-2]] if swapped and rank > 1 else axes


def _fused_signature(
    A: Known,
    B: Known,
    *,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
    **attributes: Any,
) -> Signature:
    first = [A.shape[axis] for axis in _order(len(A.shape), transA, transBatchA)]
    second = [B.shape[axis] for axis in _order(len(B.shape), transB, transBatchB)]
    return Signature(product_shape(first, second), common_dtype(A, B))


@operation("FusedMatMul", signature=_fused_signature, widens=True)
def fused_matmul(
    A: AnyArray,
    B: AnyArray,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> AnyArray:
    """onnxruntime's alpha A B, with axes of A and B transposed on request."""
    A = A.transpose(_order(A.ndim, transA, transBatchA))
    B = B.transpose(_order(B.ndim, transB, transBatchB))
    y = multiply(A, B)
    return y if alpha == 1 else (alpha * y).astype(A.dtype, copy=False)


@fused_matmul.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, B, attributes = view(b, inputs[0]), inputs[1], node.attributes
    if A is None or B is None or attributes.get("transBatchB"):
        return None
    A = A.permuted(*_order(len(A.shape), attributes.get("transA", 0), attributes.get("transBatchA", 0)))
    transposed = bool(attributes.get("transB")) and len(B.shape) > 1
    return _lower_product(b, A, B, None, transposed, attributes.get("alpha", 1.0))


def _det_signature(x: Known) -> Signature:
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"x has shape {x.shape}; expected square matrices")
    return Signature(x.shape[:-2], x.dtype)


@operation("Det", signature=_det_signature, widens=True)
def det(x: AnyArray) -> AnyArray:
    """The determinant of each matrix of x (..., n, n)."""
    return np.asarray(np.linalg.det(x), x.dtype)


Labels = list[int]


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """Return the labels of the axes of each operand and of the result; labels from 26 on stand for "..."."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"the equation {equation} has {len(terms)} operands, not {len(ranks)}")
    letters = sorted(set(equation) - set(" .,->"))
    widest = max(
        (rank - len(term.replace(".", "")) for term, rank in zip(terms, ranks, strict=True) if "." in term),
        default=0,
    )

    def read(term: str, free: int) -> Labels:
        before, dots, after = term.partition("...")
        shared = range(52 - free, 52) if dots else ()
        return [*map(letters.index, before), *shared, *map(letters.index, after)]

    operands = []
    for term, rank in zip(terms, ranks, strict=True):
        labels = read(term, rank - len(term.replace(".", "")))
        if len(labels) != rank:
            raise ShapeError(f"the operand {term} of the equation {equation} has {rank} axes")
        operands.append(labels)
    if arrow:
        return operands, read(right, widest)
    every = [label for labels in operands for label in labels]
    once = [label for label in range(len(letters)) if every.count(label) == 1]
    return operands, [*range(52 - widest, 52), *once]


def _einsum_signature(*inputs: Known, equation: str) -> Signature:
    operands, result = _labels(equation, [len(a.shape) for a in inputs])
    sizes: dict[int, int] = {}
    for labels, a in zip(operands, inputs, strict=True):
        for label, size in zip(labels, a.shape, strict=True):
            if sizes.get(label, 1) != 1 and size not in (1, sizes[label]):
                raise ShapeError(f"the axes of the equation {equation} have sizes {sizes[label]} and {size}")
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    return Signature(tuple(sizes[label] for label in result), common_dtype(*inputs))


def _as_product(
    operands: list[Labels], result: Labels, shapes: Sequence[tuple[int, ...]]
) -> tuple[Labels, Labels, Labels, Labels] | None:
    """Split the labels of two operands into those of a batch, rows, sums and columns.

    Return None if the equation is not a product of matrices.
    """
    if len(operands) != 2:
        return None
    first, second = operands
    both = set(first) & set(second)
    distinct = all(len(labels) == len(set(labels)) for labels in (first, second, result))
    sizes = dict(zip(first, shapes[0], strict=True))
    equal = all(sizes[label] == size for label, size in zip(second, shapes[1], strict=True) if label in both)
    if not distinct or not equal or not (set(first) ^ set(second)) <= set(result):
        return None
    return (
        [label for label in result if label in both],
        [label for label in first if label not in both],
        [label for label in first if label in both and label not in result],
        [label for label in second if label not in both],
    )


@operation("Einsum", signature=_einsum_signature, widens=True)
def einsum(*inputs: AnyArray, equation: str) -> AnyArray:
    """The sum of products that an equation in Einstein's notation describes."""
    operands, result = _labels(equation, [a.ndim for a in inputs])
    parts = _as_product(operands, result, [a.shape for a in inputs])
    if parts is None:
        pairs = [item for pair in zip(inputs, operands, strict=True) for item in pair]
        return np.asarray(np.einsum(*pairs, result))
    batch, rows, summed, columns = parts
    A, B = inputs
    A = A.transpose([operands[0].index(label) for label in (*batch, *rows, *summed)])
    B = B.transpose([operands[1].index(label) for label in (*batch, *summed, *columns)])
    leading, n, m = A.shape[: len(batch)], len(rows), len(summed)
    out_rows, out_columns = A.shape[len(batch) : len(batch) + n], B.shape[len(batch) + m :]
    inner = math.prod(B.shape[len(batch) : len(batch) + m])
    y = multiply(
        A.reshape(*leading, math.prod(out_rows), inner), B.reshape(*leading, inner, math.prod(out_columns))
    )
    order = [*batch, *rows, *columns]
    return y.reshape((*leading, *out_rows, *out_columns)).transpose([order.index(label) for label in result])


@lowering("Einsum")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if len(inputs) != 2:
        return None
    A, B = view(b, inputs[0]), view(b, inputs[1])
    if A is None or B is None:
        return None
    operands, result = _labels(node.attributes["equation"], [len(A.shape), len(B.shape)])
    parts = _as_product(operands, result, [A.shape, B.shape])
    if parts is None or 0 in A.shape or 0 in B.shape:
        return None
    batch, rows, summed, columns = parts
    A = A.permuted(*(operands[0].index(label) for label in (*batch, *rows, *summed)))
    B = B.permuted(*(operands[1].index(label) for label in (*batch, *summed, *columns)))
    leading, n, m = A.shape[: len(batch)], len(rows), len(summed)
    out_rows, out_columns = A.shape[len(batch) : len(batch) + n], B.shape[len(batch) + m :]
    inner = math.prod(B.shape[len(batch) : len(batch) + m])
    y = matmul_step(
        b,
        b.reshaped(A, *leading, math.prod(out_rows), inner),
        b.reshaped(B, *leading, inner, math.prod(out_columns)),
    )
    order = [*batch, *rows, *columns]
    y = b.reshaped(y, *leading, *out_rows, *out_columns)
    return [y.permuted(*(order.index(label) for label in result))]


@combining("MatMul")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    A, B = (len(value.shape) for value in inputs[:2] if value is not None)
    return [[A - 1], [max(0, B - 2)], ()]


@combining("Gemm")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [[0 if node.attributes.get("transA") else 1], [1 if node.attributes.get("transB") else 0], ()]


@combining("FusedMatMul")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    A, B = (len(value.shape) for value in inputs[:2] if value is not None)
    attributes = node.attributes
    if A > 1 and B > 1:
        first = _order(A, attributes.get("transA", 0), attributes.get("transBatchA", 0))[-1]
        return [[first], [_order(B, attributes.get("transB", 0), attributes.get("transBatchB", 0))[-2]]]
    return [range(A), range(B)]

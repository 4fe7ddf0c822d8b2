"""Matrix products: MatMul, Gemm, FusedMatMul, Einsum, and QuantizedMatMul with a constant matrix.

Each number of a product of floats is a sum in the order of the inner axis, one fused multiply-add for each
term, so that a row does not depend on the other rows.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from string import ascii_letters
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View, name_of
from ..sized import broadcast_shape
from .compositions import composing
from .registry import Inputs, combining, lowering, operation, reading
from .signatures import common_dtype
from .value import known, typed_view, view

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def product_shape(A: Sequence[int], B: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the product of arrays with shapes A and B, as np.matmul."""
    if not A or not B or A[-1] != B[max(0, len(B) - 2)]:
        raise ShapeError(f"the shapes {tuple(A)} and {tuple(B)} do not match in a matrix product")
    rows = A[-2:-1] if len(A) > 1 else ()
    columns = B[-1:] if len(B) > 1 else ()
    return (*broadcast_shape(tuple(A[:-2]), tuple(B[:-2])), *rows, *columns)


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
        leading = broadcast_shape(rows.shape[:-2], matrices.shape[:-2])
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
    outputs = matrix.shape[0 if transposed else 1]
    if x.dtype == "float32":
        return product_step(b, W, x, outputs)
    y = b.new(*x.shape[:-1], outputs, dtype=x.dtype)
    b.add("dense", W, b.contiguous(x), y)
    return y


def product_step(b: Builder, W: _core.Dense, x: View, outputs: int, summed: int = 1) -> View:
    """Return the product (.., outputs) of x and a packed matrix, which sums over the last `summed` axes."""
    leading = x.shape[:-summed]
    y = new_rows(b, leading or (1,), outputs)
    b.add("product", W, x, len(leading), None, y)
    return y if leading else split_rows(y, ())


def new_rows(b: Builder, leading: tuple[int, ...], outputs: int) -> View:
    """Allocate the output (.., outputs) of a product."""
    return split_rows(b.new_rows(math.prod(leading), outputs), leading)


def split_rows(y: View, leading: tuple[int, ...]) -> View:
    """Split the first axis of y (rows, O) into the leading axes."""
    strides: list[Any] = []
    stride = y.strides[0]
    for size in reversed(leading):
        strides.append(stride)
        stride *= size
    return y.with_axes((*leading, y.shape[1]), (*reversed(strides), y.strides[1]))


def matmul_step(b: Builder, A: View, B: View) -> View:
    """Return the product of two views with at least two axes each."""
    y = b.new(*product_shape(A.shape, B.shape))
    b.add("matmul", A, B, y)
    return y


def _vectors_or_matrices(b: Builder, A: View, B: View) -> View:
    """Return the product of two views, of which a vector is a matrix of one row or one column."""
    shape = product_shape(A.shape, B.shape)
    if len(B.shape) == 2 and len(A.shape) > 2:  # one matrix for all rows
        A = A.reshaped(math.prod(A.shape[:-1]), A.shape[-1]) or A
    if len(A.shape) == 1:
        A = A.with_axes((1, *A.shape), (0, *A.strides))
    if len(B.shape) == 1:
        B = B.with_axes((*B.shape, 1), (*B.strides, 1))
    return b.reshaped(matmul_step(b, A, B), *shape)


def _starting_with(b: Builder, bias: View, A: View, B: View) -> tuple[View, View]:
    """Put a 1 in front of the rows of A and the bias in front of those of B: the sums begin with it."""
    axis, K = len(A.shape) - 1, B.shape[0]
    rows, matrix = b.new(*A.shape[:-1], K + 1), b.new(K + 1, B.shape[1])
    b.add("copy", b.scalar(1.0), rows.sliced(axis, 0, 1))
    b.add("copy", A, rows.sliced(axis, 1, K + 1))
    b.add("copy", bias, matrix.sliced(0, 0, 1))
    b.add("copy", B, matrix.sliced(0, 1, K + 1))
    return rows, matrix


def _order(rank: int, swapped: int, moved: int = 0) -> list[int]:
    """Return the order of axes of an operand of a product.

    `moved` says that the matrices lie in the first and the last axis; `swapped`, that they are transposed.
    """
    axes = list(range(rank))
    if moved and rank > 2:
        axes = [*axes[1:-1], 0, axes[-1]]
    return [*axes[:-2], axes[-1], axes[-2]] if swapped and rank > 1 else axes


def _orders(A: Any, B: Any, attributes: Mapping[str, Any]) -> list[list[int]]:
    """Return the order of the axes of both operands."""
    return [
        _order(len(a.shape), attributes.get(f"trans{name}", 0), attributes.get(f"transBatch{name}", 0))
        for name, a in zip("AB", (A, B), strict=True)
    ]


def _product_signature(A: Operand, B: Operand, C: Operand | None = None, **attributes: Any) -> Signature:
    operands = zip((A, B), _orders(A, B, attributes), strict=True)
    shape = product_shape(*([a.shape[axis] for axis in order] for a, order in operands))
    return Signature(shape if C is None else broadcast_shape(shape, C.shape), common_dtype(A, B, C))


def _gemm_signature(A: Operand, B: Operand, C: Operand | None = None, **attributes: Any) -> Signature:
    if len(A.shape) != 2 or len(B.shape) != 2:
        raise ShapeError(f"Gemm takes matrices, not arrays of shapes {A.shape} and {B.shape}")
    shape = _product_signature(A, B, **attributes).shape
    if C is not None and broadcast_shape(shape, C.shape) != shape:
        raise ShapeError(f"C has shape {C.shape}, which does not broadcast into {shape}")
    return Signature(shape, common_dtype(A, B, C))


@operation("MatMul", signature=_product_signature, widens=True)
def matmul(A: AnyArray, B: AnyArray, C: AnyArray | None = None) -> AnyArray:
    """A B, or A B + C."""
    return multiply(A, B, C)


def _define_scaled(name: str, signature: Any, *attributes: str) -> None:
    """Define alpha A B + beta C, with axes of A and B transposed on request."""

    @operation(name, signature=signature, attributes=attributes, widens=True)
    def compute(
        A: AnyArray, B: AnyArray, C: AnyArray | None = None, *, alpha: float = 1.0, **options: Any
    ) -> AnyArray:
        A, B = (a.transpose(order) for a, order in zip((A, B), _orders(A, B, options), strict=True))
        beta = options.get("beta", 1.0)
        if alpha == beta == 1:
            return multiply(A, B, C)
        y = (alpha * multiply(A, B)).astype(A.dtype, copy=False)
        return y if C is None else y + (beta * C).astype(A.dtype, copy=False)


_define_scaled("Gemm", _gemm_signature, "beta", "transA", "transB")
_define_scaled("FusedMatMul", _product_signature, "transA", "transB", "transBatchA", "transBatchB")


@lowering("MatMul", "Gemm", "FusedMatMul")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    B, bias, options = inputs[1], (*inputs, None)[2], node.attributes
    if B is None or not b.computes(B.dtype) or options.get("transBatchB"):
        return None
    A, C = (typed_view(b, value, (name_of(B.dtype),)) for value in (inputs[0], bias))
    if A is None or not A.shape or (bias is not None and C is None):
        return None
    W, alpha, beta = known(B), options.get("alpha", 1.0), options.get("beta", 1.0)
    A = A.permuted(*_orders(A, B, options)[0])
    transposed = bool(options.get("transB"))
    if W is not None and W.ndim == 2 and W.size:
        outputs = W.shape[0 if transposed else 1]
        if bias is not None and bias.known and bias.shape == (outputs,) and alpha == beta == 1:
            return [product(b, A, W, known(bias), transposed)]  # the sums begin with it
        y = product(b, A, W, None, transposed)
    else:
        other = view(b, B)  # in float32
        if other is None:
            return None
        other = other.permuted(*_order(len(other.shape), transposed))
        if C is not None and len(other.shape) == 2 and C.shape == other.shape[1:] and alpha == beta == 1:
            return [_vectors_or_matrices(b, *_starting_with(b, C, A, other))]
        y = _vectors_or_matrices(b, A, other)
    if alpha != 1:
        y = b.binary("multiply", y, b.scalar(alpha, y.dtype))
    if C is not None:
        y = b.binary("add", y, C if beta == 1 else b.binary("multiply", C, b.scalar(beta, y.dtype)))
    return [y]


@combining("MatMul", "Gemm", "FusedMatMul")
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    A, B = inputs[:2]
    first, second = _orders(A, B, node.attributes)
    return [[first[-1]], [second[max(0, len(second) - 2)]], ()]


@reading("MatMul", "Gemm", "FusedMatMul")
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    A = inputs[0]
    order = _order(len(A.shape), attributes.get("transA", 0), attributes.get("transBatchA", 0))
    return A.shape[order[-1]]


def _det_signature(x: Operand) -> Signature:
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"x has shape {x.shape}; expected square matrices")
    return Signature(x.shape[:-2], x.dtype)


@operation("Det", signature=_det_signature, widens=True)
def det(x: AnyArray) -> AnyArray:
    """The determinant of each matrix of x (..., n, n)."""
    return np.asarray(np.linalg.det(x), x.dtype)


@det.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    rank = len(inputs[0].shape)
    return [range(rank - 2, rank)]


@det.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    n = inputs[0].shape[-1]
    return n * n * n


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


def _einsum_signature(*inputs: Operand, equation: str) -> Signature:
    operands, result = _labels(equation, [len(a.shape) for a in inputs])
    sizes: dict[int, int] = {}
    for labels, a in zip(operands, inputs, strict=True):
        for label, size in zip(labels, a.shape, strict=True):
            if sizes.get(label, 1) != 1 and size not in (1, sizes[label]):
                raise ShapeError(f"the axes of the equation {equation} have sizes {sizes[label]} and {size}")
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    return Signature(tuple(sizes[label] for label in result), common_dtype(*inputs))


class _AsProduct(NamedTuple):
    """An equation as a product of matrices: the order of axes and the shape of each operand.

    The result has the shape `parts`, and then the order `order`.
    """

    A: tuple[list[int], list[int]]
    B: tuple[list[int], list[int]]
    parts: list[int]
    order: list[int]


def _layout(equation: str, shapes: Sequence[tuple[int, ...]]) -> _AsProduct | None:
    """Return the layout of an equation, or None if it is not a product of two matrices."""
    operands, result = _labels(equation, list(map(len, shapes)))
    if len(operands) != 2:
        return None
    first, second = operands
    both = set(first) & set(second)
    distinct = all(len(labels) == len(set(labels)) for labels in (first, second, result))
    sizes = dict(zip(first, shapes[0], strict=True))
    equal = all(sizes[label] == size for label, size in zip(second, shapes[1], strict=True) if label in both)
    if not distinct or not equal or not (set(first) ^ set(second)) <= set(result):
        return None
    sizes |= zip(second, shapes[1], strict=True)
    batch = [label for label in result if label in both]
    rows, columns = ([label for label in labels if label not in both] for labels in operands)
    summed = [label for label in first if label in both and label not in result]

    def of(labels: Labels) -> list[int]:
        return [sizes[label] for label in labels]

    n, inner, m = (math.prod(of(labels)) for labels in (rows, summed, columns))
    axes = [*batch, *rows, *columns]
    return _AsProduct(
        ([first.index(label) for label in (*batch, *rows, *summed)], [*of(batch), n, inner]),
        ([second.index(label) for label in (*batch, *summed, *columns)], [*of(batch), inner, m]),
        of(axes),
        [axes.index(label) for label in result],
    )


@operation("Einsum", signature=_einsum_signature, widens=True)
def einsum(*inputs: AnyArray, equation: str) -> AnyArray:
    """The sum of products that an equation in Einstein's notation describes."""
    layout = _layout(equation, [a.shape for a in inputs])
    if layout is None:
        operands, result = _labels(equation, [a.ndim for a in inputs])
        terms = [item for pair in zip(inputs, operands, strict=True) for item in pair]
        return np.asarray(np.einsum(*terms, result))
    pairs = zip(inputs, layout[:2], strict=True)
    y = multiply(*(a.transpose(order).reshape(shape) for a, (order, shape) in pairs))
    return y.reshape(layout.parts).transpose(layout.order)


@einsum.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """The sizes of the labels that are summed."""
    present = [a for a in inputs if a is not None]
    operands, result = _labels(attributes["equation"], [len(a.shape) for a in present])
    sizes = {
        label: size
        for labels, a in zip(operands, present, strict=True)
        for label, size in zip(labels, a.shape, strict=True)
        if label not in result and not (type(size) is int and size == 1)
    }
    return math.prod(sizes.values())


@einsum.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    """The axes that are summed, and diagonals."""
    operands, result = _labels(node.attributes["equation"], [len(x.shape) for x in inputs])
    return [
        [axis for axis, label in enumerate(labels) if label not in result or labels.count(label) > 1]
        for labels in operands
    ]


@einsum.steps()
def _(b: Builder, *views: View, equation: str) -> View | None:
    layout = _layout(equation, [x.shape for x in views])
    if layout is None:
        return None
    operands = zip(views, layout[:2], strict=True)
    y = matmul_step(b, *(b.reshaped(x.permuted(*order), *shape) for x, (order, shape) in operands))
    return b.reshaped(y, *layout.parts).permuted(*layout.order)


@composing(einsum, lambda inputs: len(inputs) > 2)
def _pairwise(*inputs: Any, equation: str) -> Any:
    """One product after the other, of which each keeps the labels that are used later."""
    operands, result = _labels(equation, [x.rank for x in inputs])
    y, (labels, *others) = inputs[0], operands
    for place, (x, own) in enumerate(zip(inputs[1:], others, strict=True), start=1):
        later = {*result}.union(*others[place:])
        kept = result if x is inputs[-1] else [n for n in dict.fromkeys((*labels, *own)) if n in later]
        terms = ["".join(map(ascii_letters.__getitem__, each)) for each in (labels, own, kept)]
        y, labels = y.apply("Einsum", x, equation="{},{}->{}".format(*terms)), kept
    return y


def _quantized_signature(x: Operand, W: Operand, *others: Operand | None) -> Signature:
    return Signature(product_shape(x.shape, W.shape[::-1]), np.dtype(np.float32))


def last_size(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Return the size of the last axis of the first input, whose elements are summed."""
    return inputs[0].shape[-1]


@operation(
    "QuantizedMatMul",
    signature=_quantized_signature,
    combines=lambda node, inputs: [[len(inputs[0].shape) - 1], range(2), [0], [0]],
)
def quantized_matmul(
    x: AnyArray, W: AnyArray, scale: AnyArray | None = None, bias: AnyArray | None = None
) -> AnyArray:
    """x W^T + bias for x (..., K) and W (O, K) in float16, or in int8 with the scale (O,) of each output.

    float16: the product with the widened matrix. int8: the rows are quantized as well, each by its largest
    magnitude, and sums are exact; see `core.quantize`.
    """
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = np.empty((len(rows), len(W)), np.float32)
    _core.Dense(W, bias, scale).forward(rows, y)
    return y.reshape(*x.shape[:-1], len(W))


@quantized_matmul.steps(views=(0,))
def _(b: Builder, x: View, W: AnyArray, scale: AnyArray | None = None, bias: AnyArray | None = None) -> View:
    packed = b.packed((W, scale, bias), "quantized", lambda: (W, bias, scale))
    return product_step(b, packed, x, len(W))


quantized_matmul.reading(last_size)

"""The product of groups of rows, each with a matrix of its own, as in a mixture of experts."""

import numpy as np

from ...errors import ArgumentError, DtypeError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .products import last_size, multiply
from .registry import Inputs, operation
from .signatures import common_dtype
from .value import typed_view


def _signature(A: Operand, B: Operand, ends: Operand) -> Signature:
    if len(A.shape) != 2 or len(B.shape) != 3 or A.shape[1] != B.shape[1] or ends.shape != B.shape[:1]:
        shapes = f"{A.shape}, {B.shape} and {ends.shape}"
        raise ShapeError(f"GroupedMatMul takes arrays of shapes (M, K), (G, K, N) and (G,), not {shapes}")
    if ends.dtype.kind not in "iu":
        raise DtypeError(f"the ends of groups have dtype {ends.dtype}; expected integers")
    return Signature((A.shape[0], B.shape[2]), common_dtype(A, B))


@operation("GroupedMatMul", signature=_signature, widens=True)
def grouped_matmul(A: AnyArray, B: AnyArray, ends: AnyArray) -> AnyArray:
    """The product (M, N) of the rows of A (M, K) and the matrices B (G, K, N) of their groups.

    `ends` (G,) are the ends of the groups, which follow each other. Rows after the last group are 0. Raises
    ArgumentError if the ends decrease, or are more than M.
    """
    bounds = [0, *ends.tolist()]
    if bounds != sorted(bounds) or bounds[-1] > len(A):
        ends_at = bounds[1:]
        raise ArgumentError(f"the ends of groups are {ends_at}; expected them to ascend from 0 to {len(A)}")
    y = np.zeros((len(A), B.shape[2]), A.dtype)
    for matrix, first, end in zip(B, bounds, bounds[1:], strict=False):
        if first < end:
            y[first:end] = multiply(A[first:end], matrix)
    return y


@grouped_matmul.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, B = (typed_view(b, value, ("float32",)) for value in inputs[:2])
    ends = typed_view(b, inputs[2], ("int32", "int64"))
    if A is None or B is None or ends is None:
        return None
    y = b.new(*shapes[0])
    b.add("grouped_matmul", A, B, b.cast(ends, "int64"), y, str(node))
    return [y]


grouped_matmul.reading(last_size)

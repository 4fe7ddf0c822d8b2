"""The gradients of operations that combine elements: products, reductions, softmax and normalization."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import ArgumentError
from .expressions import sqrt, square
from .gradients_elementwise import Rule
from .reductions import reduced_axes


def _transposed(x: Any) -> Any:
    """Return matrices with their last two axes exchanged."""
    return x.apply("Transpose", perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2])


def _of_product(dy: Any, y: Any, A: Any, B: Any, bias: Any = None) -> Iterator[Any]:
    d, a, b = dy, A, B
    if A.rank == 1:  # a row
        d, a = d.apply("Unsqueeze", [d.rank if B.rank == 1 else d.rank - 1]), a.apply("Unsqueeze", [0])
    if B.rank == 1:  # a column
        d, b = d.apply("Unsqueeze", [d.rank]), b.apply("Unsqueeze", [1])
    yield d.apply("MatMul", _transposed(b))
    if b.rank == 2:  # of all rows at once
        a, d = (each.apply("Reshape", [-1, each.shape[-1]]) for each in (a, d))
    dB = _transposed(a).apply("MatMul", d)
    yield dB.apply("Squeeze", [-1]) if B.rank == 1 else dB
    yield dy


def _of_gemm(
    dy: Any, y: Any, A: Any, B: Any, C: Any = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
    transB: int = 0,
) -> Iterator[Any]:  # fmt: skip
    scaled = dy if alpha == 1 else dy * alpha
    a, b = (_transposed(x) if flag else x for x, flag in ((A, transA), (B, transB)))
    dA, dB = scaled.apply("MatMul", _transposed(b)), _transposed(a).apply("MatMul", scaled)
    yield _transposed(dA) if transA else dA
    yield _transposed(dB) if transB else dB
    yield dy if beta == 1 else dy * beta


def _of_einsum(dy: Any, y: Any, *inputs: Any, equation: str) -> Iterator[Any]:
    """Exchange the labels of the output and of each input."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    labels = terms.split(",")
    if not arrow or "." in equation or any(len({*term}) < len(term) for term in labels):
        raise ArgumentError(
            f"equation={equation!r} has no gradient; expected an output, and no ... or diagonal"
        )
    for place, (term, x) in enumerate(zip(labels, inputs, strict=True)):
        others = [
            (other, each) for n, (other, each) in enumerate(zip(labels, inputs, strict=True)) if n != place
        ]
        found = {*result, *(label for other, _ in others for label in other)}
        kept = "".join(label for label in term if label in found)
        names = ",".join((result, *(other for other, _ in others)))
        dx = dy.apply("Einsum", *(each for _, each in others), equation=f"{names}->{kept}")
        missing = [axis for axis, label in enumerate(term) if label not in found]
        dx = dx.apply("Unsqueeze", missing) if missing else dx
        yield dx.apply("Expand", x.apply("Shape").name)


def _repeated(dy: Any, x: Any, axes: list[int], keepdims: int) -> Any:
    """Return a gradient repeated along the axes over which a reduction combined x."""
    kept = dy if keepdims or not axes else dy.apply("Unsqueeze", axes)
    return kept.apply("Expand", x.apply("Shape").name)


def _axes(x: Any, axes: Any, noop_with_empty_axes: int) -> list[int]:
    return reduced_axes(None if axes is None else axes.known, x.rank, noop_with_empty_axes)


def _of_sum(
    dy: Any, y: Any, x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Iterator[Any]:
    yield _repeated(dy, x, _axes(x, axes, noop_with_empty_axes), keepdims)


def _of_mean(
    dy: Any, y: Any, x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Iterator[Any]:
    reduced = _axes(x, axes, noop_with_empty_axes)
    count = x.apply("Shape").apply("Gather", reduced).reduce("ReduceProd").cast(x.dtype)
    yield _repeated(dy / count, x, reduced, keepdims)


def _of_extreme(
    dy: Any, y: Any, x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Iterator[Any]:
    """Divide dy among equal elements, as PyTorch's amax does."""
    reduced = _axes(x, axes, noop_with_empty_axes)
    chosen = x.equals(_repeated(y, x, reduced, keepdims)).cast(x.dtype)
    count = chosen.reduce("ReduceSum", reduced, True) if reduced else 1
    yield _repeated(dy, x, reduced, keepdims) * chosen / count


def _of_cumulative_sum(
    dy: Any, y: Any, x: Any, axis: Any, *, exclusive: int = 0, reverse: int = 0
) -> Iterator[Any]:
    yield dy.apply("CumSum", axis, exclusive=exclusive, reverse=1 - reverse)


def _of_softmax(dy: Any, y: Any, x: Any, *, axis: int = -1) -> Iterator[Any]:
    yield y * (dy - (dy * y).reduce("ReduceSum", [axis], True))


def _of_log_softmax(dy: Any, y: Any, x: Any, *, axis: int = -1) -> Iterator[Any]:
    yield dy - y.apply("Exp") * dy.reduce("ReduceSum", [axis], True)


def _of_standardized(dy: Any, y: Any, x: Any, *, axes: Any, epsilon: float) -> Iterator[Any]:
    def mean(part: Any) -> Any:
        return part.reduce("ReduceMean", axes, True)

    deviation = sqrt(mean(square(x - mean(x))) + epsilon)
    yield (dy - (mean(dy) + y * mean(dy * y))) / deviation


RULES: Mapping[str, Rule] = {
    "MatMul": _of_product,
    "Gemm": _of_gemm,
    "Einsum": _of_einsum,
    "ReduceSum": _of_sum,
    "ReduceMean": _of_mean,
    "ReduceMax": _of_extreme,
    "ReduceMin": _of_extreme,
    "CumSum": _of_cumulative_sum,
    "Softmax": _of_softmax,
    "LogSoftmax": _of_log_softmax,
    "Standardize": _of_standardized,
}

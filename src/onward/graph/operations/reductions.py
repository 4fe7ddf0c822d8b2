"""Reductions, and global pooling; sums of floats depend neither on the batch nor on the memory order."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ... import _core
from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .registry import Inputs, Known, along_time, combining, known, lowering, operation, over_time, view


def row_sums(rows: AnyArray) -> AnyArray:
    """Return the sum of each row of (N, F), in the order of the core; in integers, exact modulo overflow."""
    if rows.dtype == np.float32:
        return _reduce_rows("sum", rows)
    if rows.dtype == np.float64:
        return np.array([_core.sum(row) for row in np.ascontiguousarray(rows)], np.float64)
    return np.asarray(rows.sum(1, dtype=rows.dtype))


def _reduce_rows(function: str, rows: AnyArray) -> AnyArray:
    """Run the core's step `reduce` on rows (N, F) of float32."""
    rows = np.ascontiguousarray(rows)
    N, F = rows.shape
    y = np.zeros(N, np.float32)
    if rows.size:
        plan = _core.Plan([0, 0, rows.nbytes, y.nbytes])
        plan.reduce(function, View.contiguous(2, 0, (N, F)), View.contiguous(3, 0, (N, 1)))
        empty = np.zeros(0, np.uint8)
        plan.run([empty, empty, rows, y], 0, 1)
    return y


def bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest number of a dtype."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return (False, True) if dtype.kind == "b" else (-np.inf, np.inf)


def _row_maxima(rows: AnyArray) -> AnyArray:
    if rows.dtype == np.float32 and rows.shape[1]:
        return _reduce_rows("maximum", rows)
    return np.asarray(rows.max(1, initial=bounds(rows.dtype)[0]))


def _row_minima(rows: AnyArray) -> AnyArray:
    if rows.dtype == np.float32 and rows.shape[1]:
        return -_reduce_rows("maximum", -rows)
    return np.asarray(rows.min(1, initial=bounds(rows.dtype)[1]))


def _row_products(rows: AnyArray) -> AnyArray:
    y = np.ones(len(rows), rows.dtype)
    for place in range(rows.shape[1]):
        y *= rows[:, place]
    return y


def _row_means(rows: AnyArray) -> AnyArray:
    if rows.dtype.kind in "iu":
        return np.asarray(rows.sum(1) / max(rows.shape[1], 1), rows.dtype)
    return np.asarray(row_sums(rows) / rows.dtype.type(rows.shape[1]))


def _row_log_sums_exp(rows: AnyArray) -> AnyArray:
    highest = _row_maxima(rows)
    shift = np.where(np.isfinite(highest), highest, 0).astype(rows.dtype)
    return np.asarray(np.log(row_sums(np.exp(rows - shift[:, None]))) + shift)


def _exact(function: Callable[[AnyArray], AnyArray]) -> Callable[[AnyArray], AnyArray]:
    """Compute a function of rows of integers in float64."""

    def of_rows(rows: AnyArray) -> AnyArray:
        if rows.dtype.kind in "iu":
            return function(rows.astype(np.float64)).astype(rows.dtype)
        return function(rows)

    return of_rows


GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}  # over the axes after the channels
# The function of the elements, the core's reduction of its results, and the function of the reduced number.
STEPS: dict[str, tuple[str, str, str]] = {
    "ReduceSum": ("", "sum", ""),
    "ReduceL1": ("Abs", "sum", ""),
    "ReduceSumSquare": ("Mul", "sum", ""),
    "ReduceL2": ("Mul", "sum", "Sqrt"),
    "ReduceLogSum": ("", "sum", "Log"),
    "ReduceMean": ("", "sum", ""),
    "ReduceMax": ("", "maximum", ""),
    "ReduceMin": ("Neg", "maximum", "Neg"),
}
# The functions of `STEPS` in NumPy, and those that are unary in the core.
MEANINGS: dict[str, Any] = {"Abs": np.abs, "Log": np.log, "Mul": np.square, "Sqrt": np.sqrt, "": np.asarray}
UNARY = {"Abs": "absolute", "Log": "log", "Neg": "negative", "Sqrt": "sqrt"}


def _row_function(of_elements: str, of_sum: str) -> Callable[[AnyArray], AnyArray]:
    """Return a function of rows (N, F) that sums over F."""

    def of_rows(rows: AnyArray) -> AnyArray:
        return np.asarray(MEANINGS[of_sum](row_sums(MEANINGS[of_elements](rows))))

    return _exact(of_rows) if of_sum else of_rows


ROWS: dict[str, Callable[[AnyArray], AnyArray]] = {
    **{name: _row_function(before, after) for name, (before, step, after) in STEPS.items() if step == "sum"},
    "ReduceMax": _row_maxima,
    "ReduceMean": _row_means,
    "ReduceMin": _row_minima,
    "ReduceLogSumExp": _exact(_row_log_sums_exp),
    "ReduceProd": _row_products,
}


def reduced_axes(axes: Any, rank: int, noop_with_empty_axes: int = 0) -> list[int]:
    """Return the axes of a reduction, all of them if there are none and that is not a no-op."""
    if axes is None or not len(axes):
        return [] if noop_with_empty_axes else list(range(rank))
    if any(not -rank <= axis < rank for axis in axes):
        raise ShapeError(f"the axes {list(axes)} do not exist in an array with {rank} axes")
    return sorted({int(axis) % rank for axis in axes})


def over_rows(function: Callable[[AnyArray], AnyArray], x: AnyArray, axes: Sequence[int]) -> AnyArray:
    """Apply a function of rows (N, F) to x over some axes, which keep the size 1."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose([*rest, *axes]).reshape(
        math.prod(x.shape[axis] for axis in rest), math.prod(x.shape[axis] for axis in axes)
    )
    return function(rows).reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])


def _signature(
    x: Known, axes: Known | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Signature:
    reduced = reduced_axes(axes, len(x.shape), noop_with_empty_axes)
    sizes = ((1 if axis in reduced else size) for axis, size in enumerate(x.shape))
    shape = tuple(size for axis, size in enumerate(sizes) if keepdims or axis not in reduced)
    return Signature(shape, x.dtype)


def _register(name: str) -> None:
    @operation(name, signature=_signature, shape_inputs=(1,), widens=True)
    def reduce(
        x: AnyArray, axes: AnyArray | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> AnyArray:
        reduced = reduced_axes(axes, x.ndim, noop_with_empty_axes)
        y = over_rows(ROWS[name], x, reduced)  # without axes, each element is a row of its own
        return y if keepdims else y.squeeze(tuple(reduced))


for _name in ROWS:
    _register(_name)


def _global_signature(x: Known, **attributes: Any) -> Signature:
    if len(x.shape) < 3:
        raise ShapeError(f"x has shape {x.shape}; expected (N, C, ...)")
    return Signature((*x.shape[:2], *[1] * (len(x.shape) - 2)), x.dtype)


def _register_global(name: str, reduction: str) -> None:
    @operation(name, signature=_global_signature, widens=True)
    def reduce(x: AnyArray) -> AnyArray:
        return over_rows(ROWS[reduction], x, range(2, x.ndim))


for _name, _reduction in GLOBAL.items():
    _register_global(_name, _reduction)


@operation("GlobalLpPool", signature=_global_signature, widens=True)
def global_lp_pool(x: AnyArray, *, p: int = 2) -> AnyArray:
    """The p-norm of each channel of x (N, C, ...)."""
    if p < 1:
        raise ArgumentError(f"p={p}; expected a positive integer")
    return over_rows(lambda rows: root(row_sums(powers(rows, p)), p), x, range(2, x.ndim))


def powers(x: AnyArray, p: int) -> AnyArray:
    """|x|^p."""
    if p == 2:
        return np.square(x)
    return np.asarray(np.abs(x) if p == 1 else np.abs(x) ** x.dtype.type(p))


def root(x: AnyArray, p: int) -> AnyArray:
    """x^(1/p) for x >= 0."""
    if p == 2:
        return np.sqrt(x)
    return np.asarray(x if p == 1 else x ** x.dtype.type(1 / p))


def _axes(node: Node, x: Any, axes: Any) -> Sequence[int]:
    """Return the axes that a node reduces."""
    if node.operation.startswith("Global"):
        return range(2, len(x.shape))
    return reduced_axes(axes, len(x.shape), node.attributes.get("noop_with_empty_axes", 0))


def lower_reduction(b: Builder, function: str, x: View, axes: Sequence[int]) -> View:
    """Reduce some axes to size 1 with "sum" or "maximum"."""
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    ordered = x.permuted(*rest, *axes)
    kept = tuple(x.shape[axis] for axis in rest)
    rows, y = b.reshaped(ordered, *kept, math.prod(x.shape[axis] for axis in axes)), b.new(*kept, 1)
    b.add("reduce", function, rows, y)
    return y.reshaped(*(1 if axis in axes else size for axis, size in enumerate(x.shape)))  # type: ignore[return-value]  # y is contiguous


def lower_mean(b: Builder, x: View, axes: Sequence[int]) -> View:
    """Average over some axes, which keep the size 1."""
    count = math.prod(x.shape[axis] for axis in axes)
    return b.binary("divide", lower_reduction(b, "sum", x, axes), b.scalar(count))


def _lower_function(b: Builder, name: str, x: View) -> View:
    if name == "Mul":
        return b.binary("multiply", x, x)
    return b.map("unary", UNARY[name], x) if name else x


@lowering(*STEPS, *GLOBAL)
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axes = view(b, inputs[0]), (*inputs, None)[1]
    if x is None or (axes is not None and not axes.known):
        return None
    reduced, name = _axes(node, x, known(axes)), GLOBAL.get(node.operation, node.operation)
    if not reduced:
        return None
    of_elements, function, of_result = STEPS[name]
    if name == "ReduceMean":
        y = lower_mean(b, x, reduced)
    else:
        y = lower_reduction(b, function, _lower_function(b, of_elements, x), reduced)
    return [_lower_function(b, of_result, y).reshaped(*shapes[0])]  # type: ignore[list-item]  # contiguous


@combining(*ROWS, *GLOBAL, "GlobalLpPool")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, axes = (*inputs, None)[:2]
    return [_axes(node, x, axes), ()]


@over_time("ReduceMax", "ReduceMin", "ReduceProd", "GlobalMaxPool")
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the extremum or product of the steps so far, an axis without elements before the first."""
    x, axes = node.inputs[0], sorted(time.combined(node)[0])
    operation = GLOBAL.get(node.operation, node.operation)
    others = [other for other in axes if other != axis]
    if operation == "ReduceProd" and any(time.shape(x)[other] > 1 for other in others):
        time.refuse(node, "its product over several axes is not in the order of the steps")
    if others:
        x = time.add(operation, x, time.constant(np.array(others)))
    sizes = list(time.shape(x))
    sizes[axis] = 0
    before = time.carry(node, np.zeros(sizes, time.dtype(x)), axis)
    after = time.add(operation, time.add("Concat", before, x, axis=axis), time.constant(np.array([axis])))
    time.keep(before, after)
    time.summarize(node, after, [] if node.attributes.get("keepdims", 1) else axes)


LANES = 16  # independent sums of the core, which the elements join in turn


def _running_signature(sums: Known, count: Known, x: Known, *, axes: Sequence[int]) -> list[Signature]:
    rest = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return [Signature(rest, x.dtype), Signature.of(sums), Signature.of(count)]


@operation("RunningSum", signature=_running_signature)
def running_sum(
    sums: AnyArray, count: AnyArray, x: AnyArray, *, axes: Sequence[int]
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Add the elements of x along some axes to a sum, with the bits of `row_sums` of all elements so far.

    `sums` (..., LANES) of float64 holds the sums of the lanes, and `count` (..., 1) the number of elements
    before; both have the other axes of x. Returns the sum, `sums` and `count`.
    """
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    shape = [x.shape[axis] for axis in rest]
    N, n = math.prod(shape), math.prod(x.shape[axis] for axis in axes)
    rows = x.transpose([*rest, *axes]).reshape(N, n)
    phases, lanes = count.reshape(N) % LANES, sums.reshape(N, 1, LANES).copy()
    for phase in np.unique(phases):  # zeros leave a sum as it is
        own = phases == phase
        filled = np.zeros((np.count_nonzero(own), -(-(phase + n) // LANES) * LANES))
        filled[:, phase : phase + n] = rows[own]
        parts = [lanes[own], filled.reshape(len(filled), -1, LANES)]
        lanes[own] = np.add.accumulate(np.concatenate(parts, 1), 1)[:, -1:]
    totals, half = lanes[:, 0].copy(), LANES // 2
    while half:
        totals[:, :half] += totals[:, half : 2 * half]
        half //= 2
    return totals[:, 0].reshape(shape).astype(x.dtype), lanes.reshape(sums.shape), count + n


@running_sum.combining
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    last = [len(inputs[0].shape) - 1]  # type: ignore[union-attr]  # no input is optional
    return [last, last, node.attributes["axes"]]


@over_time("GlobalAveragePool", *(name for name, (_, step, _) in STEPS.items() if step == "sum"))
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the sum and the number of the elements so far."""
    x, axes, name = node.inputs[0], sorted(time.combined(node)[0]), GLOBAL.get(node.operation, node.operation)
    shape, dtype = time.shape(x), time.dtype(x)
    if dtype not in (np.float32, np.float64) or any(shape[a] > 1 for a in axes if a < axis):
        time.refuse(node, f"its sum of {dtype} is not in the order of the steps")
    rest = [size for a, size in enumerate(shape) if a not in axes]
    of_elements, _, of_sum = STEPS[name]
    if of_elements:
        x = time.add(of_elements, *[x] * (2 if of_elements == "Mul" else 1))
    sums = time.carry(node, np.zeros((*rest, LANES)), None, "sums")
    count = time.carry(node, np.zeros((*rest, 1), np.int64), None, "count")
    y, sums_after, count_after = time.add_all("RunningSum", (sums, count, x), 3, axes=axes)
    time.keep(sums, sums_after)
    time.keep(count, count_after)
    if name == "ReduceMean":
        last = time.constant(np.array([-1]))
        y = time.add("Div", y, time.add("Cast", time.add("Squeeze", count_after, last), to=dtype))
    if of_sum:
        y = time.add(of_sum, y)
    if node.attributes.get("keepdims", 1):
        y = time.add("Unsqueeze", y, time.constant(np.array(axes)))
    time.summarize(node, y, [])

"""Reductions over axes; sums of floats depend neither on the batch nor on the memory order."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ... import _core
from ...errors import ShapeError
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .registry import Inputs, Known, combining, known, lowering, operation, over_time, view


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


def _row_maxima(rows: AnyArray) -> AnyArray:
    if rows.shape[1] == 0:
        return np.full(len(rows), _lowest(rows.dtype), rows.dtype)
    return _reduce_rows("maximum", rows) if rows.dtype == np.float32 else np.asarray(rows.max(1))


def _row_minima(rows: AnyArray) -> AnyArray:
    if rows.shape[1] == 0:
        return np.full(len(rows), _highest(rows.dtype), rows.dtype)
    return -_reduce_rows("maximum", -rows) if rows.dtype == np.float32 else np.asarray(rows.min(1))


def _lowest(dtype: np.dtype[Any]) -> Any:
    return False if dtype.kind == "b" else np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype[Any]) -> Any:
    return True if dtype.kind == "b" else np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


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


ROWS: dict[str, Callable[[AnyArray], AnyArray]] = {
    "ReduceL1": lambda rows: row_sums(np.abs(rows)),
    "ReduceL2": _exact(lambda rows: np.sqrt(row_sums(np.square(rows)))),
    "ReduceLogSum": _exact(lambda rows: np.log(row_sums(rows))),
    "ReduceLogSumExp": _exact(_row_log_sums_exp),
    "ReduceMax": _row_maxima,
    "ReduceMean": _row_means,
    "ReduceMin": _row_minima,
    "ReduceProd": _row_products,
    "ReduceSum": row_sums,
    "ReduceSumSquare": lambda rows: row_sums(np.square(rows)),
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


def lower_reduction(b: Builder, function: str, x: View, axes: Sequence[int]) -> View:
    """Reduce some axes to size 1 with "sum" or "maximum"."""
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    ordered = x.permuted(*rest, *axes)
    kept = tuple(x.shape[axis] for axis in rest)
    y = b.reduce(function, b.reshaped(ordered, *kept, math.prod(x.shape[axis] for axis in axes)))
    return y.reshaped(*(1 if axis in axes else size for axis, size in enumerate(x.shape)))  # type: ignore[return-value]  # y is contiguous


def lower_mean(b: Builder, x: View, axes: Sequence[int]) -> View:
    """Average over some axes, which keep the size 1."""
    count = math.prod(x.shape[axis] for axis in axes)
    return b.binary("divide", lower_reduction(b, "sum", x, axes), b.scalar(count))


@lowering(
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
)
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axes = view(b, inputs[0]), inputs[1] if len(inputs) > 1 else None
    if x is None or 0 in x.shape or (axes is not None and not axes.known):
        return None
    reduced = reduced_axes(known(axes), len(x.shape), node.attributes.get("noop_with_empty_axes", 0))
    if not reduced:
        return None
    match node.operation:
        case "ReduceMean":
            y = lower_mean(b, x, reduced)
        case "ReduceSum":
            y = lower_reduction(b, "sum", x, reduced)
        case "ReduceL1":
            y = lower_reduction(b, "sum", b.map("unary", "absolute", x), reduced)
        case "ReduceLogSum":
            y = b.map("unary", "log", lower_reduction(b, "sum", x, reduced))
        case "ReduceMax":
            y = lower_reduction(b, "maximum", x, reduced)
        case "ReduceMin":
            negative = b.map("unary", "negative", x)
            y = b.map("unary", "negative", lower_reduction(b, "maximum", negative, reduced))
        case _:
            y = lower_reduction(b, "sum", b.binary("multiply", x, x), reduced)
            if node.operation == "ReduceL2":
                y = b.map("unary", "sqrt", y)
    return [y.reshaped(*shapes[0])]  # type: ignore[list-item]  # y is contiguous


def _combined(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, axes = (*inputs, None)[:2]
    noop = node.attributes.get("noop_with_empty_axes", 0)
    return [reduced_axes(axes, len(x.shape), noop), ()]  # type: ignore[union-attr]  # x is not optional


combining(*ROWS)(_combined)


@over_time("ReduceMax", "ReduceMin")
def maximum_over_time(time: Any, node: Node) -> None:
    """Carry the extremum of the steps so far, an axis without elements before the first."""
    axis, combined = time.axis(node.inputs[0]), time.combined(node)[0]
    if axis not in combined:
        time.unchanged(node)
        return
    sizes = [1 if a in combined else size for a, size in enumerate(time.shape(node.inputs[0]))]
    sizes[axis] = 0
    before = time.carry(node, np.zeros(sizes, time.dtype(node.inputs[0])), axis)
    axes = time.constant(np.array(sorted(combined)))
    operation = "ReduceMin" if node.operation == "ReduceMin" else "ReduceMax"
    own = time.add(operation, node.inputs[0], axes, keepdims=1)
    joined = time.add("Concat", before, own, axis=axis)
    after = time.add(operation, joined, time.constant(np.array([axis])), keepdims=1)
    time.keep(before, after)
    time.summarize(node, after, [] if node.attributes.get("keepdims", 1) else sorted(combined))


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


@over_time("ReduceProd")
def _(time: Any, node: Node) -> None:
    """Carry the product of the steps so far, an axis without elements before the first."""
    x, axis, axes = node.inputs[0], time.axis(node.inputs[0]), time.combined(node)[0]
    if axis not in axes:
        time.unchanged(node)
        return
    sizes = list(time.shape(x))
    if any(sizes[other] > 1 for other in axes if other != axis):
        time.refuse(node, "its product over several axes is not in the order of the steps")
    sizes[axis] = 0
    before = time.carry(node, np.zeros(sizes, time.dtype(x)), axis)
    joined = time.add("Concat", before, x, axis=axis)
    after = time.add("ReduceProd", joined, time.constant(np.array([axis])), keepdims=1)
    time.keep(before, after)
    time.summarize(node, after, [] if node.attributes.get("keepdims", 1) else sorted(axes))


# What reductions compute of each element before the sum, and of the sum.
SUMS: dict[str, tuple[str, str]] = {
    "ReduceSum": ("", ""), "ReduceMean": ("", ""), "GlobalAveragePool": ("", ""), "ReduceL1": ("Abs", ""),
    "ReduceSumSquare": ("Mul", ""), "ReduceL2": ("Mul", "Sqrt"), "ReduceLogSum": ("", "Log"),
}  # fmt: skip


@over_time(*(name for name in SUMS if name != "GlobalAveragePool"))
def sum_over_time(time: Any, node: Node) -> None:
    """Carry the sum and the number of the elements so far."""
    x, axis, axes = node.inputs[0], time.axis(node.inputs[0]), sorted(time.combined(node)[0])
    if axis not in axes:
        time.unchanged(node)
        return
    shape, dtype = time.shape(x), time.dtype(x)
    if dtype not in (np.float32, np.float64) or any(shape[a] > 1 for a in axes if a < axis):
        time.refuse(node, f"its sum of {dtype} is not in the order of the steps")
    rest = [size for a, size in enumerate(shape) if a not in axes]
    of_elements, of_sum = SUMS[node.operation]
    if of_elements:
        x = time.add(of_elements, *[x] * (2 if of_elements == "Mul" else 1))
    sums = time.carry(node, np.zeros((*rest, LANES)), None, "sums")
    count = time.carry(node, np.zeros((*rest, 1), np.int64), None, "count")
    y, sums_after, count_after = time.add_all("RunningSum", (sums, count, x), 3, axes=axes)
    time.keep(sums, sums_after)
    time.keep(count, count_after)
    if "Mean" in node.operation or "Average" in node.operation:
        last = time.constant(np.array([-1]))
        y = time.add("Div", y, time.add("Cast", time.add("Squeeze", count_after, last), to=dtype))
    if of_sum:
        y = time.add(of_sum, y)
    if node.attributes.get("keepdims", 1):
        y = time.add("Unsqueeze", y, time.constant(np.array(axes)))
    time.summarize(node, y, [])

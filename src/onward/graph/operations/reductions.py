"""Reductions, cumulative sums and products, and global pooling.

Sums of floats depend neither on the batch nor on the memory order.
"""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

import onward._core as _core

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder, Weights
from ..plan.view import DTYPES, View
from ..size import Axes
from .arguments import as_axis
from .compositions import composed
from .elementwise import inverted
from .expressions import exp, log, sqrt, square, where
from .registry import along_time, operation, over_time
from .signatures import like_first


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
    y = np.zeros(len(rows), np.float32)
    if rows.size:
        empty = np.zeros(0, np.uint8)
        _reduction(function, _core.isa()).bind(rows.shape).run([empty, empty, rows, y], 0, 1)
    return y


@functools.cache
def _reduction(function: str, isa: str) -> Any:
    """Return the program that reduces rows of any number and length with an instruction set."""
    b, axes = Builder(Weights(frozenset())), Axes()
    N, F = axes.add("N", 2), axes.add("F", 2)
    b.add("reduce", function, b.new_argument(N, F), b.new_argument(N, 1))
    return b.build(axes, [], [])[0]


def bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest number of a dtype."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return (False, True) if dtype.kind == "b" else (-np.inf, np.inf)


def _row_maxima(rows: AnyArray) -> AnyArray:
    if rows.dtype == np.float32 and rows.shape[1]:
        return _reduce_rows("maximum", rows)
    if rows.dtype.hasobject:  # the core has no order of sizes
        return np.asarray(rows.max(1))
    return np.asarray(rows.max(1, initial=bounds(rows.dtype)[0]))


def _row_minima(rows: AnyArray) -> AnyArray:
    if rows.dtype == np.float32 and rows.shape[1]:
        return -_reduce_rows("maximum", -rows)
    if rows.dtype.hasobject:
        return np.asarray(rows.min(1))
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


ROWS: dict[str, Callable[[AnyArray], AnyArray]] = {
    "ReduceSum": row_sums,
    "ReduceMax": _row_maxima,
    "ReduceMean": _row_means,
    "ReduceMin": _row_minima,
    "ReduceProd": _row_products,
}


def reduced_axes(axes: Any, rank: int, noop_with_empty_axes: int = 0) -> list[int]:
    """Return the axes of a reduction, all of them if there are none and that is not a no-op."""
    if axes is None or not len(axes):
        return [] if noop_with_empty_axes else list(range(rank))
    if any(not -rank <= axis < rank for axis in axes):
        raise ShapeError(f"the axes {list(axes)} do not exist in an array with {rank} axes")
    return sorted({int(axis) % rank for axis in axes})


def _signature(
    x: Operand, axes: Operand | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Signature:
    reduced = reduced_axes(axes, len(x.shape), noop_with_empty_axes)
    sizes = ((1 if axis in reduced else size) for axis, size in enumerate(x.shape))
    shape = tuple(size for axis, size in enumerate(sizes) if keepdims or axis not in reduced)
    return Signature(shape, x.dtype)


def _combines(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, axes = (*inputs, None)[:2]
    return [reduced_axes(axes, len(x.shape), node.attributes.get("noop_with_empty_axes", 0)), ()]


def _register(name: str) -> None:
    is_exact = name != "ReduceMean"  # and takes symbolic sizes

    @operation(
        name, signature=_signature, shape_inputs=(1,), widens=True, combines=_combines, takes_sizes=is_exact
    )
    def reduce(
        x: AnyArray, axes: AnyArray | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> AnyArray:
        reduced = reduced_axes(axes, x.ndim, noop_with_empty_axes)
        rest = [axis for axis in range(x.ndim) if axis not in reduced]
        N, F = (math.prod(x.shape[axis] for axis in part) for part in (rest, reduced))
        rows = x.transpose([*rest, *reduced]).reshape(N, F)  # without axes, each element is a row of its own
        y = ROWS[name](rows).reshape([x.shape[axis] for axis in rest])
        return np.expand_dims(y, tuple(reduced)) if keepdims else y

    @reduce.steps(DTYPES, views=(0,))
    def _(b: Builder, x: Any, axes: Any = None, **options: int) -> View | None:
        shape = _signature(x, axes, **options).shape
        is_exact = x.dtype not in ("float32", "float64") and name != "ReduceMean"
        is_exact &= x.dtype != "bool" or name != "ReduceSum"
        reduced = reduced_axes(axes, len(x.shape), options.get("noop_with_empty_axes", 0))
        rest = [axis for axis in range(len(x.shape)) if axis not in reduced]
        count = math.prod(x.shape[axis] for axis in reduced)
        if name == "ReduceProd" and x.dtype != "bool":  # in the order of the elements
            rows = b.reshaped(x.permuted(*reduced, *rest), count, *(x.shape[axis] for axis in rest))
            y = b.like(rows)
            b.add("accumulate", "multiply", rows, y)
            return b.reshaped(y.sliced(0, count - 1, count), *shape)
        if name == "ReduceProd" or not reduced or not (is_exact or x.dtype == "float32"):
            return None
        # the minimum is the maximum in the opposite order
        numbers = _reversed(b, x) if name == "ReduceMin" else x
        kept = [x.shape[axis] for axis in rest]
        rows = b.reshaped(numbers.permuted(*rest, *reduced), *kept, count)
        y = b.new(*kept, 1, dtype=x.dtype)
        function = "sum" if name in ("ReduceSum", "ReduceMean") else "maximum"
        b.add("reduce_integers" if is_exact else "reduce", function, rows, y)
        if name == "ReduceMean":
            y = b.binary("divide", y, b.scalar(count))
        elif name == "ReduceMin":
            y = _reversed(b, y)
        return y.reshaped(*shape)  # contiguous


for _name in ROWS:
    _register(_name)


def _reversed(b: Builder, x: View) -> View:
    """Return numbers in the opposite order: -x, or for integers the number with the opposite bits."""
    return b.map("unary", "negative", x) if x.dtype == "float32" else inverted(b, x)


@over_time("ReduceMax", "ReduceMin", "ReduceProd")
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the extremum or product of the steps so far, an axis without elements before the first."""
    x, axes = node.inputs[0], sorted(time.combined(node)[0])
    operation, others = node.operation, [other for other in axes if other != axis]
    if operation == "ReduceProd" and any(time.shape(x)[other] > 1 for other in others):
        time.refuse(node, "its product over several axes is not in the order of the steps")
    if others:
        x = time.add(operation, x, time.constant(np.array(others)))
    sizes = list(time.shape(x))
    sizes[axis] = 0
    before = time.carry(node, time.filled(sizes, time.dtype(x)), axis)
    after = time.add(operation, time.add("Concat", before, x, axis=axis), time.constant(np.array([axis])))
    time.keep(before, after)
    time.summarize(node, after, [] if node.attributes.get("keepdims", 1) else axes)


NUMBERS = DTYPES.keys() - {"bool"}
LANES = 16  # independent sums of the core, which the elements join in turn


def _running_signature(sums: Operand, count: Operand, x: Operand, *, axes: Sequence[int]) -> list[Signature]:
    rest = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return [Signature(rest, x.dtype), Signature.of(sums), Signature.of(count)]


@operation(
    "RunningSum",
    signature=_running_signature,
    combines=lambda node, inputs: [*[[len(inputs[0].shape) - 1]] * 2, node.attributes["axes"]],
)
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
        at_phase = phases == phase
        filled = np.zeros((np.count_nonzero(at_phase), -(-(phase + n) // LANES) * LANES))
        filled[:, phase : phase + n] = rows[at_phase]
        parts = [lanes[at_phase], filled.reshape(len(filled), -1, LANES)]
        lanes[at_phase] = np.add.accumulate(np.concatenate(parts, 1), 1)[:, -1:]
    totals, half = lanes[:, 0].copy(), LANES // 2
    while half:
        totals[:, :half] += totals[:, half : 2 * half]
        half //= 2
    return totals[:, 0].reshape(shape).astype(x.dtype), lanes.reshape(sums.shape), count + n


@over_time("ReduceSum", "ReduceMean")
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the sum and the number of the elements so far."""
    x, axes = node.inputs[0], sorted(time.combined(node)[0])
    shape, dtype = time.shape(x), time.dtype(x)
    if dtype not in (np.float32, np.float64) or any(shape[a] > 1 for a in axes if a < axis):
        time.refuse(node, f"its sum of {dtype} is not in the order of the steps")
    rest = [size for a, size in enumerate(shape) if a not in axes]
    sums = time.carry(node, time.filled((*rest, LANES), np.float64), None, "sums")
    count = time.carry(node, time.filled((*rest, 1), np.int64), None, "count")
    y, sums_after, count_after = time.add_all("RunningSum", (sums, count, x), 3, axes=axes)
    time.keep(sums, sums_after)
    time.keep(count, count_after)
    if node.operation == "ReduceMean":
        last = time.constant(np.array([-1]))
        y = time.add("Div", y, time.add("Cast", time.add("Squeeze", count_after, last), to=dtype))
    if node.attributes.get("keepdims", 1):
        y = time.add("Unsqueeze", y, time.constant(np.array(axes)))
    time.summarize(node, y, [])


def _combines_axis(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, axis = inputs
    return [[as_axis(int(axis.item()), len(x.shape))], ()]


def _define_cumulative(name: str, function: Callable[..., Any], core: str, first: int) -> None:
    """Define the sums or products up to each element; `core` combines elements, and `first` is its unit."""

    @operation(name, signature=like_first, widens=True, combines=_combines_axis)
    def compute(x: AnyArray, axis: AnyArray, *, exclusive: int = 0, reverse: int = 0) -> Any:
        """Each element covers itself and those before it, or those after it if `reverse`; itself is left out
        if `exclusive`."""
        place = as_axis(int(axis.item()), x.ndim)
        x = np.flip(x, place) if reverse else x
        y = function(x, place, dtype=x.dtype)
        if exclusive:
            shifted = np.full_like(y, first)
            later, earlier = ((slice(None),) * place + (part,) for part in (slice(1, None), slice(-1)))
            shifted[later] = y[earlier]
            y = shifted
        return np.flip(y, place) if reverse else y

    @compute.steps(NUMBERS, views=(0,))
    def _(b: Builder, x: View, axis: AnyArray, *, exclusive: int = 0, reverse: int = 0) -> View:
        place, y = as_axis(int(axis.item()), len(x.shape)), b.new(*x.shape, dtype=x.dtype)
        rest = [other for other in range(len(x.shape)) if other != place]
        source, target = (each.permuted(place, *rest) for each in (x, y))
        if reverse:
            source, target = source.reversed(0), target.reversed(0)
        if exclusive:
            b.add("copy", b.scalar(first, target.dtype), target.sliced(0, 0, 1))
            n = x.shape[place]
            source, target = source.sliced(0, 0, n - 1), target.sliced(0, 1, n)
        if source.shape[0]:
            b.add("accumulate", core, source, target)
        return y


_define_cumulative("CumSum", np.cumsum, "add", 0)
_define_cumulative("CumProd", np.cumprod, "multiply", 1)


@over_time("CumSum", "CumProd")
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the last element, an axis without elements before the first."""
    if node.attributes.get("reverse") or node.attributes.get("exclusive"):
        time.refuse(node, "its sum starts at the last step, or leaves out the present one")
    sizes = list(time.shape(node.inputs[0]))
    sizes[axis] = 0
    before = time.carry(node, time.filled(sizes, time.dtype(node.inputs[0])), axis)
    joined = time.add("Concat", before, node.inputs[0], axis=axis)
    sums = time.add(node.operation, joined, node.inputs[1])
    time.keep(before, time.slice(sums, axis, -1))
    y, _ = time.add_all("Skip", (before, sums), 2, axis=axis)
    time.define(node.outputs[0], y, time.timing(node.inputs[0]))


# Compositions.


def _define_sum(name: str, of_elements: Any, of_sum: Any) -> None:
    """Define a function of a sum of functions of elements; functions of sums of integers are in float64."""

    @composed(name, widens=True, shape_inputs=(1,))
    def reduce(x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        wide = x.cast(np.float64) if of_sum is not _same and x.dtype.kind in "iu" else x
        options = {"keepdims": keepdims, "noop_with_empty_axes": noop_with_empty_axes}
        return of_sum(of_elements(wide).apply("ReduceSum", axes, **options)).cast(x.dtype)


def _same(x: Any) -> Any:
    return x


_define_sum("ReduceL1", abs, _same)
_define_sum("ReduceSumSquare", square, _same)
_define_sum("ReduceL2", square, sqrt)
_define_sum("ReduceLogSum", _same, log)


@composed("ReduceLogSumExp", widens=True, shape_inputs=(1,))
def log_sum_exp(x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    """log(sum(exp(x))), without overflow."""
    wide = x.cast(np.float64) if x.dtype.kind in "iu" else x
    options = {"noop_with_empty_axes": noop_with_empty_axes}
    highest = wide.apply("ReduceMax", axes, keepdims=1, **options)
    shift = where(abs(highest) < np.inf, highest, 0)
    y = log(exp(wide - shift).apply("ReduceSum", axes, keepdims=1, **options)) + shift
    return (y if keepdims else y.apply("ReduceMax", axes, keepdims=0, **options)).cast(x.dtype)


def _axes_after_channels(x: Any) -> range:
    if x.rank < 3:
        raise ShapeError(f"x has shape {x.shape}; expected (N, C, ...)")
    return range(2, x.rank)


composed("GlobalAveragePool", widens=True)(lambda x: x.reduce("ReduceMean", _axes_after_channels(x), True))
composed("GlobalMaxPool", widens=True)(lambda x: x.reduce("ReduceMax", _axes_after_channels(x), True))


@composed("GlobalLpPool", widens=True)
def global_lp_pool(x: Any, *, p: int = 2) -> Any:
    """The p-norm of each channel of x (N, C, ...)."""
    if p < 1:
        raise ArgumentError(f"p={p}; expected a positive integer")
    return root(powers(x, p).reduce("ReduceSum", _axes_after_channels(x), True), p)


def powers(x: Any, p: int) -> Any:
    """|x|^p."""
    return square(x) if p == 2 else abs(x) if p == 1 else abs(x) ** p


def root(x: Any, p: int) -> Any:
    """x^(1/p) for x >= 0."""
    return sqrt(x) if p == 2 else x if p == 1 else x ** (1 / p)

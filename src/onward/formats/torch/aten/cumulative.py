"""ATen's cumulative maxima, minima and sums of exponentials, which are scans over an axis."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.graph import Graph
from .registry import INT64, Tensor, Translator, aten


def _slices(x: Tensor, axis: int) -> tuple[int | str, ...]:
    """Return the axes of a slice of a tensor."""
    return tuple("" if size is None else size for place, size in enumerate(x.shape) if place != axis)


def _start(t: Translator, x: Tensor, axis: int, value: float) -> str:
    """Return a slice of one number."""
    sizes = [t.size(x, place) for place in range(x.rank) if place != axis]
    return t.add("Expand", t.cast(value, x.dtype), t.vector(sizes))


def _scan(t: Translator, x: Tensor, axis: int, starts: list[str], body: Graph) -> tuple[str, ...]:
    """Add a scan over an axis of x; the outputs are the states, then the values at each step."""
    count = len(body.outputs) - len(starts)
    return t.add_all(
        "Scan",
        (*starts, x),
        len(body.outputs),
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis] * count,
    )


def _define_extremum(name: str, operation: str, start: float) -> None:
    @aten(name)
    def extremum(t: Translator, self: Tensor, dim: int) -> tuple[str, str]:
        """The extremum of the elements so far, and the index of its last occurrence."""
        if not self.rank:
            return t.add("Identity", self), t.constant(0)
        axis, sizes = self.axis(dim), _slices(self, self.axis(dim))
        if self.dtype.kind != "f":
            raise ArgumentError(f"{name} of {self.dtype} is not supported")
        body = Graph()
        best = body.add_input("best", self.dtype, sizes)
        place = body.add_input("place", INT64, sizes)
        step = body.add_input("step", INT64, ())
        x = body.add_input("x", self.dtype, sizes)
        replaces = body.add(operation, x, best)
        replaces = body.add("Or", replaces, body.add("IsNaN", x))
        best = body.add("Where", replaces, x, best)
        place = body.add("Where", replaces, step, place)
        following = body.add("Add", step, body.add_constant(np.array(1)))
        body.outputs = (best, place, following, body.add("Identity", best), body.add("Identity", place))
        first = _start(t, self, axis, start)
        zeros = t.add("Expand", t.constant(0), t.add("Shape", first))
        values, places = _scan(t, self, axis, [first, zeros, t.constant(0)], body)[3:]
        return values, places


_define_extremum("cummax", "GreaterOrEqual", -math.inf)
_define_extremum("cummin", "LessOrEqual", math.inf)


@aten("logcumsumexp")
def logcumsumexp(t: Translator, self: Tensor, dim: int) -> Any:
    """log(exp(x_0) + .. + exp(x_t)), each step from the one before."""
    if not self.rank:
        return t.add("Identity", self)
    axis, sizes = self.axis(dim), _slices(self, self.axis(dim))
    body = Graph()
    before = body.add_input("before", self.dtype, sizes)
    x = body.add_input("x", self.dtype, sizes)
    larger, smaller = body.add("Max", before, x), body.add("Min", before, x)
    one = body.add_constant(np.array(1, self.dtype))
    difference = body.add("Exp", body.add("Sub", smaller, larger))
    total = body.add("Add", larger, body.add("Log", body.add("Add", one, difference)))
    total = body.add("Where", body.add("IsInf", larger), larger, total)  # infinities have no difference
    body.outputs = (total, body.add("Identity", total))
    return _scan(t, self, axis, [_start(t, self, axis, -math.inf)], body)[1]

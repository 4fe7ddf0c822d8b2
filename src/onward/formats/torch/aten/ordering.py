"""ATen's operators that order, count and search elements."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .creation import filled
from .linear_algebra import through_numpy
from .promotion import promoted
from .registry import BOOL, INT64, Operand, Symbol, Tensor, Translator, aten
from .shapes import WHOLE, reshaped, sliced


@aten("topk")
def topk(
    t: Translator, self: Tensor, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    inputs = (self, t.vector([k]))
    return t.add_all("TopK", inputs, 2, axis=self.axis(dim), largest=int(largest), sorted=1)


@aten("sort", "sort.stable")
def sort(
    t: Translator, self: Tensor, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    if not self.rank:
        return t.add("Identity", self), t.constant(0)
    return topk(t, self, t.size(self, dim), dim, largest=descending)


@aten("argsort", "argsort.stable")
def argsort(
    t: Translator, self: Tensor, stable: bool = False, dim: int = -1, descending: bool = False
) -> str:
    return str(sort(t, self, stable, dim, descending)[1])


@aten("msort")
def msort(t: Translator, self: Tensor) -> str:
    return str(sort(t, self, None, 0)[0])


def _at(t: Translator, x: Tensor, place: Any, dim: int, keepdim: bool) -> tuple[str, ...]:
    """The elements at places, which keep the axis, of the sorted axis, and their indices."""
    axis = x.axis(dim)
    found = [t.add("GatherElements", y, place, axis=axis) for y in sort(t, x, None, dim)]
    return tuple(y if keepdim else t.add("Squeeze", y, t.constant([axis])) for y in found)


@aten("kthvalue")
def kthvalue(t: Translator, self: Tensor, k: Any, dim: int = -1, keepdim: bool = False) -> Any:
    if not self.rank:
        return t.add("Identity", self), t.constant(0)
    axis = self.axis(dim)
    start = t.vector([k])
    place = t.add("Sub", start, t.constant([1]))
    found = [t.add("Gather", y, place, axis=axis) for y in topk(t, self, k, dim, largest=False)]
    return tuple(y if keepdim else t.add("Squeeze", y, t.constant([axis])) for y in found)


@aten("median.dim", "nanmedian.dim")
def median_dim(t: Translator, self: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The lower middle one of the sorted elements; NaN is the largest of them, or ignored."""
    if not self.rank:
        return t.add("Identity", self), t.constant(0)
    axis = t.constant([self.axis(dim)])
    one, two = t.constant(1), t.constant(2)
    last = t.add("Sub", t.cast(t.size(self, dim), INT64), one)
    if self.dtype.kind != "f":
        return kthvalue(t, self, Symbol(t.add("Add", t.add("Div", last, two), one)), dim, keepdim)
    missing = t.add("Cast", t.add("IsNaN", self), to=INT64)
    if "nanmedian" in t.node.target:
        count = t.add("Sub", last, t.add("ReduceSum", missing, axis, keepdims=1))
        place = t.add("Max", t.add("Div", count, two), t.constant(0))
    else:
        found = t.add("Cast", t.add("ReduceMax", missing, axis, keepdims=1), to=BOOL)
        place = t.add("Where", found, last, t.add("Div", last, two))
    return _at(t, self, place, dim, keepdim)


def _flat(t: Translator, x: Tensor) -> Tensor:
    size = None if None in x.shape else math.prod(n or 0 for n in x.shape)
    return Tensor(t.add("Reshape", x, t.constant([-1])), x.dtype, (size,))


@aten("median", "nanmedian")
def median(t: Translator, self: Tensor) -> str:
    return str(median_dim(t, _flat(t, self), 0)[0])


@aten("mode")
def mode(t: Translator, self: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    if not self.rank:
        return t.add("Identity", self), t.constant(0)
    found = through_numpy(t, "mode", self, count=2, axis=self.axis(dim))
    return tuple(t.add("Unsqueeze", y, t.constant([self.axis(dim)])) for y in found) if keepdim else found


@aten("quantile", "quantile.scalar", "nanquantile", "nanquantile.scalar")
def quantile(
    t: Translator, self: Tensor, q: Operand, dim: int | None = None, keepdim: bool = False,
    interpolation: str = "linear",
) -> str:  # fmt: skip
    x = _flat(t, self) if dim is None else self
    axis = x.axis(0 if dim is None else dim)
    options: dict[str, Any] = {
        "axis": axis,
        "method": interpolation,
        "ignores_nan": "nanquantile" in t.node.target,
    }
    y = str(through_numpy(t, "quantile", x, t.cast(q, self.dtype), **options))
    if not keepdim:
        return y
    front = q.rank if isinstance(q, Tensor) else 0  # the axis of q precedes the others
    kept = range(self.rank) if dim is None else [axis]
    return t.add("Unsqueeze", y, t.constant([front + place for place in kept]))


# Sets.


def _unique(t: Translator, x: Tensor, axis: int | None) -> tuple[str, str, str]:
    """The sorted distinct elements or slices, the index of each element among them, and their counts."""
    options = {} if axis is None else {"axis": axis}
    values, _, inverse, counts = t.add_all("Unique", (x,), 4, **options)
    return values, reshaped(t, inverse, t.sizes(x)) if axis is None else inverse, counts


@aten("_unique2", "_unique", "unique_dim")
def unique(
    t: Translator,
    self: Tensor,
    dim: int | None = None,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    found = _unique(t, self, None if dim is None else self.axis(dim))
    return found[:2] if "._unique.default" in t.node.target else found


@aten("unique_consecutive")
def unique_consecutive(
    t: Translator, self: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: Any = None
) -> Any:
    """The element of each run, the run of each element, and the lengths of the runs."""
    if dim is not None and self.rank > 1:
        raise ArgumentError("unique_consecutive along an axis of several is not supported")
    x = _flat(t, self)
    changes = t.add("Not", t.add("Equal", sliced(t, x, 0, 1, WHOLE), sliced(t, x, 0, 0, -1)))
    first = t.add("Expand", t.constant(True), t.add("Min", t.add("Shape", x), t.constant([1])))
    starts = t.add("Concat", first, changes, axis=0)
    runs = t.add("CumSum", t.add("Cast", starts, to=INT64), t.constant(0))
    places = t.add("Reshape", t.add("NonZero", starts), t.constant([-1]))
    ends = t.add("Concat", sliced(t, places, 0, 1, WHOLE), t.add("Shape", x), axis=0)
    inverse = reshaped(t, t.add("Sub", runs, t.constant(1)), t.sizes(self))
    return t.add("Compress", x, starts, axis=0), inverse, t.add("Sub", ends, places)


@aten("isin.Tensor_Tensor", "isin.Tensor_Scalar")
def isin(
    t: Translator,
    elements: Tensor,
    test_elements: Any = None,
    assume_unique: bool = False,
    invert: bool = False,
    test_element: Any = None,
) -> str:
    wanted = test_element if test_elements is None else test_elements
    tests = t.add("Reshape", t.cast(wanted, elements.dtype), t.constant([-1]))
    found = t.add("Equal", t.add("Unsqueeze", elements, t.constant([-1])), tests)
    counts = t.add("ReduceMax", t.add("Cast", found, to=INT64), t.constant([elements.rank]), keepdims=0)
    inside = t.add("Cast", counts, to=BOOL)
    return t.add("Not", inside) if invert else inside


# Counts and places among limits.


@aten("bucketize.Tensor", "bucketize.Scalar", "searchsorted.Tensor", "searchsorted.Scalar")
def bucketize(
    t: Translator,
    self: Operand,
    boundaries: Tensor | None = None,
    sorted_sequence: Tensor | None = None,
    out_int32: bool = False,
    right: bool = False,
    **options: Any,
) -> str:
    """The number of boundaries below each element, or not above it if `right`."""
    limits = boundaries if boundaries is not None else sorted_sequence
    side, sorter = options.get("side"), options.get("sorter")
    if limits is None or sorter is not None:
        raise ArgumentError("a sorter for the boundaries is not supported")
    if limits.rank > 1 and not (isinstance(self, Tensor) and self.rank == limits.rank):
        raise ArgumentError("a number among boundaries with several axes is not supported")
    dtype = promoted(self, limits)
    last = t.constant([-1])
    x = t.add("Unsqueeze", t.cast(self, dtype), last)
    edges = t.cast(limits, dtype)
    edges = t.add("Unsqueeze", edges, t.constant([-2])) if limits.rank > 1 else edges
    below = t.add("GreaterOrEqual" if right or side == "right" else "Greater", x, edges)
    counted = t.add("Cast", below, to=np.dtype(np.int32 if out_int32 else np.int64))
    return t.add("ReduceSum", counted, last, keepdims=0)


@aten("histc")
def histc(t: Translator, self: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> str:
    return str(through_numpy(t, "histogram", self, bins=bins, low=float(min), high=float(max)))


@aten("bincount")
def bincount(t: Translator, self: Tensor, weights: Tensor | None = None, minlength: int = 0) -> str:
    largest = t.add("ReduceMax", self, t.constant([0]), keepdims=0)
    count = t.add(
        "Max", t.add("Add", t.cast(Symbol(largest, self.dtype), INT64), t.constant(1)), t.constant(minlength)
    )
    dtype = INT64 if weights is None else np.dtype(np.float64 if weights.dtype.kind != "f" else weights.dtype)
    zeros = filled(t, [Symbol(count)], 0, dtype)
    added = t.add("Expand", t.cast(1, INT64), t.shape(self)) if weights is None else t.cast(weights, dtype)
    return t.add("ScatterElements", zeros, t.cast(self, INT64), added, axis=0, reduction="add")

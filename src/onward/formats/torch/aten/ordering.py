"""ATen's operators that order, count and search elements."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .creation import filled
from .expressions import promoted
from .linear_algebra import through_numpy
from .reductions import require_elements
from .registry import BOOL, INT64, Operand, Symbol, Tensor, aten, define
from .shapes import WHOLE, lifts_scalars, reshaped, sliced
from .translator import Translator


@aten("topk")
@lifts_scalars
def topk(
    t: Translator, self: Tensor, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    return t.add_all("TopK", (self, [k]), 2, axis=self.axis(dim), largest=int(largest), sorted=1)


@aten("sort sort.stable")
@lifts_scalars
def sort(
    t: Translator, self: Tensor, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    return topk(t, self, t.size(self, dim), dim, largest=descending)


@aten("argsort argsort.stable")
@lifts_scalars
def argsort(
    t: Translator, self: Tensor, stable: bool = False, dim: int = -1, descending: bool = False
) -> str:
    return str(sort(t, self, stable, dim, descending)[1])


def _without_axis(t: Translator, outputs: Sequence[str], axis: int, keepdim: bool) -> tuple[str, ...]:
    return tuple(y if keepdim else t.add("Squeeze", y, [axis]) for y in outputs)


@aten("kthvalue")
@lifts_scalars
def kthvalue(t: Translator, self: Tensor, k: Any, dim: int = -1, keepdim: bool = False) -> Any:
    axis, place = self.axis(dim), t.add("Sub", [k], [1])
    found = [t.add("Gather", y, place, axis=axis) for y in topk(t, self, k, dim, largest=False)]
    return _without_axis(t, found, axis, keepdim)


@lifts_scalars
def median_dim(
    t: Translator, self: Tensor, dim: int = -1, keepdim: bool = False, *, ignores_nan: bool
) -> Any:
    """The lower middle one of the sorted elements; NaN is the largest of them, or ignored."""
    require_elements(t, self, dim)
    axis = self.axis(dim)
    last = t.add("Sub", t.cast(t.size(self, dim), INT64), 1)
    if self.dtype.kind != "f":
        return kthvalue(t, self, Symbol(t.add("Add", t.add("Div", last, 2), 1)), dim, keepdim)
    missing = t.add("Cast", t.add("IsNaN", self), to=INT64)
    if ignores_nan:
        count = t.add("Sub", last, t.add("ReduceSum", missing, [axis], keepdims=1))
        place = t.add("Max", t.add("Div", count, 2), 0)
    else:
        found = t.add("Cast", t.add("ReduceMax", missing, [axis], keepdims=1), to=BOOL)
        place = t.add("Where", found, last, t.add("Div", last, 2))
    ordered = [t.add("GatherElements", y, place, axis=axis) for y in sort(t, self, None, dim)]
    return _without_axis(t, ordered, axis, keepdim)


def _flat(t: Translator, x: Tensor) -> Tensor:
    size = None if None in x.shape else math.prod(n or 0 for n in x.shape)
    return Tensor(t.add("Reshape", x, [-1]), x.dtype, (size,))


def median(t: Translator, self: Tensor, *, ignores_nan: bool) -> Any:
    """The median of all elements, which is NaN if there are none."""
    x = _flat(t, self)
    if x.shape == (0,) and x.dtype.kind == "f":
        return t.cast(math.nan, x.dtype)
    return median_dim(t, x, 0, ignores_nan=ignores_nan)[0]


for _name, _ignores_nan in {"median": False, "nanmedian": True}.items():
    define({
        f"{_name}.dim": partial(median_dim, ignores_nan=_ignores_nan),
        _name: partial(median, ignores_nan=_ignores_nan),
    })  # fmt: skip
define({
    "msort": lambda t, self: sort(t, self, None, 0)[0],
    "histc": lambda t, self, bins=100, min=0, max=0: (
        through_numpy(t, "histogram", self, bins=bins, low=float(min), high=float(max))),
})  # fmt: skip


@aten("mode")
@lifts_scalars
def mode(t: Translator, self: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    require_elements(t, self, dim)
    found = through_numpy(t, "mode", self, count=2, axis=self.axis(dim))
    return tuple(t.add("Unsqueeze", y, [self.axis(dim)]) for y in found) if keepdim else found


def quantile(
    t: Translator, self: Tensor, q: Operand, dim: int | None = None, keepdim: bool = False,
    interpolation: str = "linear", *, ignores_nan: bool,
) -> str:  # fmt: skip
    x = _flat(t, self) if dim is None or not self.rank else self
    require_elements(t, self, None)
    axis = x.axis(0 if dim is None else dim)
    options: Any = {"axis": axis, "method": interpolation, "ignores_nan": ignores_nan}
    y = str(through_numpy(t, "quantile", x, t.cast(q, self.dtype), **options))
    if not keepdim:
        return y
    front = q.rank if isinstance(q, Tensor) else 0  # the axis of q precedes the others
    kept = [axis] if x is self else range(self.rank)
    return t.add("Unsqueeze", y, [front + place for place in kept])


define({
    "quantile quantile.scalar": partial(quantile, ignores_nan=False),
    "nanquantile nanquantile.scalar": partial(quantile, ignores_nan=True),
})  # fmt: skip


# Sets.


@aten("_unique2 _unique unique_dim")
def unique(
    t: Translator, self: Tensor, dim: int | None = None, sorted: bool = True, return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:  # fmt: skip
    """The sorted distinct elements or slices, the index of each element among them, and their counts.

    Each NaN is distinct from all others.
    """
    if dim is None and self.dtype.kind == "f":
        x = _flat(t, self)
        ordered, order = sort(t, x)
        values, runs, counts = unique_consecutive(t, dataclasses.replace(x, name=ordered))
        inverse = t.add("ScatterElements", runs, order, runs, axis=0)
        return values, reshaped(t, inverse, t.sizes(self)), counts
    options = {} if dim is None else {"axis": self.axis(dim)}
    values, _, inverse, counts = t.add_all("Unique", (self,), 4, **options)
    inverse = reshaped(t, inverse, t.sizes(self)) if dim is None else inverse
    return values, inverse, counts


@aten("unique_consecutive")
def unique_consecutive(
    t: Translator, self: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: Any = None
) -> Any:
    """The element of each run, the run of each element, and the lengths of the runs."""
    if dim is not None and self.rank > 1:
        raise ArgumentError("unique_consecutive along an axis of several is not supported")
    x = _flat(t, self)
    changes = t.add("Not", t.add("Equal", sliced(t, x, 0, 1, WHOLE), sliced(t, x, 0, 0, -1)))
    first = t.add("Expand", True, t.add("Min", t.add("Shape", x), [1]))
    starts = t.add("Concat", first, changes, axis=0)
    runs = t.add("CumSum", t.add("Cast", starts, to=INT64), 0)
    places = t.add("Reshape", t.add("NonZero", starts), [-1])
    ends = t.add("Concat", sliced(t, places, 0, 1, WHOLE), t.add("Shape", x), axis=0)
    inverse = reshaped(t, t.add("Sub", runs, 1), t.sizes(self))
    return t.add("Compress", x, starts, axis=0), inverse, t.add("Sub", ends, places)


@aten("isin.Tensor_Tensor isin.Tensor_Scalar")
def isin(
    t: Translator, elements: Tensor, test_elements: Any = None, assume_unique: bool = False,
    invert: bool = False, test_element: Any = None,
) -> str:  # fmt: skip
    wanted = test_element if test_elements is None else test_elements
    tests = t.add("Reshape", t.cast(wanted, elements.dtype), [-1])
    found = t.add("Equal", t.add("Unsqueeze", elements, [-1]), tests)
    counts = t.add("ReduceMax", t.add("Cast", found, to=INT64), [elements.rank], keepdims=0)
    inside = t.add("Cast", counts, to=BOOL)
    return t.add("Not", inside) if invert else inside


# Counts and places among limits.


@aten("bucketize.Tensor bucketize.Scalar searchsorted.Tensor searchsorted.Scalar")
def bucketize(
    t: Translator, self: Operand, boundaries: Tensor | None = None, sorted_sequence: Tensor | None = None,
    out_int32: bool = False, right: bool = False, **options: Any,
) -> str:  # fmt: skip
    """The number of boundaries below each element, or not above it if `right`."""
    limits = boundaries if boundaries is not None else sorted_sequence
    side, sorter = options.get("side"), options.get("sorter")
    if limits is None or sorter is not None:
        raise ArgumentError("a sorter for the boundaries is not supported")
    if limits.rank > 1 and not (isinstance(self, Tensor) and self.rank == limits.rank):
        raise ArgumentError("a number among boundaries with several axes is not supported")
    dtype = promoted(self, limits)
    x, edges = t.add("Unsqueeze", t.cast(self, dtype), [-1]), t.cast(limits, dtype)
    edges = t.add("Unsqueeze", edges, [-2]) if limits.rank > 1 else edges
    # NaN is above every boundary
    below = t.add("Not", t.add("Less" if right or side == "right" else "LessOrEqual", x, edges))
    counted = t.add("Cast", below, to=np.dtype(np.int32 if out_int32 else np.int64))
    return t.add("ReduceSum", counted, [-1], keepdims=0)


@aten("bincount")
def bincount(t: Translator, self: Tensor, weights: Tensor | None = None, minlength: int = 0) -> str:
    places = t.cast(self, INT64)
    least = t.add("ReduceMin", places, [0], keepdims=0)
    t.check(t.add("LessOrEqual", 0, least), "bincount takes no negative numbers")
    largest = t.add("ReduceMax", t.add("Concat", places, [-1], axis=0), [0], keepdims=0)
    count = Symbol(t.add("Max", t.add("Add", largest, 1), minlength))
    dtype: Any = INT64
    if weights is not None:
        is_float = weights.dtype.kind == "f"
        dtype = weights.dtype if is_float else INT64 if self.shape == (0,) else np.dtype(np.float64)
    added = t.add("Expand", 1, t.shape(self)) if weights is None else t.cast(weights, dtype)
    zeros = filled(t, [count], 0, dtype)
    return t.add("ScatterElements", zeros, places, added, axis=0, reduction="add")

"""Sliding windows of convolutions and pooling, in layers and in graphs: where they lie, and what they give.

Axes: N batch, C channels, O output channels, G groups.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ..errors import ArgumentError, ShapeError

AT_ONCE = 1 << 20  # floats of windows that are copied into one matrix at a time
AnyArray: TypeAlias = NDArray[Any]
Sides: TypeAlias = Sequence[tuple[int, int]]  # the padding before and after each axis


class Geometry(NamedTuple):
    """A window that slides over some axes: one number, or padding before and after, for each axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    out: tuple[int, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """The distance between the first and the last element of a window, plus one."""
        return spans(self.kernel, self.dilations)

    def needed_side(self, size: int, axis: int) -> tuple[int, int]:
        """Return the padding that the windows need on an axis; with ceil_mode, more after it."""
        before, after = self.sides[axis]
        last = (self.out[axis] - 1) * self.strides[axis] + self.spans[axis]
        return before, max(after, last - size - before)

    def with_unit_stride(self) -> "Geometry":
        """Return the windows over an axis whose elements are as many of the last axis as its stride."""
        kernel = (*self.kernel[:-1], self.kernel[-1] // self.strides[-1])
        return self._replace(kernel=kernel, strides=(*self.strides[:-1], 1))

    def needed_sides(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding that the windows need on axes of some sizes."""
        return [self.needed_side(size, axis) for axis, size in enumerate(sizes)]


def spans(kernel_size: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the number of elements that a window covers on each axis."""
    return tuple([(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)])


def geometry(
    sizes: Sequence[int], kernel: Sequence[int], attributes: Mapping[str, Any], window: str = "the window"
) -> Geometry:
    """Return the geometry of windows over axes of some sizes.

    `attributes` holds auto_pad, pads, strides, dilations and ceil_mode of ONNX. Raises ArgumentError for
    attributes that do not match the axes, and ShapeError, which names the window, if none fits into the
    padded axes.
    """
    options = [attributes.get(name) for name in ("strides", "dilations", "auto_pad", "pads", "ceil_mode")]
    given = [tuple(each) if isinstance(each, list) else each for each in (sizes, kernel, *options)]
    is_plain = {*map(type, (*sizes, *kernel))} <= {int}  # other sizes may be symbolic
    find = _geometry if is_plain else _geometry.__wrapped__
    return find(*given, window)


@lru_cache
def _geometry(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str | None,
    pads: Sequence[int] | None,
    ceil_mode: int | None,
    window: str,
) -> Geometry:
    n = len(kernel)
    if len(sizes) != n:
        raise ShapeError(f"the kernel has {n} axes, the input {len(sizes)}")
    strides = tuple(map(int, strides or [1] * n))
    dilations = tuple(map(int, dilations or [1] * n))
    if len(strides) != n or len(dilations) != n or min((*strides, *dilations, *kernel), default=1) < 1:
        raise ArgumentError(
            f"kernel {tuple(kernel)}, strides {strides}, dilations {dilations}; expected {n} positive numbers"
        )
    covered = spans(kernel, dilations)
    sides = padding(sizes, covered, strides, "NOTSET" if auto_pad is None else auto_pad, pads)
    out, steps = [], []
    for size, span, step, (before, after) in zip(sizes, covered, strides, sides, strict=True):
        room = size + before + after - span
        places = room // step + 1
        if ceil_mode and after < span:
            # a last window may exceed the padding, but must start before it
            places = -(-(size + before + min(0, after + step - span)) // step)
        if places < 1:
            whole = tuple(size + before + after for size, (before, after) in zip(sizes, sides, strict=True))
            raise ShapeError(
                f"x has sizes {tuple(sizes)}, {whole} with padding, but {window} spans {covered}"
            )
        out.append(places)
        # a step that is never taken may have any size, which views cannot represent
        steps.append(step if places > 1 else max(1, min(step, room + 1)))
    strides = tuple(steps)
    dilations = tuple(step if k > 1 else 1 for step, k in zip(dilations, kernel, strict=True))
    return Geometry(tuple(kernel), strides, dilations, sides, tuple(out))


def padding(
    sizes: Sequence[int],
    covered: Sequence[int],
    strides: Sequence[int],
    auto_pad: str,
    pads: Sequence[int] | None,
) -> tuple[tuple[int, int], ...]:
    """Return the padding before and after each axis."""
    n = len(sizes)
    if auto_pad == "VALID":
        return ((0, 0),) * n
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, span, step in zip(sizes, covered, strides, strict=True):
            total = (-(-size // step) - 1) * step + span - size
            if span < step:  # a window need not reach the last element
                total = max(0, total) if span > 1 else 0
            less, more = total // 2, total - total // 2
            sides.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
        return tuple(sides)
    if auto_pad not in ("NOTSET", ""):
        raise ArgumentError(f"auto_pad={auto_pad!r}; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    pads = list(map(int, pads or [0] * 2 * n))
    if len(pads) != 2 * n:
        raise ArgumentError(f"pads={pads}; expected {2 * n} integers")
    return tuple(zip(pads[:n], pads[n:], strict=True))


def pad_or_crop(x: AnyArray, sides: Sides, value: Any = 0, mode: str = "constant") -> AnyArray:
    """Pad the last axes of x as np.pad; negative padding removes elements.

    With a value, it may also remove what the other side adds.
    """
    first = x.ndim - len(sides)
    axes = list(zip(x.shape[first:], sides, strict=True))
    if mode == "constant":
        y = np.full(
            (*x.shape[:first], *[before + size + after for size, (before, after) in axes]), value, x.dtype
        )
        starts = [max(0, before) for before, _ in sides]
        stops = [max(0, before, before + size + min(0, after)) for size, (before, after) in axes]
        inside: Any = list(map(slice, starts, stops))
        kept: Any = [
            slice(start - before, stop - before)
            for start, stop, (before, _) in zip(starts, stops, sides, strict=True)
        ]
        y[(..., *inside)] = x[(..., *kept)]  # faster than np.pad
        return y
    if any(before < 0 or after < 0 for before, after in sides):
        kept = [slice(max(0, -before), size - max(0, -after)) for size, (before, after) in axes]
        sides = [(max(0, before), max(0, after)) for before, after in sides]
        return pad_or_crop(x[(..., *kept)], sides, value, mode)
    widths = [(0, 0)] * first + list(sides)
    return np.pad(x, widths, mode=mode)  # type: ignore[call-overload, no-any-return]  # one of NumPy's


def windows(x: AnyArray, g: Geometry, value: Any = 0) -> AnyArray:
    """Return the windows (N, C, *out, *kernel) of x (N, C, *sizes), padded with a value, as a view."""
    sides = g.needed_sides(x.shape[2:])
    if any(map(any, sides)):
        x = pad_or_crop(x, sides, value)
    places = [stride * step for stride, step in zip(x.strides[2:], g.strides, strict=True)]
    taps = [stride * step for stride, step in zip(x.strides[2:], g.dilations, strict=True)]
    shape, strides = (*x.shape[:2], *g.out, *g.kernel), (*x.strides[:2], *places, *taps)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def combined(combine: np.ufunc, seen: AnyArray, start: Any) -> AnyArray:
    """Combine the elements of windows (N, C, *out, *kernel) with `start`, position by position."""
    axes = (seen.ndim - 2) // 2
    y = np.full(seen.shape[:-axes], start, seen.dtype)
    for place in np.ndindex(seen.shape[-axes:]):
        combine(y, seen[(..., *place)], out=y)
    return y


def averaged(x: AnyArray, g: Geometry, includes_padding: bool) -> AnyArray:
    """Return the average of each window of x (N, C, *sizes), whose padding counts if it is included."""
    counts: AnyArray = np.ones((), x.dtype)
    for axis, size in enumerate(x.shape[2:]):
        before, after = g.sides[axis]
        first, last = (-before, size + after) if includes_padding else (0, size)
        starts = np.arange(g.out[axis]) * g.strides[axis] - before
        places = starts[:, None] + np.arange(g.kernel[axis]) * g.dilations[axis]
        inside = (places >= first) & (places < last)
        counts = np.multiply.outer(counts, inside.sum(1).astype(x.dtype))
    y: AnyArray = combined(np.add, windows(x, g), 0) / counts
    return y


class Filters:
    """The packed weights of a convolution: weight (O, C/G, *kernel), and bias (O,) or None.

    The weight may be float16, or int8 with scale (O,).
    """

    def __init__(
        self, weight: AnyArray, bias: AnyArray | None, groups: int, scale: AnyArray | None = None
    ) -> None:
        self.O = len(weight) // groups
        # packed with channels last: the windows of one axis then overlap in memory, and need no copy
        filters = np.split(weight.reshape(*weight.shape[:2], math.prod(weight.shape[2:])), groups)
        others = ([None] * groups if array is None else np.split(array, groups) for array in (bias, scale))
        self.products = [_core.Dense(*arrays) for arrays in zip(filters, *others, strict=True)]

    def __call__(self, x: AnyArray, g: Geometry) -> AnyArray:
        """Map x (N, C, *sizes) to y (N, O, *out)."""
        seen = windows(x, g)
        N, C, G, out = *x.shape[:2], len(self.products), g.out
        seen = np.moveaxis(seen.reshape(N, G, C // G, *seen.shape[2:]), 2, -1)
        places, inputs = math.prod(out), C // G * math.prod(g.kernel)
        y = np.empty((N, places, G, self.O), x.dtype)
        at_once = max(1, AT_ONCE // max(1, places * inputs))  # rows, or a part of one
        width = max(1, places // max(1, out[0]))  # places for each index of the first axis
        part = max(1, AT_ONCE // max(1, width * inputs)) if at_once == 1 else max(1, out[0])
        for first, start in itertools.product(range(0, N, at_once), range(0, out[0], part)):
            some, of_axis = slice(first, first + at_once), slice(start, start + part)
            for group, product in enumerate(self.products):
                own = seen[some, group, of_axis]
                count = math.prod(own.shape[: 1 + len(out)])
                rows = np.ascontiguousarray(own).reshape(count, inputs)
                result = np.empty((len(rows), self.O), x.dtype)
                product.forward(rows, result)
                found = y[some, start * width : (start + part) * width, group]
                found[...] = result.reshape(found.shape)
        return np.ascontiguousarray(np.moveaxis(y, 1, -1)).reshape(N, G * self.O, *out)

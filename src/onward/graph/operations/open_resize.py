"""Resize where sizes differ from call to call: the program computes the places and weights of neighbors."""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ..node import Signature
from ..size import Size, hint
from .expressions import DataDependent, composing, maximum, where
from .resize import EXACT, RADII, Axis, coordinate, cubic, has_filters, is_absent, modes, resize, resized_axes

ROUNDED: dict[str, Callable[[Any], Any]] = {
    "floor": lambda at: at.apply("Floor"),
    "ceil": lambda at: at.apply("Ceil"),
    "round_prefer_floor": lambda at: (at - np.float32(0.5)).apply("Ceil"),
    "round_prefer_ceil": lambda at: (at + np.float32(0.5)).apply("Floor"),
}


@composing(resize)
def open_resize(
    x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, *, nearest_mode: str =
    "round_prefer_floor", cubic_coeff_a: float = -0.75, **options: Any,
) -> Any:  # fmt: skip
    """Compute the places of neighbors and their weights where sizes differ from call to call."""
    mode, coordinates = modes(options)
    varying = [size.axes for size in x.shape if type(size) is Size]
    is_plain = coordinates != "tf_crop_and_resize" and not has_filters(options)
    if not varying or varying[0].is_strict or not is_plain or (mode != "nearest" and x.dtype != np.float32):
        raise DataDependent
    factors, counts = (None if part is None else part.known for part in (scales, sizes))
    if Signature in (type(factors), type(counts)):
        raise DataDependent
    items = list(enumerate(resized_axes(x.shape, factors, counts, options)))
    if not all(item.before < EXACT for _, item in items if item.changes):  # places are numbers of float32
        raise DataDependent
    for place, item in sorted(items, key=_order) if mode == "nearest" else items:
        if item.changes:
            at = _open_coordinates(coordinates, item, x, sizes, place)
            if mode == "nearest":
                x = _element(x, item.axis, ROUNDED[nearest_mode](at))
            else:
                x = _interpolated(x, item.axis, at, mode, np.float32(cubic_coeff_a))
    return x


def _order(numbered: tuple[int, Axis]) -> tuple[bool, int]:
    """Sort the axes that grow behind the others, the last one first, so that rows move as a whole."""
    item = numbered[1]
    grows = hint(item.after) > hint(item.before)
    return grows, -item.axis if grows else item.axis


def _open_coordinates(mode: str, item: Axis, x: Any, sizes: Any, place: int) -> Any:
    """Return the coordinate of each element of an axis as an expression; `place` is that of its size."""
    before = x.apply("Shape", dtype=np.int64, start=item.axis, end=item.axis + 1)
    if is_absent(None if sizes is None else sizes.known):
        assert item.scale is not None  # it is given
        numerator, denominator = float(item.scale).as_integer_ratio()
        after = before * numerator if denominator == 1 else (before * numerator).apply("Div", denominator)
    else:
        after = sizes.apply("Gather", [place])
    zero, one = before.constant(0), before.constant(1)
    i = zero.apply("Range", after.apply("Squeeze", [0]), one).cast(np.float32)
    scale: Any = item.scale
    if scale is None:
        scale = (after.cast(np.float64) / before.cast(np.float64)).cast(np.float32)
    sizes_of = before.cast(np.float32), after.cast(np.float32)
    step: Any = None
    if item.step is not None:
        step = np.float32(item.step) or sizes_of[0] / sizes_of[1]
        if item.keeps:
            step = where(after.equals(before), np.float32(1), step)
    return coordinate(mode, i, *sizes_of, scale, step, bool(item.after == 1))


def _element(x: Any, axis: int, places: Any) -> Any:
    """Return the elements of an axis nearest to places."""
    last = (x.apply("Shape", dtype=np.int64, start=axis, end=axis + 1) - 1).cast(np.float32)
    return x.apply("Gather", places.apply("Max", np.float32(0)).apply("Min", last).cast(np.int32), axis=axis)


def _interpolated(x: Any, axis: int, at: Any, mode: str, a: np.float32) -> Any:
    """Return the weighted sum of the neighbors of each coordinate."""
    first, terms = at.apply("Floor"), []
    fraction, shape = at - first, [-1, *[1] * (x.rank - axis - 1)]
    for offset in range(1 - RADII[mode], RADII[mode] + 1):
        weights = _weights(abs(offset - fraction), mode, a).apply("Reshape", shape)
        terms.append(_element(x, axis, first + offset) * weights)
    return reduce(add, terms)


def _weights(d: Any, mode: str, a: np.float32) -> Any:
    """Return the weights of elements at distances d."""
    if mode == "linear":
        return maximum(1 - d, 0)
    near, far = cubic(d, a)
    return where(d <= 1, near, where(d < 2, far, 0))

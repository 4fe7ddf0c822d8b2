"""The gradients of operations with sliding windows: convolutions and pooling."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...core.windows import Geometry, geometry
from .convolutions import conv_geometry
from .gradients_elementwise import Rule
from .gradients_movement import zeros_like
from .transposed import transposed_geometry


def _window(g: Any, sides: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """Return the attributes of windows with the strides and dilations of a geometry."""
    pads = [number for column in zip(*sides, strict=True) for number in column]
    found = {"strides": g.strides, "dilations": g.dilations, "pads": pads}
    return {name: list(map(int, numbers)) for name, numbers in found.items()}


def _sized(first: Sequence[int], x: Any) -> Any:
    """Return a shape: some sizes, and those of an array after the channels."""
    return x.t.constant_of(list(first), np.int64).apply("Concat", x.apply("Shape", start=2), axis=0)


def _cropped(y: Any, like: Any) -> Any:
    """Return y (N, C, ...) without what exceeds the sizes of another array after the channels."""
    axes = range(2, y.rank)
    return y.apply("Slice", [0] * len(axes), like.apply("Shape", start=2), axes)


def _with_rows_as_channels(x: Any, groups: int = 1) -> Any:
    """Exchange the rows and the channels of x (N, C, ...), to (C / groups, groups N, ...)."""
    if groups == 1:
        return x.apply("Transpose", perm=[1, 0, *range(2, x.rank)])
    parts = x.apply("Reshape", _sized([0, groups, int(x.shape[1]) // groups], x))
    moved = parts.apply("Transpose", perm=[2, 1, 0, *range(3, x.rank + 1)])
    return moved.apply("Reshape", _sized([0, -1], x))


def _of_input(dy: Any, x: Any, W: Any, group: int, window: Mapping[str, list[int]]) -> Any:
    """Add each element of dy, times the filters, to its window of x: a transposed convolution."""
    rest = [step - 1 for step in window["strides"]]  # at most as many elements follow the last window
    return _cropped(dy.apply("ConvTranspose", W, group=group, output_padding=rest, **window), x)


def _of_filters(x: Any, dy: Any, W: Any, group: int, window: Mapping[str, list[int]]) -> Any:
    """Return dW[m, c, k], the sum of dy[n, m, i] x[n, c, strides i + dilations k - pads]: a convolution.

    Its windows are as large as dy, and the steps between its taps are those of the windows of y.
    """
    steps = {"strides": window["dilations"], "dilations": window["strides"], "pads": window["pads"]}
    rows, filters = _with_rows_as_channels(x, group), _with_rows_as_channels(dy)
    found = rows.apply("Conv", filters, group=group, **steps)
    return _cropped(found.apply("Transpose", perm=[1, 0, *range(2, x.rank)]), W)


def _of_bias(dy: Any) -> Any:
    return dy.reduce("ReduceSum", [0, *range(2, dy.rank)])


def _of_conv(
    dy: Any, y: Any, x: Any, W: Any, bias: Any = None, *, group: int = 1, **attributes: Any
) -> Iterator[Any]:
    g = conv_geometry(x, W, {**attributes, "group": group})
    window = _window(g, g.sides)
    yield _of_input(dy, x, W, group, window)
    yield _of_filters(x, dy, W, group, window)
    yield _of_bias(dy)


def _of_conv_transpose(
    dy: Any, y: Any, x: Any, W: Any, bias: Any = None, *, group: int = 1, **attributes: Any
) -> Iterator[Any]:
    g = transposed_geometry(x, W, {**attributes, "group": group})
    window = _window(g, g.crops)
    yield _cropped(dy.apply("Conv", W, group=group, **window), x)
    yield _of_filters(dy, x, W, group, window)
    yield _of_bias(dy)


def _of_max_pool(dy: Any, y: Any, x: Any, **attributes: Any) -> Iterator[Any]:
    """Add dy to the first largest element of each window."""
    _, indices = x.apply_all("MaxPool", outputs=2, **{**attributes, "storage_order": 0})
    flat = [each.apply("Reshape", [-1]) for each in (zeros_like(x), indices, dy)]
    added = flat[0].apply("ScatterElements", *flat[1:], reduction="add")
    yield added.apply("Reshape", x.apply("Shape").name)


def _spread(dy: Any, x: Any, g: Geometry) -> Any:
    """Add each element of dy (N, C, *out) to all elements of its window of x (N, C, *in)."""
    rows, like = (each.apply("Reshape", _sized([-1, 1], each)) for each in (dy, x))
    found = _of_input(rows, like, dy.constant(np.ones((1, 1, *g.kernel))), 1, _window(g, g.sides))
    return found.apply("Reshape", x.apply("Shape").name)


def _of_sum_pool(dy: Any, y: Any, x: Any, *, kernel_shape: Sequence[int], **attributes: Any) -> Iterator[Any]:
    yield _spread(dy, x, geometry(x.shape[2:], kernel_shape, attributes))


def _of_average_pool(
    dy: Any, y: Any, x: Any, *, kernel_shape: Sequence[int], count_include_pad: int = 0, **attributes: Any
) -> Iterator[Any]:
    g = geometry(x.shape[2:], kernel_shape, attributes)
    ones = x.constant(1).apply("Expand", _sized([1, 1], x))
    if count_include_pad and any(map(any, g.sides)):
        ones = ones.apply("Pad", _window(g, g.sides)["pads"], 1, range(2, x.rank))
        attributes |= {"auto_pad": "NOTSET", "pads": [0] * 2 * len(g.kernel)}
    yield _spread(dy / ones.apply("SumPool", kernel_shape=list(kernel_shape), **attributes), x, g)


RULES: Mapping[str, Rule] = {
    "Conv": _of_conv,
    "ConvTranspose": _of_conv_transpose,
    "MaxPool": _of_max_pool,
    "AveragePool": _of_average_pool,
    "SumPool": _of_sum_pool,
}

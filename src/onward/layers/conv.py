"""Convolution and pooling as in torch.nn: windows that slide over the axes after the channels.

A window's numbers are summed in one order, whatever the batch: by the core's product in a convolution, and
place after place of the window in an average. Axes: N batch, C channels, O output channels, G groups, then
the length of Conv1d, or the height and width of Conv2d.
"""

from __future__ import annotations  # np.random is slow to import: not before a layer draws weights

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, checked, flag, integer
from ..errors import ArgumentError, ShapeError
from .base import Layer, Weighted, packed, uniform

Sides: TypeAlias = Sequence[tuple[int, int]]  # for each axis, how many places are added before and after it

AT_ONCE = 1 << 20  # numbers of windows that are laid side by side at a time


def padded(x: Array, sides: Sides, value: float = 0.0) -> Array:
    """x (N, C, *sizes) with `value` around it."""
    sizes = [before + size + after for size, (before, after) in zip(x.shape[2:], sides, strict=True)]
    y = np.full((*x.shape[:2], *sizes), value, x.dtype)
    inside: list[Any] = [slice(n, n + size) for size, (n, _) in zip(x.shape[2:], sides, strict=True)]
    y[(..., *inside)] = x
    return y


def windows(x: Array, kernel_size: Shape, stride: Shape, dilation: Shape) -> Array:
    """A view (N, C, *out, *kernel_size) of x (N, C, *sizes): what each place of the output sees."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, x.ndim)))
    return seen[(slice(None), slice(None), *(slice(None, None, step) for step in (*stride, *dilation)))]


class Filters:
    """The weights of a convolution, packed: weight (O, C/G, *kernel_size), bias (O,) or None."""

    def __init__(self, weight: Array, bias: Array | None, groups: int) -> None:
        self.kernel_size = weight.shape[2:]
        self.O = len(weight) // groups
        matrices = np.split(weight.reshape(len(weight), -1), groups)
        biases = [None] * groups if bias is None else np.split(bias, groups)
        self.products = [_core.Dense(W, b) for W, b in zip(matrices, biases, strict=True)]

    def __call__(self, x: Array, stride: Shape, sides: Sides, dilation: Shape) -> Array:
        """x (N, C, *sizes) to y (N, O, *out), padded by `sides`."""
        seen = windows(padded(x, sides), self.kernel_size, stride, dilation)
        N, C, G, axes = *x.shape[:2], len(self.products), len(stride)
        out = seen.shape[2 : 2 + axes]
        seen = np.moveaxis(seen.reshape(N, G, C // G, *seen.shape[2:]), 2, 2 + axes)
        places, inputs = math.prod(out), C // G * math.prod(self.kernel_size)
        y = np.empty((N, places, G, self.O), x.dtype)
        at_once = max(1, AT_ONCE // max(1, places * inputs))
        for first in range(0, N, at_once):
            some = slice(first, first + at_once)
            for group, product in enumerate(self.products):
                rows = np.ascontiguousarray(seen[some, group]).reshape(-1, inputs)
                result = np.empty((len(rows), self.O), x.dtype)
                product.forward(rows, result)
                y[some, :, group] = result.reshape(-1, places, self.O)
        return np.ascontiguousarray(np.moveaxis(y, 1, -1)).reshape(N, G * self.O, *out)


def largest(x: Array, kernel_size: Shape, stride: Shape, sides: Sides, dilation: Shape) -> Array:
    """The largest number of each window of x (N, C, *sizes), NaN if it holds one."""
    seen = windows(padded(x, sides, -np.inf), kernel_size, stride, dilation)
    y = np.full(seen.shape[: x.ndim], -np.inf, x.dtype)
    for place in np.ndindex(kernel_size):
        np.maximum(y, seen[(..., *place)], out=y)
    return y + 0  # of -0 and 0, either may have been the larger


def total(x: Array, kernel_size: Shape, stride: Shape, sides: Sides) -> Array:
    """The sum of each window of x (N, C, *sizes)."""
    seen = windows(padded(x, sides), kernel_size, stride, (1,) * len(stride))
    y = np.zeros(seen.shape[: x.ndim], x.dtype)
    for place in np.ndindex(kernel_size):
        y += seen[(..., *place)]
    return y


def average(x: Array, kernel_size: Shape, stride: Shape, sides: Sides, counted: Sides) -> Array:
    """The average of each window of x (N, C, *sizes); of the places around x, `counted` count as zeros."""
    rest = [(b - own_b, a - own_a) for (b, a), (own_b, own_a) in zip(sides, counted, strict=True)]
    ones = padded(np.ones((1, 1, *x.shape[2:]), x.dtype), counted, 1.0)
    return total(x, kernel_size, stride, sides) / total(ones, kernel_size, stride, rest)


class Spatial(Layer):
    """What slides over the last one or two axes."""

    axes: ClassVar[int]
    per_step = False

    def _per_axis(self, name: str, value: Any, low: int) -> Any:
        """One integer for all axes, or a tuple of one for each; the integer where they are the same."""
        given = list(value) if isinstance(value, tuple | list) else [value] * self.axes
        if len(given) != self.axes:
            raise ArgumentError(f"{name}={value!r}, but must be an integer or {self.axes} of them")
        sizes = tuple(integer(name, size, low) for size in given)
        return sizes[0] if len(set(sizes)) == 1 else sizes

    def _sizes(self, value: Any) -> Shape:
        """One integer for each axis."""
        return value if isinstance(value, tuple) else (value,) * self.axes

    def _batch(self, x: ArrayLike, channels: int | None = None) -> tuple[Array, bool]:
        """x as (N, C, *sizes), and whether it was batched."""
        x = arrays.as_array(x, "x")
        dtype = self.dtype if isinstance(self, Weighted) else arrays.working_dtype(x)
        x = arrays.as_floats(x, dtype, "x")
        batched = x.ndim == self.axes + 2
        if not (batched or x.ndim == self.axes + 1) or channels not in (None, x.shape[-self.axes - 1]):
            sizes = ", ".join("LHW"[self.axes - 1 :][: self.axes])
            C = "C" if channels is None else channels
            layout = f"(N, {C}, {sizes}), or ({C}, {sizes}) unbatched"
            raise ShapeError(f"x has shape {x.shape}, but this {type(self).__name__} takes {layout}")
        return (x if batched else x[None]), batched

    def _check_span(self, x: Array, spans: Sequence[int], sides: Sides) -> None:
        """That a window fits in."""
        sizes = [size + sum(side) for size, side in zip(x.shape[2:], sides, strict=True)]
        if any(size < span for size, span in zip(sizes, spans, strict=True)):
            raise ShapeError(
                f"x has sizes {x.shape[2:]}, {tuple(sizes)} with padding, but a window of this "
                f"{type(self).__name__} spans {tuple(spans)}"
            )


class Convolution(Spatial, Weighted):
    """What Conv1d and Conv2d share."""

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.in_channels = integer("in_channels", in_channels, 1)
        self.out_channels = integer("out_channels", out_channels, 1)
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self._per_axis("stride", stride, 1)
        self.padding = self._padding(padding)
        self.dilation = self._per_axis("dilation", dilation, 1)
        self.groups = integer("groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"groups={groups}, but must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.bias = flag("bias", bias)
        if padding_mode != "zeros":
            raise ArgumentError(f"padding_mode={padding_mode!r}, but Onward pads with 'zeros' alone")
        self.padding_mode = padding_mode
        inputs = self.in_channels // self.groups * math.prod(self._sizes(self.kernel_size))
        self._draw(dtype, rng, uniform(inputs**-0.5))

    def _padding(self, padding: Any) -> Any:
        if not isinstance(padding, str):
            return self._per_axis("padding", padding, 0)
        if padding not in ("same", "valid"):
            raise ArgumentError(f"padding={padding!r}, but must be 'same', 'valid' or integers")
        if padding == "same" and self.stride != 1:
            raise ArgumentError(f"padding='same', but then stride must be 1, not {self.stride}")
        return padding

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        kernel_size = self._sizes(self.kernel_size)
        yield "weight", (self.out_channels, self.in_channels // self.groups, *kernel_size)
        if self.bias:
            yield "bias", (self.out_channels,)

    @packed
    def _kernel(self) -> Filters:
        return Filters(self._weights["weight"], self._weights.get("bias"), self.groups)

    def __call__(self, x: ArrayLike) -> Array:
        """x (N, C, *sizes), or (C, *sizes) unbatched, to y (N, O, *out), each row of the batch on its own.

        Raises ShapeError, DtypeError.
        """
        x, batched = self._batch(x, self.in_channels)
        sides = self._sides()
        self._check_span(x, [places + 1 for places in self._reach()], sides)
        y = self._kernel(x, self._sizes(self.stride), sides, self._sizes(self.dilation))
        return y if batched else y[0]

    def _reach(self) -> list[int]:
        """For each axis, how far it is from the first to the last place of a window."""
        sizes = zip(self._sizes(self.kernel_size), self._sizes(self.dilation), strict=True)
        return [d * (k - 1) for k, d in sizes]

    def _sides(self) -> Sides:
        """What pads x."""
        if self.padding == "same":  # the odd place comes after
            return [(places // 2, places - places // 2) for places in self._reach()]
        return [(n, n) for n in self._sizes(0 if self.padding == "valid" else self.padding)]


class Conv1d(Convolution):
    """The convolution of torch.nn.Conv1d: y[o, t] = b[o] + sum over c, k of W[o, c, k] x[c, s t + d k].

    s is stride and d is dilation; groups of channels are convolved each on its own.

    Weights: weight W (O, C/groups, K), bias b (O,), drawn from U(-1/sqrt(n), 1/sqrt(n)), n = K C/groups, with
    `rng`, a NumPy Generator or a seed. Padding is of zeros: a number on both sides, "valid" for none, or
    "same" for as many places in y as in x. Raises ArgumentError, DtypeError, and SignatureError for unknown
    arguments.
    """

    axes = 1


class Conv2d(Convolution):
    """The convolution of torch.nn.Conv2d, in which each t and k of Conv1d is a pair.

    Weights: weight W (O, C/groups, K, K'), bias b (O,), drawn as those of Conv1d. kernel_size, stride,
    padding and dilation are one integer, or two. Raises ArgumentError, DtypeError, and SignatureError for
    unknown arguments.
    """

    axes = 2


class Pooling(Spatial):
    """What all pooling of windows shares."""

    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool

    def _configure(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.padding = self._per_axis("padding", padding, 0)
        sizes = zip(self._sizes(self.padding), self._sizes(self.kernel_size), strict=True)
        if any(n > k // 2 for n, k in sizes):
            raise ArgumentError(
                f"padding={padding!r}, but must be at most half of kernel_size={kernel_size!r}"
            )
        self.ceil_mode = flag("ceil_mode", ceil_mode)

    def _windows(self, x: Array, dilation: Shape) -> tuple[Shape, Shape, Sides, Sides]:
        """The sizes and strides of windows, what pads x, and what of that is `padding`, not rounding up."""
        kernel_size, stride, padding = map(self._sizes, (self.kernel_size, self.stride, self.padding))
        spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        own = [(n, n) for n in padding]
        sides = []
        for size, n, span, step in zip(x.shape[2:], padding, spans, stride, strict=True):
            places = -(-(size + 2 * n - span) // step)
            # a window that begins after x and the padding before it is no window
            more = places * step + span - size - 2 * n if self.ceil_mode and places * step < size + n else 0
            sides.append((n, n + max(0, more)))
        self._check_span(x, spans, sides)
        return kernel_size, stride, sides, own


class MaxPool(Pooling):
    """What MaxPool1d and MaxPool2d share."""

    @checked
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self._configure(kernel_size, stride, padding, ceil_mode)
        self.dilation = self._per_axis("dilation", dilation, 1)

    def __call__(self, x: ArrayLike) -> Array:
        """x (N, C, *sizes), or (C, *sizes) unbatched, to y (N, C, *out). Raises ShapeError, DtypeError."""
        x, batched = self._batch(x)
        dilation = self._sizes(self.dilation)
        kernel_size, stride, sides, _ = self._windows(x, dilation)
        y = largest(x, kernel_size, stride, sides, dilation)
        return y if batched else y[0]


class MaxPool1d(MaxPool):
    """The largest of each window, as torch.nn.MaxPool1d: y[c, t] = max over k of x[c, stride t + dilation k].

    stride None is kernel_size; padding is of -inf. float64 stays float64, anything else becomes float32.
    Raises ArgumentError, and SignatureError for unknown arguments.
    """

    axes = 1


class MaxPool2d(MaxPool):
    """The largest of each window, as torch.nn.MaxPool2d; its arguments are one integer, or two.

    As MaxPool1d otherwise.
    """

    axes = 2


class AvgPool(Pooling):
    """What AvgPool1d and AvgPool2d share."""

    @checked
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._configure(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("count_include_pad", count_include_pad)

    def __call__(self, x: ArrayLike) -> Array:
        """x (N, C, *sizes), or (C, *sizes) unbatched, to y (N, C, *out). Raises ShapeError, DtypeError."""
        x, batched = self._batch(x)
        kernel_size, stride, sides, own = self._windows(x, (1,) * self.axes)
        y = average(x, kernel_size, stride, sides, own if self.count_include_pad else [(0, 0)] * self.axes)
        return y if batched else y[0]


class AvgPool1d(AvgPool):
    """The average of each window, as torch.nn.AvgPool1d: y[c, t] = 1/K sum over k of x[c, stride t + k].

    stride None is kernel_size; padding is of zeros, which count unless count_include_pad is False. float64
    stays float64, anything else becomes float32. Raises ArgumentError, and SignatureError for unknown
    arguments.
    """

    axes = 1


class AvgPool2d(AvgPool):
    """The average of each window, as torch.nn.AvgPool2d; its arguments are one integer, or two.

    As AvgPool1d otherwise.
    """

    axes = 2

"""Convolutions over one or two axes, as in torch.nn, and the sliding windows that pooling shares with them.

Axes: N batch, C channels, O output channels, G groups.
"""

from __future__ import annotations  # importing np.random is slow

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Never, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _core
from ..core.arrays import Array, Shape
from ..core.checks import Rng, checked, flag, integer
from ..errors import ArgumentError, ShapeError
from .base import Layer, packed, uniform
from .quantize import Quantizable

AT_ONCE = 1 << 20  # floats of windows that are copied into one matrix at a time
Sides: TypeAlias = Sequence[tuple[int, int]]  # for each axis, the padding before and after


def padded(x: Array, sides: Sides, value: float = 0.0) -> Array:
    """x (N, C, *sizes) padded with `value`."""
    sizes = [before + size + after for size, (before, after) in zip(x.shape[2:], sides, strict=True)]
    y = np.full((*x.shape[:2], *sizes), value, x.dtype)
    inside: list[Any] = [slice(n, n + size) for size, (n, _) in zip(x.shape[2:], sides, strict=True)]
    y[(..., *inside)] = x
    return y


def windows(x: Array, kernel_size: Shape, stride: Shape, dilation: Shape) -> Array:
    """A view (N, C, *out, *kernel_size) of x (N, C, *sizes): the window of each output position."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, x.ndim)))
    return seen[(slice(None), slice(None), *(slice(None, None, step) for step in (*stride, *dilation)))]


class Spatial(Layer):
    """A layer whose window slides over the last one or two axes."""

    axes: ClassVar[int]

    @property
    def batched_ndim(self) -> int:  # type: ignore[override]  # a constant of the class elsewhere
        return self.axes + 2

    def _per_axis(self, name: str, value: Any, low: int) -> Any:
        """`value` as a tuple of one integer per axis, or as one integer if they are equal."""
        given = list(value) if isinstance(value, tuple | list) else [value] * self.axes
        if len(given) != self.axes:
            raise ArgumentError(f"{name}={value!r}; expected an integer or {self.axes} of them")
        sizes = tuple(integer(name, size, low) for size in given)
        return sizes[0] if len(set(sizes)) == 1 else sizes

    def _sizes(self, value: Any) -> Shape:
        """One integer per axis."""
        return value if isinstance(value, tuple) else (value,) * self.axes

    def _batch(self, x: ArrayLike, unknown: Iterable[str], channels: int | None = None) -> tuple[Array, bool]:
        """x as (N, C, *sizes), and whether it is batched. Raises ShapeError, DtypeError, SignatureError."""
        x = self._floats(x, unknown)
        batched = x.ndim == self.axes + 2
        if not (batched or x.ndim == self.axes + 1) or channels not in (None, x.shape[-self.axes - 1]):
            sizes = ", ".join("LHW"[self.axes - 1 :][: self.axes])
            C = "C" if channels is None else channels
            layout = f"(N, {C}, {sizes}), or ({C}, {sizes}) unbatched"
            raise ShapeError(f"x has shape {x.shape}, but this {type(self).__name__} takes {layout}")
        return (x if batched else x[None]), batched

    def _check_span(self, x: Array, spans: Sequence[int], sides: Sides) -> None:
        """Raise ShapeError if a window is larger than the padded input."""
        sizes = [size + sum(side) for size, side in zip(x.shape[2:], sides, strict=True)]
        if any(size < span for size, span in zip(sizes, spans, strict=True)):
            raise ShapeError(
                f"x has sizes {x.shape[2:]}, {tuple(sizes)} with padding, but the window of this "
                f"{type(self).__name__} spans {tuple(spans)}"
            )


class Filters:
    """The packed weights of a convolution: weight (O, C/G, *kernel_size), and bias (O,) or None.

    The weight may be float16, or int8 with scale (O,).
    """

    def __init__(self, weight: Array, bias: Array | None, groups: int, scale: Array | None = None) -> None:
        self.kernel_size = weight.shape[2:]
        self.O = len(weight) // groups
        # channels last: the windows of one axis then overlap in memory, and need no copy
        matrices = np.split(np.moveaxis(weight, 1, -1).reshape(len(weight), -1), groups)
        others = ([None] * groups if array is None else np.split(array, groups) for array in (bias, scale))
        self.products = [_core.Dense(*arrays) for arrays in zip(matrices, *others, strict=True)]

    def __call__(self, x: Array, stride: Shape, sides: Sides, dilation: Shape) -> Array:
        """Map x (N, C, *sizes), padded by `sides`, to y (N, O, *out)."""
        seen = windows(padded(x, sides), self.kernel_size, stride, dilation)
        N, C, G, axes = *x.shape[:2], len(self.products), len(stride)
        out = seen.shape[2 : 2 + axes]
        seen = np.moveaxis(seen.reshape(N, G, C // G, *seen.shape[2:]), 2, -1)
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


class Convolution(Spatial, Quantizable):
    """The base class of Conv1d and Conv2d."""

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
            raise ArgumentError(f"padding_mode={padding_mode!r}, but only 'zeros' is supported")
        self.padding_mode = padding_mode
        inputs = self.in_channels // self.groups * math.prod(self._sizes(self.kernel_size))
        self._draw(dtype, rng, uniform(inputs**-0.5))

    def _padding(self, padding: Any) -> Any:
        if not isinstance(padding, str):
            return self._per_axis("padding", padding, 0)
        if padding not in ("same", "valid"):
            raise ArgumentError(f"padding={padding!r}, but must be 'same', 'valid' or integers")
        if padding == "same" and self.stride != 1:
            raise ArgumentError(f"padding='same' requires stride=1, not {self.stride}")
        return padding

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        kernel_size = self._sizes(self.kernel_size)
        yield "weight", (self.out_channels, self.in_channels // self.groups, *kernel_size)
        if self.bias:
            yield "bias", (self.out_channels,)

    @packed
    def _kernel(self, weights: dict[str, Array]) -> Filters:
        return Filters(weights["weight"], weights.get("bias"), self.groups, weights.get("weight_scale"))

    def _compressed(self, precision: str) -> Self:
        if 1 < self.groups == self.in_channels == self.out_channels:  # filters of a few weights
            return self
        return super()._compressed(precision)

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x (N, C, *sizes), or (C, *sizes) unbatched, to y (N, O, *out).

        Each row gives bitwise the same result in any batch. Raises ShapeError, DtypeError.
        """
        x, batched = self._batch(x, unknown, self.in_channels)
        sides = self._sides()
        self._check_span(x, [places + 1 for places in self._reach()], sides)
        y = self._kernel(x, self._sizes(self.stride), sides, self._sizes(self.dilation))
        return y if batched else y[0]

    def _reach(self) -> list[int]:
        """The distance between the first and the last position of a window, for each axis."""
        sizes = zip(self._sizes(self.kernel_size), self._sizes(self.dilation), strict=True)
        return [d * (k - 1) for k, d in sizes]

    def _sides(self) -> Sides:
        """The padding of x."""
        if self.padding == "same":  # an odd padding is longer after x
            return [(places // 2, places - places // 2) for places in self._reach()]
        return [(n, n) for n in self._sizes(0 if self.padding == "valid" else self.padding)]


class Conv1d(Convolution):
    """A convolution, as torch.nn.Conv1d: y[o, t] = b[o] + sum over c, k of W[o, c, k] x[c, s t + d k].

    s is the stride and d the dilation; each group of channels is convolved separately.

    Weights: weight W (O, C/groups, K) and bias b (O,), drawn from U(-1/sqrt(n), 1/sqrt(n)), n = K C/groups,
    with `rng`, a NumPy Generator or a seed. padding is the number of zeros on both sides, "valid" for none,
    or "same" for a y as long as x. Raises ArgumentError, DtypeError, and SignatureError for unknown
    arguments.

    >>> import numpy as np
    >>> Conv1d(3, 8, kernel_size=5, stride=2, padding=2)(np.zeros((4, 3, 100))).shape
    (4, 8, 50)
    """

    axes = 1


class Conv2d(Convolution):
    """A convolution, as torch.nn.Conv2d: Conv1d with pairs for t and k.

    Weights: weight W (O, C/groups, K, K') and bias b (O,), drawn as in Conv1d. kernel_size, stride, padding
    and dilation are one integer or two. Raises ArgumentError, DtypeError, and SignatureError for
    unknown arguments.

    >>> import numpy as np
    >>> Conv2d(1, 8, kernel_size=(3, 5), padding="same")(np.zeros((4, 1, 20, 30))).shape
    (4, 8, 20, 30)
    """

    axes = 2

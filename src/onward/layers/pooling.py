"""Maximum and average pooling over one or two axes, as in torch.nn.

The numbers of a window are combined position by position, in an order that does not depend on the batch.
"""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Sequence
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Array, Shape
from ..core.checks import checked, flag
from ..errors import ArgumentError
from .conv import Sides, Spatial, padded, windows


def combined(
    combine: np.ufunc, x: Array, start: float, kernel_size: Shape, stride: Shape, dilation: Shape
) -> Array:
    """The numbers of each window of the padded x (N, C, *sizes), combined with `start`."""
    seen = windows(x, kernel_size, stride, dilation)
    y = np.full(seen.shape[: x.ndim], start, x.dtype)
    for place in np.ndindex(kernel_size):
        combine(y, seen[(..., *place)], out=y)
    return y


class Pooling(Spatial):
    """The base class of pooling layers."""

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
            raise ArgumentError(f"padding={padding!r}; expected at most half of kernel_size={kernel_size!r}")
        self.ceil_mode = flag("ceil_mode", ceil_mode)

    def _windows(self, x: Array, dilation: Shape) -> tuple[Shape, Shape, Sides, Sides]:
        """The window sizes, strides and total padding, and the padding without that added by ceil_mode."""
        kernel_size, stride, padding = map(self._sizes, (self.kernel_size, self.stride, self.padding))
        spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        own = [(n, n) for n in padding]
        sides = []
        for size, n, span, step in zip(x.shape[2:], padding, spans, stride, strict=True):
            places = -(-(size + 2 * n - span) // step)
            # a window that starts after x and the left padding is dropped
            more = places * step + span - size - 2 * n if self.ceil_mode and places * step < size + n else 0
            sides.append((n, n + max(0, more)))
        self._check_span(x, spans, sides)
        return kernel_size, stride, sides, own

    def _pooled(self, x: Array) -> Array:
        """y (N, C, *out) from x (N, C, *sizes)."""
        raise NotImplementedError

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x ([N], C, *sizes) to y ([N], C, *out). Raises ShapeError, DtypeError."""
        x, batched = self._batch(x, unknown)
        y = self._pooled(x)
        return y if batched else y[0]


class MaxPool(Pooling):
    """The base class of MaxPool1d and MaxPool2d."""

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

    def _pooled(self, x: Array) -> Array:
        dilation = self._sizes(self.dilation)
        kernel_size, stride, sides, _ = self._windows(x, dilation)
        y = combined(np.maximum, padded(x, sides, -np.inf), -np.inf, kernel_size, stride, dilation)
        return y + 0  # np.maximum may return either -0 or 0: return 0


class MaxPool1d(MaxPool):
    """The maximum of each window, as torch.nn.MaxPool1d: y[c, t] = max over k of x[c, stride t + dilation k].

    stride defaults to kernel_size; the padding is -inf. float64 stays float64; other dtypes become float32.
    Raises ArgumentError, and SignatureError for unknown arguments.

    >>> MaxPool1d(2)([[1.0, 5.0, 2.0, 3.0]])
    array([[5., 3.]])
    """

    axes = 1


class MaxPool2d(MaxPool):
    """The maximum of each window, as torch.nn.MaxPool2d: MaxPool1d over two axes.

    kernel_size, stride, padding and dilation are one integer or two. Raises ArgumentError.

    >>> import numpy as np
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    axes = 2


class AvgPool(Pooling):
    """The base class of AvgPool1d and AvgPool2d."""

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

    def _pooled(self, x: Array) -> Array:
        dilation = (1,) * self.axes
        kernel_size, stride, sides, own = self._windows(x, dilation)
        counted = own if self.count_include_pad else [(0, 0)] * self.axes
        rest = [(b - own_b, a - own_a) for (b, a), (own_b, own_a) in zip(sides, counted, strict=True)]
        ones = padded(padded(np.ones((1, 1, *x.shape[2:]), x.dtype), counted, 1.0), rest)
        sums, counts = (
            combined(np.add, part, 0, kernel_size, stride, dilation) for part in (padded(x, sides), ones)
        )
        return sums / counts


class AvgPool1d(AvgPool):
    """The average of each window, as torch.nn.AvgPool1d: y[c, t] = 1/K sum over k of x[c, stride t + k].

    stride defaults to kernel_size; the padding is zeros, which count unless count_include_pad is False.
    float64 stays float64; other dtypes become float32. Raises ArgumentError, and SignatureError for unknown
    arguments.

    >>> AvgPool1d(2)([[1.0, 5.0, 2.0, 3.0]])
    array([[3. , 2.5]])
    """

    axes = 1


class AvgPool2d(AvgPool):
    """The average of each window, as torch.nn.AvgPool2d: AvgPool1d over two axes.

    kernel_size, stride and padding are one integer or two. Raises ArgumentError.

    >>> import numpy as np
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """

    axes = 2

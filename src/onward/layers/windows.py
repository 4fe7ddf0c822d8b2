"""Sliding windows over the axes that follow the channels, shared by convolution and pooling."""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Array, Shape
from ..core.checks import integer
from ..errors import ArgumentError, ShapeError
from .base import Layer

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

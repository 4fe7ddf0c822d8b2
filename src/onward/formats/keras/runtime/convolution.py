"""Keras' convolutions and pooling: its padding and its layouts around Onward's own sliding windows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....core.arrays import Array, Shape
from ....errors import ArgumentError, ShapeError
from ....layers import conv, pooling, windows
from ....layers.base import RunRecurrent
from ....layers.windows import Sides
from .layer import AnyArray, KerasLayer, Masked, as_floats


class Spatial(KerasLayer):
    """What acts on the axes between batch and channels, or after the channels with channels_first."""

    keeps_mask = False
    channels_first: bool

    def spatial(self, x: Array) -> Array:
        """The output for x (B, C, *sizes), channels first as well."""
        raise NotImplementedError

    def compute(self, x: AnyArray) -> AnyArray:
        x = as_floats(x)
        if x.ndim < 3:
            raise ShapeError(f"x has shape {x.shape}, but {type(self).__name__} takes (B, ..., C)")
        if self.channels_first:
            return self.spatial(x)
        y = self.spatial(np.moveaxis(x, -1, 1))
        return np.moveaxis(y, 1, -1) if y.ndim == x.ndim else y


def sides(padding: str, sizes: Shape, kernel_size: Shape, stride: Shape, dilation: Shape) -> Sides:
    """Places before and after each axis: "same" gives ceil(size / stride) outputs, the odd place after."""
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    spans = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    if padding == "causal":
        return [(span, 0) for span in spans]
    places = [
        max((-(-size // step) - 1) * step + span + 1 - size, 0)
        for size, span, step in zip(sizes, spans, stride, strict=True)
    ]
    return [(n // 2, n - n // 2) for n in places]


def per_axis(value: Any, axes: int) -> Shape:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * axes


def checked_padding(padding: str) -> str:
    if padding not in ("valid", "same", "causal"):
        raise ArgumentError(f"padding={padding!r}, but must be 'valid', 'same' or 'causal'")
    return padding


class Convolution(Spatial):
    """keras.layers.Conv1D and Conv2D: a convolution of torch's form without padding of its own."""

    def __init__(
        self,
        windows: conv.Convolution,
        activation: KerasLayer,
        padding: str = "valid",
        channels_first: bool = False,
    ) -> None:
        self.windows = windows
        self.activation = activation
        self.padding = checked_padding(padding)
        self.channels_first = channels_first
        self.dtype = windows.dtype

    def spatial(self, x: Array) -> Array:
        w = self.windows
        sizes = (per_axis(value, w.axes) for value in (w.kernel_size, w.stride, w.dilation))
        return w(windows.padded(x, sides(self.padding, x.shape[2:], *sizes)))

    def compute(self, x: AnyArray) -> AnyArray:
        return self.activation.compute(super().compute(x))


class Pooling(Spatial):
    """keras.layers.MaxPooling1D, AveragePooling1D and those of two axes; padding does not count."""

    def __init__(
        self,
        kind: str,
        pool_size: Sequence[int],
        strides: Sequence[int],
        padding: str = "valid",
        channels_first: bool = False,
    ) -> None:
        if kind not in ("max", "average"):
            raise ArgumentError(f"kind={kind!r}, but must be 'max' or 'average'")
        self.kind = kind
        self.pool_size = pool_size
        self.strides = strides
        self.padding = checked_padding(padding)
        self.channels_first = channels_first

    def spatial(self, x: Array) -> Array:
        kernel_size, stride = tuple(self.pool_size), tuple(self.strides)
        once = (1,) * len(kernel_size)
        if x.ndim != 2 + len(kernel_size):
            raise ShapeError(f"x has shape {x.shape}, but pool_size={kernel_size} is for another rank")
        around = sides(self.padding, x.shape[2:], kernel_size, stride, once)
        if self.kind == "max":
            return pooling.largest(x, kernel_size, stride, around, once)
        return pooling.average(x, kernel_size, stride, around, [(0, 0)] * len(once))


class GlobalPooling(Spatial):
    """keras.layers.GlobalMaxPooling1D, GlobalAveragePooling1D and those of two axes: one number a channel.

    An average over one axis leaves masked steps out.
    """

    arguments = ("mask",)

    def __init__(self, kind: str, keepdims: bool = False, channels_first: bool = False) -> None:
        if kind not in REDUCTIONS:
            raise ArgumentError(f"kind={kind!r}, but must be one of {', '.join(REDUCTIONS)}")
        self.kind = kind
        self.keepdims = keepdims
        self.channels_first = channels_first

    def spatial(self, x: Array) -> Array:
        # numbers side by side in memory are summed in one order, whatever else there is
        y = REDUCTIONS[self.kind](np.ascontiguousarray(x.reshape(*x.shape[:2], -1)))
        return y.reshape(*y.shape, *(1,) * (x.ndim - 2)) if self.keepdims else y

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x, mask = self.only(inputs, options)
        if mask is None or self.kind != "average" or x.ndim != 3:
            return super().run(inputs, run_recurrent, **options)
        counts = mask[:, None] if self.channels_first else mask[..., None]
        total = self.compute(np.where(counts, as_floats(x), 0)) * mask.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):  # as Keras: NaN where no step counts
            y = total / mask.sum(axis=1).reshape(-1, *(1,) * (total.ndim - 1)).astype(total.dtype)
        return [Masked(y)]


REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "max": lambda x: x.max(axis=-1),
    "average": lambda x: x.mean(axis=-1),
}


class Padding(Spatial):
    """keras.layers.ZeroPadding1D, Cropping1D and those of two axes.

    places: for each axis how many zeros come before and after; below 0, how many places go.
    """

    def __init__(self, places: Sequence[Sequence[int]], channels_first: bool = False) -> None:
        self.places = places
        self.channels_first = channels_first

    def spatial(self, x: Array) -> Array:
        sizes = x.shape[2:]
        if len(sizes) != len(self.places) or any(
            size + sum(each) <= 0 for size, each in zip(sizes, self.places, strict=True)
        ):
            raise ShapeError(f"x has shape {x.shape} (channels first), which {self!r} does not take")
        kept = [slice(max(-a, 0), size - max(-b, 0)) for size, (a, b) in zip(sizes, self.places, strict=True)]
        added = [(max(a, 0), max(b, 0)) for a, b in self.places]
        return np.pad(x[(slice(None), slice(None), *kept)], [(0, 0), (0, 0), *added])


class UpSampling(Spatial):
    """keras.layers.UpSampling1D and UpSampling2D of the nearest place: each is repeated along each axis."""

    def __init__(self, sizes: Sequence[int], channels_first: bool = False) -> None:
        self.sizes = sizes
        self.channels_first = channels_first

    def spatial(self, x: Array) -> Array:
        if x.ndim != 2 + len(self.sizes):
            raise ShapeError(f"x has shape {x.shape}, but size={self.sizes} is for another rank")
        for axis, size in enumerate(self.sizes, 2):
            x = x.repeat(size, axis)
        return x

"""ATen's convolutions, pooling, and resizing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import Tensor, Translator, aten, bounded

Sizes = Sequence[int]


def _spread(values: Any, rank: int) -> list[int]:
    """Return one number for each axis."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * rank if len(numbers) == 1 else numbers


def _batched(t: Translator, x: Tensor, axes: int) -> tuple[Any, bool]:
    """Add a batch axis to an input without one."""
    missing = x.rank == axes + 1
    return (t.add("Unsqueeze", x, t.constant([0])) if missing else x), missing


def _unbatched(t: Translator, y: str, missing: bool) -> str:
    return t.add("Squeeze", y, t.constant([0])) if missing else y


@aten(*(f"conv{n}d{overload}" for n in (1, 2, 3) for overload in ("", ".padding")))
def conv(
    t: Translator,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> str:
    n = weight.rank - 2
    dilations, kernel = _spread(dilation, n), [int(size or 0) for size in weight.shape[2:]]
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    else:
        pads = [0] * 2 * n if padding == "valid" else _spread(padding, n) * 2
    value, missing = _batched(t, input, n)
    y = t.add(
        "Conv", value, weight, bias, strides=_spread(stride, n), pads=pads, dilations=dilations, group=groups
    )
    return _unbatched(t, y, missing)


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    t: Translator,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> str:
    n = weight.rank - 2
    value, missing = _batched(t, input, n)
    y = t.add(
        "ConvTranspose",
        value,
        weight,
        bias,
        strides=_spread(stride, n),
        pads=_spread(padding, n) * 2,
        output_padding=_spread(output_padding, n),
        dilations=_spread(dilation, n),
        group=groups,
    )
    return _unbatched(t, y, missing)


@aten("convolution", "_convolution")
def convolution(
    t: Translator,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    **hints: Any,
) -> str:
    if transposed:
        return conv_transpose(t, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(t, input, weight, bias, stride, padding, dilation, groups)


@aten(*(f"max_pool{n}d{suffix}" for n in (1, 2, 3) for suffix in ("", "_with_indices")))
def max_pool(
    t: Translator,
    self: Tensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    n = int(t.node.target.partition("max_pool")[2][0])
    kernel = _spread(kernel_size, n)
    value, missing = _batched(t, self, n)
    y, places = t.add_all(
        "MaxPool",
        (value,),
        2,
        kernel_shape=kernel,
        strides=_spread(stride, n) if stride else kernel,
        pads=_spread(padding, n) * 2,
        dilations=_spread(dilation, n),
        ceil_mode=int(ceil_mode),
    )
    if "with_indices" not in t.node.target:
        return _unbatched(t, y, missing)
    # torch counts within each channel, ONNX over all of them.
    sizes = [t.size(self, axis) for axis in range(-n, 0)]
    channel = t.add("ReduceProd", t.vector(sizes), t.constant([0]), keepdims=0)
    return _unbatched(t, y, missing), _unbatched(t, t.add("Mod", places, channel), missing)


@aten(*(f"avg_pool{n}d" for n in (1, 2, 3)))
def avg_pool(
    t: Translator,
    self: Tensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    n = int(t.node.target.partition("avg_pool")[2][0])
    kernel = _spread(kernel_size, n)
    value, missing = _batched(t, self, n)
    y = t.add(
        "AveragePool",
        value,
        kernel_shape=kernel,
        strides=_spread(stride, n) if stride else kernel,
        pads=_spread(padding, n) * 2,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or divisor_override is not None),
    )
    if divisor_override is not None:
        y = t.add("Mul", y, t.cast(math.prod(kernel) / divisor_override, self.dtype))
    return _unbatched(t, y, missing)


@aten(*(f"{name}{n}d" for name in ("adaptive_avg_pool", "_adaptive_avg_pool") for n in (1, 2, 3)))
def adaptive_average(t: Translator, self: Tensor, output_size: Any) -> str:
    return _adaptive(t, self, output_size, "ReduceMean")


@aten(*(f"adaptive_max_pool{n}d" for n in (1, 2, 3)))
def adaptive_maximum(t: Translator, self: Tensor, output_size: Any) -> Any:
    y = _adaptive(t, self, output_size, "ReduceMax")
    return y, None  # not the indices


def _adaptive(t: Translator, x: Tensor, output_size: Any, operation: str) -> str:
    """Reduce each axis to windows from floor(i n / m) to ceil((i + 1) n / m)."""
    sizes = [output_size] if isinstance(output_size, int) else list(output_size)
    value: Any = x
    for axis, m in zip(range(x.rank - len(sizes), x.rank), sizes, strict=True):
        n = x.shape[axis]
        if m == 1:
            value = t.add(operation, value, t.constant([axis]), keepdims=1)
        elif n is None:
            raise ArgumentError("adaptive pooling of an axis of unknown size is supported only to size 1")
        else:
            bounded(m * 64)
            windows = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            parts = []
            for start, end in windows:
                cut = t.add("Slice", value, t.constant([start]), t.constant([end]), t.constant([axis]))
                parts.append(t.add(operation, cut, t.constant([axis]), keepdims=1))
            value = t.add("Concat", *parts, axis=axis)
    return str(value)


@aten(
    "upsample_nearest1d.vec",
    "upsample_nearest2d.vec",
    "upsample_linear1d.vec",
    "upsample_bilinear2d.vec",
    "upsample_bicubic2d.vec",
    "upsample_trilinear3d.vec",
    "_upsample_nearest_exact1d.vec",
    "_upsample_nearest_exact2d.vec",
)
def upsample_vec(
    t: Translator,
    input: Tensor,
    output_size: Any,
    scale_factors: Any = None,
    align_corners: bool = False,
) -> str:
    return _upsample(t, input, output_size, align_corners, scale_factors)


@aten(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
)
def upsample(
    t: Translator, self: Tensor, output_size: Any, align_corners: bool = False, **scales: float | None
) -> str:
    factors = [scale for scale in scales.values() if scale is not None]
    return _upsample(t, self, None if factors else output_size, align_corners, factors)


def _upsample(t: Translator, x: Tensor, output_size: Any, align_corners: bool, factors: Any) -> str:
    n = x.rank - 2
    nearest = "nearest" in t.node.target
    if output_size is not None:
        scales, sizes = None, t.vector([*t.sizes(x)[:2], *output_size])
    else:
        scales, sizes = t.constant([1.0, 1.0, *_spread(factors, n)], np.float32), None
    exact = "exact" in t.node.target
    positions = "align_corners" if align_corners else "half_pixel"
    return t.add(
        "Resize",
        x,
        None,
        scales,
        sizes,
        mode="nearest" if nearest else "cubic" if "cubic" in t.node.target else "linear",
        nearest_mode="round_prefer_ceil" if exact else "floor",
        coordinate_transformation_mode="asymmetric" if nearest and not exact else positions,
    )


@aten("pixel_shuffle")
def pixel_shuffle(t: Translator, self: Tensor, upscale_factor: int) -> str:
    return t.add("DepthToSpace", self, blocksize=upscale_factor, mode="CRD")


@aten("col2im")
def col2im(
    t: Translator,
    self: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes,
    padding: Sizes,
    stride: Sizes,
) -> str:
    value, missing = _batched(t, self, 1)
    y = t.add(
        "Col2Im",
        value,
        t.vector(output_size),
        t.vector(kernel_size),
        dilations=list(dilation),
        pads=list(padding) * 2,
        strides=list(stride),
    )
    return _unbatched(t, y, missing)

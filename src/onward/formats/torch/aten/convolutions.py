"""ATen's convolutions and pooling, and its operators of images: resizing, windows, grids and shuffles."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .expressions import expression
from .reductions import require_elements
from .registry import INT64, Symbol, Tensor, aten, bounded, define
from .shapes import increased, permuted, product, regrouped, reshaped, sliced, windows
from .translator import Translator

Sizes = Sequence[int]
DIMENSIONS = (1, 2, 3)


def spread(values: Any, rank: int) -> list[int]:
    """Return one number for each axis."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * rank if len(numbers) == 1 else numbers


def _windowed(
    t: Translator, operation: str, x: Tensor, n: int, others: Sequence[Any], options: Any, count: int = 1
) -> list[str]:
    """Add an operation over the last n axes of x, which may lack the batch axis."""
    missing = x.rank == n + 1
    value = t.add("Unsqueeze", x, [0]) if missing else x
    outputs = t.add_all(operation, (value, *others), count, **options)
    return [t.add("Squeeze", y, [0]) if missing else y for y in outputs]


@aten(*(f"conv{n}d{overload}" for n in DIMENSIONS for overload in ("", ".padding")), "_convolution_mode")
def conv(
    t: Translator, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> str:  # fmt: skip
    n = weight.rank - 2
    dilations, kernel = spread(dilation, n), [int(size or 0) for size in weight.shape[2:]]
    if padding == "same":
        if None in weight.shape[2:]:
            raise ArgumentError("the padding of a kernel of unknown size is not supported")
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    else:
        pads = [0] * 2 * n if padding == "valid" else spread(padding, n) * 2
    options = {"strides": spread(stride, n), "pads": pads, "dilations": dilations, "group": groups}
    return _windowed(t, "Conv", input, n, (weight, bias), options)[0]


@aten("conv_transpose1d conv_transpose2d.input conv_transpose3d.input")
def conv_transpose(
    t: Translator, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> str:  # fmt: skip
    n = weight.rank - 2
    options = {"strides": stride, "dilations": dilation, "output_padding": output_padding}
    options = {name: spread(values, n) for name, values in options.items()}
    options |= {"pads": spread(padding, n) * 2, "group": groups}
    return _windowed(t, "ConvTranspose", input, n, (weight, bias), options)[0]


@aten("convolution _convolution _convolution.deprecated")
def convolution(
    t: Translator, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int, **hints: Any,
) -> str:  # fmt: skip
    if transposed:
        return conv_transpose(t, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(t, input, weight, bias, stride, padding, dilation, groups)


def _pooling(n: int, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> dict[str, Any]:
    """Return the attributes of a pooling over n axes."""
    kernel = spread(kernel_size, n)
    strides = spread(stride, n) if stride else kernel
    pads = spread(padding, n) * 2
    return {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil_mode)}


def max_pool(
    t: Translator, self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, *, n: int, has_indices: bool,
) -> Any:  # fmt: skip
    """The maximum of windows over n axes, and if it has indices, its place within the channel."""
    options = _pooling(n, kernel_size, stride, padding, ceil_mode)
    y, places = _windowed(t, "MaxPool", self, n, (), {**options, "dilations": spread(dilation, n)}, 2)
    if not has_indices:
        return y
    # torch counts within each channel, ONNX over all of them.
    channel = t.add("ReduceProd", [t.size(self, axis) for axis in range(-n, 0)], [0], keepdims=0)
    return y, t.add("Mod", places, channel)


def avg_pool(
    t: Translator, self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *, n: int,
) -> str:  # fmt: skip
    """The mean of windows over n axes."""
    if self.dtype.kind != "f":
        raise ArgumentError(f"means of {self.dtype} are not supported; expected floats")
    options = _pooling(n, kernel_size, stride, padding, ceil_mode)
    if divisor_override is not None and ceil_mode:
        raise ArgumentError("divisor_override with ceil_mode is not supported")
    counts = int(count_include_pad or divisor_override is not None)
    (y,) = _windowed(t, "AveragePool", self, n, (), {**options, "count_include_pad": counts})
    if divisor_override is None:
        return y
    return t.add("Mul", y, t.cast(math.prod(options["kernel_shape"]) / divisor_override, self.dtype))


def _adaptive(t: Translator, x: Tensor, output_size: Any, operation: str) -> str:
    """Reduce each axis to windows from floor(i n / m) to ceil((i + 1) n / m)."""
    sizes = [output_size] if isinstance(output_size, int) else list(output_size)
    value: Any = x
    if operation == "ReduceMax" or sizes != [1] * len(sizes):  # the mean of no elements is not a number
        require_elements(t, x, range(x.rank - len(sizes), x.rank))
    for axis, m in zip(range(x.rank - len(sizes), x.rank), sizes, strict=True):
        if m == 1:
            value = t.add(operation, value, [axis], keepdims=1)
        elif m is not None:
            bounded(m * 64)
            n = t.size(x, axis)
            windows = [(_share(t, i, n, m, 0), _share(t, i + 1, n, m, m - 1)) for i in range(m)]
            cuts = [sliced(t, value, axis, start, end) for start, end in windows]
            parts = [t.add(operation, cut, [axis], keepdims=1) for cut in cuts]
            value = t.add("Concat", *parts, axis=axis)
    return str(value)


def _share(t: Translator, i: int, n: int | Symbol, m: int, added: int) -> int | Symbol:
    """(i n + added) / m, rounded down"""
    if isinstance(n, int):
        return (i * n + added) // m
    return Symbol(((expression(t, n, INT64) * i + added) / m).name)


@aten("conv_tbc")
def conv_tbc(t: Translator, self: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> str:
    """A convolution over time, whose axes are (time, batch, channels), with weights (taps, in, out)."""
    x, W = t.add("Transpose", self, perm=[1, 2, 0]), t.add("Transpose", weight, perm=[2, 1, 0])
    return t.add("Transpose", t.add("Conv", x, W, bias, pads=[pad, pad]), perm=[2, 0, 1])


@aten("max_unpool2d max_unpool3d")
def max_unpool(
    t: Translator, self: Tensor, indices: Tensor, output_size: Sizes, stride: Any = None, padding: Any = None
) -> str:
    """Zeros, with the elements at their places within each channel."""
    lead = t.sizes(self)[: self.rank - len(output_size)]
    zeros = t.add("ConstantOfShape", [*lead, math.prod(output_size)], value=np.zeros(1, self.dtype))
    flat = [t.add("Reshape", x, [*lead, -1]) for x in (indices, self)]
    return t.add("Reshape", t.add("ScatterElements", zeros, *flat, axis=len(lead)), [*lead, *output_size])


# Images.


# The operators by the attributes of Resize.
NEAREST = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
EXACT = {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
ANTIALIAS = {"antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5}
RESIZED: dict[str, dict[str, Any]] = {
    **{f"upsample_nearest{n}d": NEAREST for n in DIMENSIONS},
    **{f"_upsample_nearest_exact{n}d": EXACT for n in DIMENSIONS},
    **{f"upsample_{kind}": {"mode": "linear"} for kind in ("linear1d", "bilinear2d", "trilinear3d")},
    "upsample_bicubic2d": {"mode": "cubic"},
    "_upsample_bilinear2d_aa": {"mode": "linear", **ANTIALIAS},
    "_upsample_bicubic2d_aa": {"mode": "cubic", **ANTIALIAS},
}


def upsample_vec(
    t: Translator, input: Tensor, output_size: Any, scale_factors: Any = None, align_corners: bool = False,
    *, attributes: Mapping[str, Any],
) -> str:  # fmt: skip
    if output_size is not None:
        return _resized(t, input, None, output_size, [0.0] * len(output_size), align_corners, attributes)
    factors = spread(scale_factors, input.rank - 2)
    if all(float(factor).is_integer() for factor in factors):  # each element is repeated
        return _resized(t, input, factors, None, None, align_corners, attributes)
    sizes = [_truncated_product(t, n, m) for n, m in zip(t.sizes(input)[2:], factors, strict=True)]
    return _resized(t, input, None, sizes, [1 / factor for factor in factors], align_corners, attributes)


def upsample(
    t: Translator, self: Tensor, output_size: Any, align_corners: bool = False,
    *, attributes: Mapping[str, Any], **scales: float | None,
) -> str:  # fmt: skip
    factors = [scales.get(f"scales_{axis}", scales.get("scales")) for axis in "dhw"[3 - len(output_size) :]]
    products = zip(self.shape[2:], output_size, factors, strict=True)
    if all(m is not None and m.is_integer() and (n is None or n * m == size) for n, size, m in products):
        return upsample_vec(t, self, None, factors, align_corners, attributes=attributes)
    steps = [1 / factor if factor else 0.0 for factor in factors]
    return _resized(t, self, None, output_size, steps, align_corners, attributes)


def _truncated_product(t: Translator, size: int | Symbol, factor: float) -> int | Symbol:
    if isinstance(size, int):
        return int(size * factor)
    return Symbol((expression(t, size, np.float64) * factor).cast(INT64).name)


def _resized(
    t: Translator, x: Tensor, factors: Any, output_size: Any, steps: Any, align_corners: bool,
    attributes: Mapping[str, Any],
) -> str:  # fmt: skip
    """Resize by factors, or to sizes with steps, the distances of the coordinates; 0: as the sizes tell."""
    scales = None if factors is None else t.constant([1.0, 1.0, *factors], np.float32)
    sizes = None if output_size is None else [*t.sizes(x)[:2], *output_size]
    if align_corners and (scales or any(steps)) and "antialias" in attributes:
        raise ArgumentError("antialias with align_corners and scale factors is not supported")
    if x.dtype.kind != "f" and attributes["mode"] != "nearest":
        raise ArgumentError(f"interpolation of {x.dtype} is not supported; expected floats")
    positions = "align_corners" if align_corners else "half_pixel"
    options = {"coordinate_transformation_mode": positions, **attributes}
    if steps is not None:
        options["steps"] = [1.0, 1.0, *steps]
    return t.add("Resize", x, None, scales, sizes, **options)


@aten("col2im")
def col2im(
    t: Translator, self: Tensor, output_size: Sizes, kernel_size: Sizes, dilation: Sizes, padding: Sizes,
    stride: Sizes,
) -> str:  # fmt: skip
    options = {"dilations": list(dilation), "pads": list(padding) * 2, "strides": list(stride)}
    return _windowed(t, "Col2Im", self, 1, (output_size, kernel_size), options)[0]


@aten("im2col")
def im2col(
    t: Translator, self: Tensor, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> str:
    """The windows of an image (B, C, H, W) as columns (B, C * kernel, windows)."""
    channels, counts = self.shape[-3], list[int | None]()  # of the windows
    if channels is None or self.rank != 4:
        raise ArgumentError("im2col of an image without a batch or of unknown channels is not supported")
    y = t.add("Pad", self, [0, 0, *padding] * 2, t.cast(0, self.dtype)) if any(padding) else self.name
    for axis, size, step, pad, gap in zip((2, 3), kernel_size, stride, padding, dilation, strict=True):
        span, length = gap * (size - 1) + 1, t.size(self, axis)
        t.require("LessOrEqual", span - 2 * pad, length, f"a window spans {span} elements of fewer")
        count = increased(t, length, 2 * pad - span + 1)
        counts.append(len(range(0, count, step)) if isinstance(count, int) else None)
        y = windows(t, y, 2 * axis - 2, count, size, step, gap)
    y = t.add("Transpose", y, perm=[0, 1, 3, 5, 2, 4])
    sizes = t.sizes(Tensor(y, self.dtype, (self.shape[0], channels, *kernel_size, *counts)))
    return reshaped(t, y, [sizes[0], product(t, sizes[1:4]), product(t, sizes[4:])])


@aten("grid_sampler grid_sampler_2d grid_sampler_3d")
def grid_sampler(
    t: Translator, input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
    align_corners: bool,
) -> str:  # fmt: skip
    mode = ("linear", "nearest", "cubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    options = {"mode": mode, "padding_mode": padding, "align_corners": int(align_corners)}
    return t.add("GridSample", input, grid, **options)


@aten("channel_shuffle native_channel_shuffle")
def channel_shuffle(t: Translator, self: Tensor, groups: int) -> str:
    grouped = regrouped(t, self, 1, 1, [groups, -1])
    order = [0, 2, 1, *range(3, self.rank + 1)]
    shuffled = permuted(t, Tensor(grouped, self.dtype, (None,) * (self.rank + 1)), order)
    return reshaped(t, shuffled, t.sizes(self))


for _n in DIMENSIONS:
    define({
        f"max_pool{_n}d": partial(max_pool, n=_n, has_indices=False),
        f"max_pool{_n}d_with_indices": partial(max_pool, n=_n, has_indices=True),
        f"avg_pool{_n}d": partial(avg_pool, n=_n),
    })  # fmt: skip
for _name, _attributes in RESIZED.items():
    define({
        _name: partial(upsample, attributes=_attributes),
        f"{_name}.vec": partial(upsample_vec, attributes=_attributes),
    })  # fmt: skip
define({
    "pixel_shuffle": lambda t, self, upscale_factor: (
        t.add("DepthToSpace", self, blocksize=upscale_factor, mode="CRD")),
    "pixel_unshuffle": lambda t, self, downscale_factor: (
        t.add("SpaceToDepth", self, blocksize=downscale_factor, mode="CRD")),
    "affine_grid_generator": lambda t, theta, size, align_corners: (
        t.add("AffineGrid", theta, size, align_corners=int(align_corners))),
    **{f"adaptive_avg_pool{n}d" + f" _adaptive_avg_pool{n}d" * (n > 1): lambda t, self, output_size: (
        _adaptive(t, self, output_size, "ReduceMean")) for n in DIMENSIONS},
    **{f"adaptive_max_pool{n}d": lambda t, self, output_size: (
        _adaptive(t, self, output_size, "ReduceMax"), None) for n in DIMENSIONS},  # without the indices
})  # fmt: skip

"""ATen's convolutions and pooling."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .expressions import expression
from .registry import INT64, Symbol, Tensor, Translator, aten, bounded
from .shapes import sliced

Sizes = Sequence[int]


def spread(values: Any, rank: int) -> list[int]:
    """Return one number for each axis."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * rank if len(numbers) == 1 else numbers


def batched(t: Translator, x: Tensor, axes: int) -> tuple[Any, bool]:
    """Add a batch axis to an input without one."""
    missing = x.rank == axes + 1
    return (t.add("Unsqueeze", x, t.constant([0])) if missing else x), missing


def unbatched(t: Translator, y: str, missing: bool) -> str:
    return t.add("Squeeze", y, t.constant([0])) if missing else y


@aten(*(f"conv{n}d{overload}" for n in (1, 2, 3) for overload in ("", ".padding")), "_convolution_mode")
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
    dilations, kernel = spread(dilation, n), [int(size or 0) for size in weight.shape[2:]]
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    else:
        pads = [0] * 2 * n if padding == "valid" else spread(padding, n) * 2
    value, missing = batched(t, input, n)
    y = t.add(
        "Conv", value, weight, bias, strides=spread(stride, n), pads=pads, dilations=dilations, group=groups
    )
    return unbatched(t, y, missing)


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
    value, missing = batched(t, input, n)
    y = t.add(
        "ConvTranspose",
        value,
        weight,
        bias,
        strides=spread(stride, n),
        pads=spread(padding, n) * 2,
        output_padding=spread(output_padding, n),
        dilations=spread(dilation, n),
        group=groups,
    )
    return unbatched(t, y, missing)


@aten("convolution", "_convolution", "_convolution.deprecated")
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
    kernel = spread(kernel_size, n)
    value, missing = batched(t, self, n)
    y, places = t.add_all(
        "MaxPool",
        (value,),
        2,
        kernel_shape=kernel,
        strides=spread(stride, n) if stride else kernel,
        pads=spread(padding, n) * 2,
        dilations=spread(dilation, n),
        ceil_mode=int(ceil_mode),
    )
    if "with_indices" not in t.node.target:
        return unbatched(t, y, missing)
    # torch counts within each channel, ONNX over all of them.
    sizes = [t.size(self, axis) for axis in range(-n, 0)]
    channel = t.add("ReduceProd", t.vector(sizes), t.constant([0]), keepdims=0)
    return unbatched(t, y, missing), unbatched(t, t.add("Mod", places, channel), missing)


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
    kernel = spread(kernel_size, n)
    value, missing = batched(t, self, n)
    y = t.add(
        "AveragePool",
        value,
        kernel_shape=kernel,
        strides=spread(stride, n) if stride else kernel,
        pads=spread(padding, n) * 2,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or divisor_override is not None),
    )
    if divisor_override is not None:
        y = t.add("Mul", y, t.cast(math.prod(kernel) / divisor_override, self.dtype))
    return unbatched(t, y, missing)


@aten(*(f"{name}{n}d" for name in ("adaptive_avg_pool", "_adaptive_avg_pool") for n in (1, 2, 3)))
def adaptive_average(t: Translator, self: Tensor, output_size: Any) -> str:
    return _adaptive(t, self, output_size, "ReduceMean")


@aten(*(f"adaptive_max_pool{n}d" for n in (1, 2, 3)))
def adaptive_maximum(t: Translator, self: Tensor, output_size: Any) -> Any:
    return _adaptive(t, self, output_size, "ReduceMax"), None  # without the indices


def _adaptive(t: Translator, x: Tensor, output_size: Any, operation: str) -> str:
    """Reduce each axis to windows from floor(i n / m) to ceil((i + 1) n / m)."""
    sizes = [output_size] if isinstance(output_size, int) else list(output_size)
    value: Any = x
    for axis, m in zip(range(x.rank - len(sizes), x.rank), sizes, strict=True):
        if m == 1:
            value = t.add(operation, value, t.constant([axis]), keepdims=1)
        elif m is not None:
            bounded(m * 64)
            n = t.size(x, axis)
            windows = [(_share(t, i, n, m, 0), _share(t, i + 1, n, m, m - 1)) for i in range(m)]
            cuts = [sliced(t, value, axis, start, end) for start, end in windows]
            parts = [t.add(operation, cut, t.constant([axis]), keepdims=1) for cut in cuts]
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
    x = t.add("Transpose", self, perm=[1, 2, 0])
    W = t.add("Transpose", weight, perm=[2, 1, 0])
    return t.add("Transpose", t.add("Conv", x, W, bias, pads=[pad, pad]), perm=[2, 0, 1])


@aten("max_unpool2d", "max_unpool3d")
def max_unpool(
    t: Translator, self: Tensor, indices: Tensor, output_size: Sizes, stride: Any = None, padding: Any = None
) -> str:
    """Zeros, with the elements at their places within each channel."""
    n = len(output_size)
    lead = t.sizes(self)[: self.rank - n]
    zeros = t.add("ConstantOfShape", t.vector([*lead, math.prod(output_size)]), value=np.zeros(1, self.dtype))
    flat = [t.add("Reshape", x, t.vector([*lead, -1])) for x in (self, indices)]
    y = t.add("ScatterElements", zeros, flat[1], flat[0], axis=len(lead))
    return t.add("Reshape", y, t.vector([*lead, *output_size]))

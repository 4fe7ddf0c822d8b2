"""Keras' convolutions, pooling and other layers over the axes between batch and channels."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import KerasWarning
from . import version_1
from .activations import activation
from .core_layers import numbers
from .layer import Layer, layer
from .stored_weights import Tensor, conv_weight
from .writer import Value

PADDINGS = ("valid", "same", "causal")


def _axes(k: Layer) -> int:
    """Return the number of spatial axes, from the name of the class."""
    return int(k.config.get("rank") or next((c for c in k.kind_name if c.isdigit()), 2))


def spatial(k: Layer, x: Value, function: Callable[[Value], Value]) -> Value:
    """Apply a function of (B, C, *sizes), whose result has these axes or (B, C)."""
    axes = _axes(k) if x.rank is None else k.rank(x, 2 + _axes(k)) - 2
    channels_first = k.option("data_format", None) == "channels_first"
    if channels_first:
        return function(x)
    y = function(k.transposed(x, 0, 1 + axes, *range(1, 1 + axes)))
    return y if y.rank != 2 + axes else k.transposed(y, 0, *range(2, 2 + axes), 1)


def window_options(k: Layer, kernel: Sequence[int], strides: Any, dilation: Any = 1) -> dict[str, Any]:
    """Return the attributes of windows with Keras' padding; an odd "same" padding is longer at the end."""
    n, padding = len(kernel), k.option("padding", "valid")
    if padding not in PADDINGS:
        raise k.error(f"has padding={padding!r}; expected 'valid', 'same' or 'causal'")
    steps, dilations = numbers(strides, n), numbers(dilation, n)
    options: dict[str, Any] = {"kernel_shape": list(kernel), "strides": steps}
    if max(dilations, default=1) > 1:
        options["dilations"] = dilations
    spans = [d * (size - 1) for size, d in zip(kernel, dilations, strict=True)]
    if padding == "causal":
        options["pads"] = [*spans, *[0] * n]
    elif padding == "same" and max(steps) == 1:
        options["pads"] = [*(span // 2 for span in spans), *(span - span // 2 for span in spans)]
    elif padding == "same":
        options["auto_pad"] = "SAME_UPPER"  # it depends on the size
    return options


def _add_convolution(k: Layer, x: Value, kernel: Value, bias: Value | None, **options: Any) -> Value:
    return spatial(k, k.floats(x), lambda last: k.add("Conv", last, kernel, bias, **options))


@layer("Conv1D", "Conv2D", "Conv3D")
def convolution(k: Layer, x: Value) -> Value:
    """A convolution with a kernel (*sizes, inputs, filters)."""
    bias, groups, filters = k.option("use_bias", True), k.option("groups", 1), k.option("filters")
    size = numbers(k.option("kernel_size"), _axes(k))
    kernel, *rest = _kernels(k, 1 + bias, size)
    if kernel.shape != (*size, kernel.shape[-2], filters):
        raise k.error(f"has a kernel of shape {kernel.shape}; expected (*{size}, ..., {filters})")
    options = window_options(k, size, k.option("strides", 1), k.option("dilation_rate", 1))
    weight = k.weight("kernel", lambda: conv_weight(kernel, k.context.theano))
    own_bias = k.weight("bias", lambda: rest[0]) if rest else None
    return activation(k, _add_convolution(k, x, weight, own_bias, group=groups, **options))


def _kernels(k: Layer, count: int, size: Sequence[int]) -> list[Tensor]:
    """Return the weights; Keras 1 has its own layout of the kernel."""
    found = k.arrays(count)
    if k.context.version != 1 or "kernel" in k.memory:
        return found if k.context.version != 1 else [k.memory["of Keras 1"], *found[1:]]
    first = k.config.get("data_format") == "channels_first"
    k.memory["of Keras 1"] = version_1.kernel(found[0], first, len(size))
    warnings.warn(
        f"Keras 1 does not record whether {k.name} ran in Theano, which flips kernels: assuming TensorFlow",
        KerasWarning,
        stacklevel=2,
    )
    return [k.memory["of Keras 1"], *found[1:]]


def _check_no_groups(k: Layer) -> None:
    if k.option("groups", 1) != 1:
        raise k.error("has groups, which Onward does not support")


@layer("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
def depthwise(k: Layer, x: Value) -> Value:
    """A convolution of each channel on its own; in a SeparableConv, all channels are then combined."""
    separable = k.kind_name.startswith("Separable")
    bias, filters = k.option("use_bias", True), k.option("filters", None)
    _check_no_groups(k)
    kernel, *rest = k.arrays(1 + separable + bias)
    size, multiplier = numbers(k.option("kernel_size"), _axes(k)), k.option("depth_multiplier", 1)
    if kernel.shape != (*size, kernel.shape[-2], multiplier):
        raise k.error(f"has a kernel of shape {kernel.shape}; expected (*{size}, ..., {multiplier})")
    C = kernel.shape[-2]
    grouped = kernel.reshape(*size, 1, C * multiplier)
    options = window_options(k, size, k.option("strides", 1), k.option("dilation_rate", 1))
    weight = k.weight("depthwise_kernel", lambda: conv_weight(grouped, k.context.theano))
    own_bias = k.weight("bias", lambda: rest[-1]) if bias else None

    def combined(last: Value) -> Value:
        if not separable:
            return k.add("Conv", last, weight, own_bias, group=C, **options)
        filtered = k.add("Conv", last, weight, group=C, **options)
        pointwise = k.weight("pointwise_kernel", lambda: conv_weight(rest[0], False))
        if pointwise.rank and k.memory["pointwise_kernel"].shape[0] != filters:
            raise k.error(f"has a pointwise kernel of shape {rest[0].shape}; expected {filters} filters")
        return k.add("Conv", filtered, pointwise, own_bias, kernel_shape=[1] * len(size))

    return activation(k, spatial(k, k.floats(x), combined))


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed_convolution(k: Layer, x: Value) -> Value:
    """A transposed convolution with a kernel (*sizes, filters, inputs)."""
    bias, filters, padding = k.option("use_bias", True), k.option("filters"), k.option("padding", "valid")
    n = _axes(k)
    _check_no_groups(k)
    size, steps = numbers(k.option("kernel_size"), n), numbers(k.option("strides", 1), n)
    dilations, extra = numbers(k.option("dilation_rate", 1), n), k.option("output_padding", None)
    kernel, *rest = k.arrays(1 + bias)
    if kernel.shape[:-1] != (*size, filters):
        raise k.error(f"has a kernel of shape {kernel.shape}; expected (*{size}, {filters}, ...)")
    weight = k.weight("kernel", lambda: kernel.transpose(-1, -2, *range(n)))
    own_bias = k.weight("bias", lambda: rest[0]) if rest else None
    options: dict[str, Any] = {"kernel_shape": size, "strides": steps, "dilations": dilations}
    extras = [None] * n if extra is None else numbers(extra, n)
    crops = [_cropped(*each, padding) for each in zip(size, steps, dilations, extras, strict=True)]
    before, after = zip(*crops, strict=True)
    options |= {"pads": [*before, *(max(0, each) for each in after)]}
    options |= {"output_padding": [max(0, -each) for each in after]}
    y = spatial(k, k.floats(x), lambda last: k.add("ConvTranspose", last, weight, own_bias, **options))
    return activation(k, y)


def _cropped(size: int, step: int, dilation: int, extra: int | None, padding: str) -> tuple[int, int]:
    """Return how many elements Keras crops from each end of the full output; a negative number adds zeros."""
    span = (size - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(span, step) - span if extra is None else extra)
    whole = step + span - 2 if extra is None else span + span % 2 - 2 + extra
    before = min(whole // 2 + whole % 2, span - 1)
    return span - 1 - before, span - 1 - (whole - before)


def _pooling(kind: str, operation: str) -> None:
    @layer(*(f"{kind}Pooling{n}D" for n in (1, 2, 3)))
    def pooling(k: Layer, x: Value) -> Value:
        """The largest element or the average of each window; padding does not count."""
        size = numbers(k.option("pool_size", 2), _axes(k))
        options = window_options(k, size, k.option("strides", None) or size)
        return spatial(k, k.floats(x), lambda last: k.add(operation, last, **options))


_pooling("Max", "MaxPool")
_pooling("Average", "AveragePool")


def _global_pooling(kind: str, operation: str) -> None:
    @layer(*(f"Global{kind}Pooling{n}D" for n in (1, 2, 3)), arguments=("mask",))
    def global_pooling(k: Layer, x: Value) -> Value:
        """The largest element or the average of each channel; an average over time omits masked steps."""
        keepdims, mask, x = k.option("keepdims", False), x.mask, k.floats(x)
        axes = list(range(2, 2 + _axes(k)))
        if mask is None or kind == "Max" or len(axes) > 1:
            return spatial(k, x, lambda last: k.reduced(operation, last, axes, keepdims))
        counts = k.cast(mask, x.dtype)
        steps = k.add("ReduceSum", counts, np.array([1]), keepdims=1)

        def average(last: Value) -> Value:
            total = k.reduced("ReduceSum", k.zeros_where(k.unsqueezed(mask, 1), last), axes, keepdims)
            return k.add("Div", total, k.unsqueezed(steps, -1) if keepdims else steps, rank=total.rank)

        return spatial(k, x, average)


_global_pooling("Max", "ReduceMax")
_global_pooling("Average", "ReduceMean")


def _padding(kind: str, key: str, sign: int) -> None:
    @layer(*(f"{kind}{n}D" for n in (1, 2, 3)))
    def padding(k: Layer, x: Value) -> Value:
        """Zeros around each axis, or elements removed from its ends."""
        value, n = k.option(key), _axes(k)
        pairs = [value] if n == 1 else [value] * n if isinstance(value, int) else value
        sides = [[each, each] if isinstance(each, int) else each for each in pairs]
        before, after = ([sign * side[end] for side in sides] for end in (0, 1))
        widths = np.array([0, 0, *before, 0, 0, *after], np.int64)
        return spatial(k, x, lambda last: k.add("Pad", last, widths, k.zero(x)))


_padding("ZeroPadding", "padding", 1)
_padding("Cropping", "cropping", -1)


@layer("Resizing")
def resizing(k: Layer, x: Value) -> Value:
    """Images (B, H, W, C) of another size, interpolated linearly."""
    sizes = np.array([k.option("height"), k.option("width")], np.int64)
    for key in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if k.option(key, False):
            raise k.error(f"has {key}=True, which Onward does not support")
    for key in ("fill_mode", "fill_value"):  # act in padding
        k.option(key, None)
    return _interpolated(k, x, None, sizes)


def _interpolated(k: Layer, x: Value, *sizes: Any) -> Value:
    if (given := k.option("interpolation", "bilinear")) != "bilinear":
        raise k.error(f"has interpolation={given!r}, which Onward does not support")
    k.rank(x, 4)
    return spatial(
        k, k.floats(x), lambda last: k.add("Resize", last, None, *sizes, axes=[2, 3], mode="linear")
    )


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(k: Layer, x: Value) -> Value:
    """Each element repeated along each axis, or interpolated linearly."""
    size = numbers(k.option("size", 2), _axes(k))
    if k.config.get("interpolation", "nearest") != "nearest":
        return _interpolated(k, x, np.array(size, np.float32))
    k.option("interpolation", None)

    def repeated(last: Value) -> Value:
        for axis, times in enumerate(size, 2):
            last = repeat(k, last, times, axis)
        return last

    return spatial(k, x, repeated)


def repeat(k: Layer, x: Value, times: int, axis: int) -> Value:
    """Repeat each element along an axis."""
    rank = k.rank(x)
    shape = np.ones(rank + 1, np.int64)
    shape[axis + 1] = times
    copies = k.add("Expand", k.unsqueezed(x, axis + 1), shape, rank=rank + 1)
    sizes: list[int | Value] = [k.shape_of(x, *range(axis)), -1] if axis else [-1]
    after = [k.shape_of(x, *range(axis + 1, rank))] if axis + 1 < rank else []
    return k.reshaped(copies, *sizes, *after, rank=rank)

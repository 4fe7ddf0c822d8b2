"""Keras' convolutions, pooling and other layers over the axes between batch and channels."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import KerasWarning
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
    if k.option("data_format", None) == "channels_first":
        return function(x)
    y = function(k.transposed(x, 0, 1 + axes, *range(1, 1 + axes)))
    return y if y.rank != 2 + axes else k.transposed(y, 0, *range(2, 2 + axes), 1)


def window_options(k: Layer, kernel: Sequence[int], strides: Any = None) -> dict[str, Any]:
    """Return the attributes of windows with Keras' padding; an odd "same" padding is longer at the end."""
    n, padding = len(kernel), k.option("padding", "valid")
    if padding not in PADDINGS:
        raise k.error(f"has padding={padding!r}; expected 'valid', 'same' or 'causal'")
    steps, dilations = numbers(strides or k.option("strides", 1), n), numbers(k.option("dilation_rate", 1), n)
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


def _check(k: Layer, kernel: Tensor, *expected: Any, name: str = "kernel") -> None:
    """Raise FileError unless the kernel has this shape; None stands for any number of inputs."""
    sizes = zip(kernel.shape, expected, strict=False)
    if kernel.ndim != len(expected) or any(each not in (None, size) for size, each in sizes):
        shape = ", ".join("inputs" if each is None else str(each) for each in expected)
        raise k.error(f"has a {name} of shape {kernel.shape}; expected ({shape})")


@layer("Conv1D", "Conv2D", "Conv3D")
def convolution(
    k: Layer, x: Value, *, filters: int, kernel_size: Any, use_bias: bool = True, groups: int = 1
) -> Value:
    """A convolution with a kernel (*sizes, inputs, filters)."""
    size = numbers(kernel_size, _axes(k))
    kernel, bias = k.arrays(True, use_bias)
    if k.context.version == 1:
        if "kernel" not in k.memory:
            warnings.warn(
                f"Keras 1 does not record whether {k.name} ran in Theano, which flips kernels: "
                "assuming TensorFlow",
                KerasWarning,
                stacklevel=2,
            )
        # the kernel of one axis has another of size 1
        if k.config.get("data_format") == "channels_first" or (len(size) == 1 and kernel.shape[1] != 1):
            kernel = kernel.transpose(2, 3, 1, 0)
        kernel = kernel[:, 0] if len(size) == 1 else kernel
    _check(k, kernel, *size, None, filters)
    weights = k.weight("kernel", conv_weight(kernel, k.context.theano)), k.weight("bias", bias)
    options = window_options(k, size)
    y = spatial(k, k.floats(x), lambda last: k.add("Conv", last, *weights, group=groups, **options))
    return activation(k, y)


@layer("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
def depthwise(k: Layer, x: Value, *, kernel_size: Any, use_bias: bool = True) -> Value:
    """A convolution of each channel on its own; in a SeparableConv, all channels are then combined."""
    multiplier, filters = k.option("depth_multiplier", 1), k.option("filters", None)
    separable = k.kind_name.startswith("Separable")
    kernel, pointwise, bias = k.arrays(True, separable, use_bias)
    size = numbers(kernel_size, _axes(k))
    _check(k, kernel, *size, None, multiplier)
    C = kernel.shape[-2]
    grouped = kernel.reshape(*size, 1, C * multiplier)
    weight = k.weight("depthwise_kernel", conv_weight(grouped, k.context.theano))
    own_bias = k.weight("bias", bias)
    options = window_options(k, size)

    def combined(last: Value) -> Value:
        if not separable:
            return k.add("Conv", last, weight, own_bias, group=C, **options)
        filtered = k.add("Conv", last, weight, group=C, **options)
        _check(k, pointwise, *[1] * len(size), C * multiplier, filters, name="pointwise kernel")
        mixing = k.weight("pointwise_kernel", conv_weight(pointwise, False))
        return k.add("Conv", filtered, mixing, own_bias, kernel_shape=[1] * len(size))

    return activation(k, spatial(k, k.floats(x), combined))


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed_convolution(k: Layer, x: Value, *, filters: int, use_bias: bool = True) -> Value:
    """A transposed convolution with a kernel (*sizes, filters, inputs)."""
    n, padding, extra = _axes(k), k.option("padding", "valid"), k.option("output_padding", None)
    size = numbers(k.option("kernel_size"), n)
    steps, dilations = (numbers(k.option(key, 1), n) for key in ("strides", "dilation_rate"))
    kernel, bias = k.arrays(True, use_bias)
    _check(k, kernel, *size, filters, None)
    weights = k.weight("kernel", kernel.transpose(-1, -2, *range(n))), k.weight("bias", bias)
    extras = [None] * n if extra is None else numbers(extra, n)
    crops = [_cropped(*each, padding) for each in zip(size, steps, dilations, extras, strict=True)]
    before, after = zip(*crops, strict=True)
    options: dict[str, Any] = {"kernel_shape": size, "strides": steps, "dilations": dilations}
    options["pads"] = [*before, *(max(0, each) for each in after)]
    options["output_padding"] = [max(0, -each) for each in after]
    y = spatial(k, k.floats(x), lambda last: k.add("ConvTranspose", last, *weights, **options))
    return activation(k, y)


def _cropped(size: int, step: int, dilation: int, extra: int | None, padding: str) -> tuple[int, int]:
    """Return how many elements Keras crops from each end of the full output; a negative number adds zeros."""
    span = (size - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(span, step) - span if extra is None else extra)
    whole = step + span - 2 if extra is None else span + span % 2 - 2 + extra
    before = min(whole // 2 + whole % 2, span - 1)
    return span - 1 - before, span - 1 - (whole - before)


@layer(*(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
def pooling(k: Layer, x: Value, *, pool_size: Any = 2, strides: Any = None) -> Value:
    """Pooling over windows, where padding does not count."""
    size = numbers(pool_size, _axes(k))
    options = window_options(k, size, strides or size)
    operation = "MaxPool" if k.kind_name.startswith("Max") else "AveragePool"
    return k.cast(spatial(k, k.floats(x), lambda last: k.add(operation, last, **options)), x.dtype)


@layer(*(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)), arguments=("mask",))
def global_pooling(k: Layer, x: Value, *, keepdims: bool = False) -> Value:
    """Pooling over all places; the average over time omits masked steps."""
    mask, x, dtype = x.mask, k.floats(x), x.dtype
    axes = list(range(2, 2 + _axes(k)))
    if k.kind_name.startswith("GlobalMax"):
        return k.cast(spatial(k, x, lambda last: k.reduced("ReduceMax", last, axes, keepdims)), dtype)
    if dtype.kind != "f" and k.context.version < 3:
        raise k.error(f"takes {dtype}: TensorFlow computes integers here, which Onward does not support")
    if mask is None or len(axes) > 1:
        return spatial(k, x, lambda last: k.reduced("ReduceMean", last, axes, keepdims))
    steps = k.add("ReduceSum", k.cast(mask, x.dtype), np.array([1]), keepdims=1)

    def average(last: Value) -> Value:
        total = k.reduced("ReduceSum", k.where(k.unsqueezed(mask, 1), last), axes, keepdims)
        return k.add("Div", total, k.unsqueezed(steps, -1) if keepdims else steps)

    return spatial(k, x, average)


@layer(*(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping") for n in (1, 2, 3)))
def padding(k: Layer, x: Value) -> Value:
    """Zeros around each axis, or elements removed from its ends."""
    key, sign = ("cropping", -1) if k.kind_name.startswith("Cropping") else ("padding", 1)
    value, n = k.option(key), _axes(k)
    pairs = [value] if n == 1 else [value] * n if isinstance(value, int) else value
    sides = [[each, each] if isinstance(each, int) else each for each in pairs]
    before, after = ([sign * side[end] for side in sides] for end in (0, 1))
    widths = np.array([0, 0, *before, 0, 0, *after], np.int64)
    return spatial(k, x, lambda last: k.add("Pad", last, widths, 0))


@layer("Resizing")
def resizing(k: Layer, x: Value, *, height: int, width: int, interpolation: str = "bilinear") -> Value:
    """Images (B, H, W, C) of another size, interpolated linearly."""

    def sizes(last: Value) -> Value:
        return k.add(
            "Concat", k.sliced(k.shape_of(last), 0, 0, 2), np.array([height, width], np.int64), axis=0
        )

    return _interpolated(k, x, interpolation, lambda last: (None, sizes(last)))


def _interpolated(k: Layer, x: Value, interpolation: str, sizes: Callable[[Value], tuple[Any, ...]]) -> Value:
    """Resize images; `sizes` are those of all axes, because onnxruntime permutes others wrongly."""
    if interpolation != "bilinear":
        raise k.error(f"has interpolation={interpolation!r}, which Onward does not support")
    k.rank(x, 4)
    return spatial(k, k.floats(x), lambda last: k.add("Resize", last, None, *sizes(last), mode="linear"))


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(k: Layer, x: Value, *, size: Any = 2, interpolation: str = "nearest") -> Value:
    """Each element repeated along each axis, or interpolated linearly."""
    sizes = numbers(size, _axes(k))
    if interpolation != "nearest":
        scales = np.array([1, 1, *sizes], np.float32)
        return _interpolated(k, x, interpolation, lambda last: (scales,))

    def repeated(last: Value) -> Value:
        for axis, times in enumerate(sizes, 2):
            last = repeat(k, last, times, axis)
        return last

    return spatial(k, x, repeated)


def repeat(k: Layer, x: Value, times: int, axis: int) -> Value:
    """Repeat each element along an axis."""
    rank = k.rank(x)
    shape = np.ones(rank + 1, np.int64)
    shape[axis + 1] = times
    copies = k.add("Expand", k.unsqueezed(x, axis + 1), shape)
    sizes: list[int | Value] = [k.shape_of(x, *range(axis)), -1] if axis else [-1]
    after = [k.shape_of(x, *range(axis + 1, rank))] if axis + 1 < rank else []
    return k.reshaped(copies, *sizes, *after, rank=rank)

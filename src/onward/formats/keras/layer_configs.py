"""From the configurations of Keras' layers to Onward's: one function for each kind of layer."""

import warnings
from collections.abc import Callable

import numpy as np

from ... import layers
from ...errors import FileError, KerasWarning
from ...layers import norm
from ...layers.base import NO_WEIGHTS
from . import runtime, version_1
from .source import REQUIRED, Source, filled
from .stored_weights import conv_weight


def _dense(source: Source) -> runtime.KerasLayer:
    units, bias, dtype = source.take("units"), source.take("use_bias", True), source.dtype()
    kernel, *rest = source.weights.take(1 + bias)
    if kernel.ndim != 2 or kernel.shape[1] != units:
        raise FileError(f"the kernel of {source.name} has shape {kernel.shape}; expected (inputs, {units})")
    dense = layers.Linear(kernel.shape[0], units, bias, dtype=dtype, rng=NO_WEIGHTS)
    weights = {"weight": kernel.T} | ({"bias": rest[0]} if bias else {})
    return runtime.Dense(filled(dense, weights), source.activation())


def _embedding(source: Source) -> runtime.KerasLayer:
    shape = source.take("input_dim"), source.take("output_dim")
    (table,) = source.weights.take(1)
    layer = layers.Embedding(*shape, dtype=source.dtype(), rng=NO_WEIGHTS)
    return runtime.Embedding(filled(layer, {"weight": table}), source.take("mask_zero", False))


def _masking(source: Source) -> runtime.KerasLayer:
    value = source.take("mask_value", 0.0)
    source.dtype()
    return runtime.Masking(value["config"]["value"] if isinstance(value, dict) else value)


def _identity(source: Source) -> runtime.KerasLayer:
    for key in ("dtype", "l1", "l2", "data_format"):
        source.take(key, None)
    return runtime.Identity()


def _activation(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return source.activation(default=REQUIRED)


def _parametric(name: str, **keys: str) -> Callable[[Source], runtime.KerasLayer]:
    """A layer that is an activation with parameters: each by its key in Keras 3, or that of Keras 2."""

    def read(source: Source) -> runtime.KerasLayer:
        source.dtype()
        parameters = {}
        for parameter, older in keys.items():
            if parameter in source.config or older in source.config:
                value = source.take(older, None) if older in source.config else source.take(parameter)
                parameters[parameter] = value["config"]["value"] if isinstance(value, dict) else value
        return runtime.Activation(name, parameters)

    return read


def _leaky_relu(source: Source) -> runtime.KerasLayer:
    source.config.setdefault("negative_slope", source.config.pop("alpha", 0.3))
    return _parametric("leaky_relu", negative_slope="negative_slope")(source)


def _softmax(source: Source) -> runtime.KerasLayer:
    source.dtype()
    axis = source.take("axis", -1)
    if isinstance(axis, list):
        raise source.error(f"has axis={axis}, several axes, which Onward does not support")
    return runtime.Softmax(axis)


def _flatten(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.Flatten(source.take("data_format", None) == "channels_first")


def _reshape(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.Reshape(source.take("target_shape"))


def _permute(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.Permute(source.take("dims"))


def _repeat(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.RepeatVector(source.take("n"))


def _merge(operation: str) -> Callable[[Source], runtime.KerasLayer]:
    def read(source: Source) -> runtime.KerasLayer:
        source.dtype()
        return runtime.Merge(operation, every=source.context.version < 3)

    return read


def _concatenate(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.Concatenate(source.take("axis", -1), every=source.context.version < 3)


def _dot(source: Source) -> runtime.KerasLayer:
    source.dtype()
    axes = source.take("axes")
    return runtime.Dot([axes, axes] if isinstance(axes, int) else axes, source.take("normalize", False))


def _attention(source: Source) -> runtime.KerasLayer:
    additive = source.kind == "AdditiveAttention"
    scaled = source.take("use_scale", additive)
    mode = source.take("score_mode", "dot")
    score = "additive" if additive else mode
    if source.take("causal", False):
        raise source.error("has causal=True, which Onward does not support")
    weights = source.weights.take(scaled + (score == "concat"))
    layer = runtime.Attention(
        score, weights[0].size if scaled else 0, score == "concat", dtype=source.dtype(), rng=NO_WEIGHTS
    )
    return filled(layer, {n: w.reshape(-1) for (n, _), w in zip(layer.shapes(), weights, strict=True)})


def _convolution(source: Source) -> runtime.KerasLayer:
    layer_type = {"Conv1D": layers.Conv1d, "Conv2D": layers.Conv2d}[source.kind]
    bias, groups, filters = source.take("use_bias", True), source.take("groups", 1), source.take("filters")
    size = tuple(source.take("kernel_size"))
    kernel, *rest = source.weights.take(1 + bias)
    first = _channels_first(source)
    if source.context.version == 1:
        kernel = version_1.kernel(kernel, first, len(size))
        warnings.warn(
            f"Keras 1 does not say whether Theano computed {source.name}, which turns kernels around: "
            "taken for TensorFlow",
            KerasWarning,
            stacklevel=2,
        )
    if kernel.shape != (*size, kernel.shape[-2], filters):
        raise FileError(
            f"the kernel of {source.name} has shape {kernel.shape}; expected (*{size}, ..., {filters})"
        )
    stride, dilation = source.take("strides", 1), source.take("dilation_rate", 1)
    windows = layer_type(
        kernel.shape[-2] * groups,
        filters,
        size,
        stride,
        dilation=dilation,
        groups=groups,
        bias=bias,
        dtype=source.dtype(),
        rng=NO_WEIGHTS,
    )
    weights = {"weight": conv_weight(kernel, source.context.theano)} | ({"bias": rest[0]} if bias else {})
    padding = source.take("padding", "valid")
    return runtime.Convolution(filled(windows, weights), source.activation(), padding, first)


def _depthwise(source: Source) -> runtime.KerasLayer:
    """Each channel on its own; of a SeparableConv, then all in each place."""
    separable, axes = source.kind.startswith("Separable"), int(source.kind[-2])
    layer_type = {1: layers.Conv1d, 2: layers.Conv2d}[axes]
    bias, dtype = source.take("use_bias", True), source.dtype()
    if source.take("groups", 1) != 1:
        raise source.error("has groups, which Onward does not support")
    kernel, *rest = source.weights.take(1 + separable + bias)
    size, multiplier = tuple(source.take("kernel_size")), source.take("depth_multiplier", 1)
    if kernel.shape != (*size, kernel.shape[-2], multiplier):
        raise source.error(f"has a kernel of shape {kernel.shape}; expected (*{size}, ..., {multiplier})")
    C = kernel.shape[-2]
    strides, dilation = source.take("strides", 1), source.take("dilation_rate", 1)
    windows = layer_type(
        *(C, C * multiplier, size, strides),
        dilation=dilation,
        groups=C,
        bias=bias and not separable,
        dtype=dtype,
        rng=NO_WEIGHTS,
    )
    weights = {"weight": conv_weight(kernel.reshape(*size, 1, C * multiplier), source.context.theano)}
    if bias and not separable:
        weights["bias"] = rest[-1]
    first = _channels_first(source)
    apart, activation = filled(windows, weights), source.activation()
    padding = source.take("padding", "valid")
    if not separable:
        source.take("filters", None)
        return runtime.Convolution(apart, activation, padding, first)
    one = (1,) * axes
    together = layer_type(C * multiplier, source.take("filters"), one, bias=bias, dtype=dtype, rng=NO_WEIGHTS)
    filled(together, {"weight": conv_weight(rest[0], False)} | ({"bias": rest[-1]} if bias else {}))
    by_name = {
        "depthwise": runtime.Convolution(apart, runtime.Activation("linear"), padding, first),
        "pointwise": runtime.Convolution(together, activation, "valid", first),
    }
    nodes = [{"layer": name, "inputs": [[number, 0]]} for number, name in enumerate(by_name)]
    return runtime.Model(by_name, nodes, {"x": str(dtype)}, [[len(nodes), 0]])


def _padding(key: str, sign: int) -> Callable[[Source], runtime.KerasLayer]:
    def read(source: Source) -> runtime.KerasLayer:
        source.dtype()
        value = source.take(key)
        if source.kind.endswith("1D"):
            value = [value]
        elif isinstance(value, int):
            value = [value] * 2
        pairs = [[each, each] if isinstance(each, int) else each for each in value]
        places = [[sign * each for each in pair] for pair in pairs]
        return runtime.Padding(places, _channels_first(source))

    return read


def _up_sampling(source: Source) -> runtime.KerasLayer:
    source.dtype()
    if source.take("interpolation", "nearest") != "nearest":
        raise source.error("interpolates otherwise than by the nearest, which Onward does not support")
    size, axes = source.take("size", 2), int(source.kind[-2])
    return runtime.UpSampling([size] * axes if isinstance(size, int) else size, _channels_first(source))


def _rescaling(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.Rescaling(source.take("scale"), source.take("offset", 0.0))


def _prelu(source: Source) -> runtime.KerasLayer:
    source.take("shared_axes", None)  # of size 1 in alpha
    (alpha,) = source.weights.take(1)
    return filled(runtime.PReLU([*alpha.shape], dtype=source.dtype(), rng=NO_WEIGHTS), {"alpha": alpha})


def _channels_first(source: Source) -> bool:
    return bool(source.take("data_format", None) == "channels_first")


def _pooling(kind: str, axes: int) -> Callable[[Source], runtime.KerasLayer]:
    def read(source: Source) -> runtime.KerasLayer:
        source.dtype()
        size = source.take("pool_size", 2)
        strides = source.take("strides", None) or size
        size, strides = ([each] * axes if isinstance(each, int) else list(each) for each in (size, strides))
        padding = source.take("padding", "valid")
        return runtime.Pooling(kind, size, strides, padding, _channels_first(source))

    return read


def _global_pooling(kind: str) -> Callable[[Source], runtime.KerasLayer]:
    def read(source: Source) -> runtime.KerasLayer:
        source.dtype()
        return runtime.GlobalPooling(kind, source.take("keepdims", False), _channels_first(source))

    return read


def _batch_normalization(source: Source) -> runtime.KerasLayer:
    scale, center, axis = source.take("scale", True), source.take("center", True), source.take("axis", -1)
    arrays = source.weights.take(2 + scale + center)
    C = arrays[-1].size
    weights = {
        "weight": arrays[0] if scale else np.ones(C),
        "bias": arrays[scale] if center else np.zeros(C),
        "running_mean": arrays[-2],
        "running_var": arrays[-1],
        "num_batches_tracked": np.zeros(()),
    }
    layer = norm.BatchNorm1d(C, source.take("epsilon", 1e-3), dtype=source.dtype(), rng=NO_WEIGHTS)
    return runtime.BatchNormalization(filled(layer, weights), axis[0] if isinstance(axis, list) else axis)


def _normalization(source: Source) -> runtime.KerasLayer:
    """By a mean and a variance that were measured: as a BatchNormalization."""
    axis = source.take("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != 1 or axes[0] is None or source.take("invert", False):
        raise source.error(f"has axis={axis} or is inverted, which Onward does not support")
    if source.take("mean", None) is not None or source.take("variance", None) is not None:
        raise source.error("has a mean and a variance written in it, which Onward does not support")
    mean, variance, _ = source.weights.take(3)
    weights = {
        "running_mean": mean,
        "running_var": np.maximum(variance, 1e-14),  # as Keras, whose deviation is at least 1e-7
        "num_batches_tracked": np.zeros(()),
    }
    layer = norm.BatchNorm1d(mean.size, 0.0, affine=False, dtype=source.dtype(), rng=NO_WEIGHTS)
    return runtime.BatchNormalization(filled(layer, weights), axes[0])


def _group_normalization(source: Source) -> runtime.KerasLayer:
    scale, center, axis = source.take("scale", True), source.take("center", True), source.take("axis", -1)
    arrays = source.weights.take(scale + center)
    if not arrays:
        raise source.error("has neither scale nor center: its size is unknown")
    C, groups = arrays[0].size, source.take("groups", 32)
    weights = {
        "weight": arrays[0] if scale else np.ones(C),
        "bias": arrays[-1] if center else np.zeros(C),
    }
    layer = norm.GroupNorm(
        C if groups == -1 else groups, C, source.take("epsilon", 1e-3), dtype=source.dtype(), rng=NO_WEIGHTS
    )
    return runtime.GroupNormalization(filled(layer, weights), axis)


def _unit_normalization(source: Source) -> runtime.KerasLayer:
    source.dtype()
    axis = source.take("axis", -1)
    return runtime.UnitNormalization(axis if isinstance(axis, list) else [axis])


def _layer_normalization(source: Source) -> runtime.KerasLayer:
    scale, center, axis = source.take("scale", True), source.take("center", True), source.take("axis", -1)
    if source.take("rms_scaling", False):
        raise source.error("has rms_scaling=True, which Onward does not support")
    axes = axis if isinstance(axis, list) else [axis]
    if len({each < 0 for each in axes}) > 1:
        raise source.error(f"has axis={axes}, counted from both ends, whose order Onward does not know")
    arrays = source.weights.take(scale + center)
    if not arrays:
        raise source.error("has neither scale nor center: its size is unknown")
    sizes = dict(zip(axes, arrays[0].shape, strict=True))
    shape = tuple(sizes[each] for each in sorted(axes))
    weights = {
        # Keras reshapes what stands in the order of `axis` to the order of x, and transposes nothing
        "weight": arrays[0].reshape(shape) if scale else np.ones(shape),
        "bias": arrays[-1].reshape(shape) if center else np.zeros(shape),
    }
    layer = norm.LayerNorm(shape, source.take("epsilon", 1e-3), dtype=source.dtype(), rng=NO_WEIGHTS)
    return runtime.LayerNormalization(filled(layer, weights), sorted(axes))


BUILDERS: dict[str, Callable[[Source], runtime.KerasLayer]] = {
    "Dense": _dense,
    "Embedding": _embedding,
    "Masking": _masking,
    "Activation": _activation,
    "ReLU": _parametric("relu", negative_slope="negative_slope", max_value="max_value", threshold="theta"),
    "LeakyReLU": _leaky_relu,
    "ELU": _parametric("elu", alpha="alpha"),
    "ThresholdedReLU": _parametric("threshold", threshold="theta"),
    "Softmax": _softmax,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Concatenate": _concatenate,
    "Dot": _dot,
    "Attention": _attention,
    "AdditiveAttention": _attention,
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Normalization": _normalization,
    "GroupNormalization": _group_normalization,
    "UnitNormalization": _unit_normalization,
    "Rescaling": _rescaling,
    "PReLU": _prelu,
    **{
        f"{name}{axes}D": build
        for axes in (1, 2)
        for name, build in (
            ("DepthwiseConv", _depthwise), ("SeparableConv", _depthwise), ("UpSampling", _up_sampling),
            ("ZeroPadding", _padding("padding", 1)), ("Cropping", _padding("cropping", -1)),
        )
    },
    **{
        f"{name}{axes}D": _pooling(kind, axes)
        for name, kind in (("MaxPooling", "max"), ("AveragePooling", "average"))
        for axes in (1, 2)
    },
    **{
        f"Global{name}{axes}D": _global_pooling(kind)
        for name, kind in (("MaxPooling", "max"), ("AveragePooling", "average"))
        for axes in (1, 2)
    },
    **{
        kind: _identity
        for kind in (
            "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout",
            "GaussianNoise", "AlphaDropout", "ActivityRegularization", "Identity",
        )
    },
    **{
        kind: _merge(kind.lower())
        for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    },
}  # fmt: skip

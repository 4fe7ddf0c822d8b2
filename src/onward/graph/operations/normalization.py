"""Softmax and the normalizations; each row is normalized on its own."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ... import _core
from ...errors import ShapeError
from ...layers.norm import channel_factors, standardized
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .reductions import ROWS, lower_mean, over_rows, row_sums
from .registry import Inputs, Known, combining, known, like_first, lowering, operation, view


def softmax_rows(x: AnyArray, logarithm: bool) -> AnyArray:
    """Return the softmax of x (..., F) along its last axis, or its logarithm."""
    if x.dtype not in (np.float32, np.float64):  # each step is rounded to half precision
        shifted = x - x.max(-1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(-1, keepdims=True)
        return np.asarray(shifted - np.log(total) if logarithm else powers / total)
    rows = np.ascontiguousarray(x)
    y = np.empty_like(rows)
    flat = (math.prod(x.shape[:-1]), x.shape[-1])
    _core.softmax(rows.reshape(flat), logarithm, y.reshape(flat))
    return y


def _along(x: AnyArray, axis: int, logarithm: bool) -> AnyArray:
    if x.size == 0:
        return x
    return np.moveaxis(softmax_rows(np.moveaxis(x, axis, -1), logarithm), -1, axis)


@operation("Softmax", signature=like_first)
def softmax(x: AnyArray, *, axis: int = -1) -> AnyArray:
    """exp(x - max x) / sum(exp(x - max x)) along an axis."""
    return _along(x, axis, False)


@operation("LogSoftmax", signature=like_first)
def log_softmax(x: AnyArray, *, axis: int = -1) -> AnyArray:
    """The logarithm of Softmax, without overflow."""
    return _along(x, axis, True)


@lowering("Softmax", "LogSoftmax")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or 0 in x.shape:
        return None
    axis = node.attributes.get("axis", -1) % len(x.shape)
    return [b.rows("softmax", node.operation == "LogSoftmax", x, [axis])]


def broadcast_into_first(x: Known, *others: Known | None, **attributes: Any) -> Signature:
    """The output has the shape and dtype of the first input, into whose shape the others broadcast."""
    for other in others:
        if other is not None and np.broadcast_shapes(x.shape, other.shape) != x.shape:
            raise ShapeError(f"an input of shape {other.shape} does not broadcast into {x.shape}")
    return Signature.of(x)


def like_first_by_channel(x: Known, *others: Known, **attributes: Any) -> Signature:
    """The output has the shape and dtype of the first input (N, C, ...); the others are (C,)."""
    if any(other.shape != x.shape[1:2] for other in others):
        shapes = ", ".join(str(other.shape) for other in others)
        raise ShapeError(f"x has shape {x.shape}, but the inputs of its channels {shapes}")
    return Signature.of(x)


def per_channel(a: AnyArray, rank: int) -> AnyArray:
    """Reshape an array (C,) so that it broadcasts against x (N, C, ...)."""
    return a.reshape(-1, *[1] * max(0, rank - 2))


def _batch_signature(x: Known, *others: Known, training_mode: int = 0, **attributes: Any) -> list[Signature]:
    y = like_first_by_channel(x, *others)
    return [y, *([Signature.of(a) for a in others[2:4]] if training_mode else [])]


@operation("BatchNormalization", signature=_batch_signature, widens=True)
def batch_normalization(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    mean: AnyArray,
    variance: AnyArray,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> tuple[AnyArray, ...]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each channel of x (N, C, ...).

    With `training_mode`, mean and variance are those of x, and the running ones are outputs, too.
    """
    results: tuple[AnyArray, ...] = ()
    if training_mode:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        means = over_rows(ROWS["ReduceMean"], x, axes)
        own_mean, own_variance = (
            means.ravel(),
            over_rows(ROWS["ReduceMean"], np.square(x - means), axes).ravel(),
        )
        results = tuple(
            (a * momentum + own * (1 - momentum)).astype(a.dtype)
            for a, own in ((mean, own_mean), (variance, own_variance))
        )
        mean, variance = own_mean, own_variance
    scale, bias, mean, variance = (p.astype(x.dtype, copy=False) for p in (scale, bias, mean, variance))
    factors = channel_factors(scale, variance, epsilon)
    mean, factors, bias = (per_channel(p, x.ndim) for p in (mean, factors, bias))
    return (x - mean) * factors + bias, *results


@batch_normalization.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, parameters = view(b, inputs[0]), [known(value) for value in inputs[1:]]
    if x is None or node.attributes.get("training_mode") or any(p is None for p in parameters):
        return None
    # not folded into the weights of a product before it: exported layers keep their bits
    scale, bias, mean, variance = (p.astype(np.float32) for p in parameters)
    factors = channel_factors(scale, variance, node.attributes.get("epsilon", 1e-5))
    means, scales, biases = (b.constant(per_channel(p, len(x.shape))) for p in (mean, factors, bias))
    return [_affine(b, b.binary("subtract", x, means), scales, biases)]


def _affine(b: Builder, x: View, scale: View | None, bias: View | None) -> View:
    if scale is not None:
        x = b.binary("multiply", x, scale)
    return x if bias is None else b.binary("add", x, bias)


def _joined(x: AnyArray, axis: int) -> AnyArray:
    """Return x with the axes from `axis` on as one."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], math.prod(x.shape[axis:]))


def _computed_dtype(x: Known) -> np.dtype[Any]:
    """Return the dtype of the statistics of x."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def layer_statistics(x: AnyArray, axis: int, epsilon: float) -> tuple[AnyArray, AnyArray]:
    """Return the mean and 1 / standard deviation over the axes from `axis` on, which keep the size 1."""
    axes = range(axis % x.ndim, x.ndim)
    mean = over_rows(ROWS["ReduceMean"], x, axes)
    variance = over_rows(ROWS["ReduceMean"], np.square(x - mean), axes)
    return mean, 1 / np.sqrt(variance + x.dtype.type(epsilon))


@operation("Standardize", signature=like_first, widens=True)
def standardize(x: AnyArray, *, axes: Sequence[int], epsilon: float) -> AnyArray:
    """(x - mean) / sqrt(variance + epsilon) over some axes jointly."""
    if x.size == 0:
        return x
    last = sorted(axis % x.ndim for axis in axes)
    order = [*(axis for axis in range(x.ndim) if axis not in last), *last]
    moved = x.transpose(order)
    y = standardized(_joined(moved, x.ndim - len(last)), epsilon).reshape(moved.shape)
    return y.transpose(np.argsort(order))


@standardize.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axes = view(b, inputs[0]), node.attributes["axes"]
    if x is None or 0 in x.shape:
        return None
    last = sorted(axis % len(x.shape) for axis in axes)
    return [b.rows("standardize", node.attributes["epsilon"], x, last)]


def _layer_signature(
    x: Known,
    scale: Known,
    bias: Known | None = None,
    *,
    axis: int = -1,
    stash_type: int = 1,
    epsilon: float = 0,
) -> list[Signature]:
    axis %= len(x.shape)
    shape = (*x.shape[:axis], *[1] * (len(x.shape) - axis))
    dtype = _computed_dtype(x)
    return [broadcast_into_first(x, scale, bias), Signature(shape, dtype), Signature(shape, dtype)]


@operation("LayerNormalization", signature=_layer_signature)
def layer_normalization(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias over the axes from `axis` on.

    The mean and 1 / standard deviation are outputs, too.
    """
    wide = x.astype(_computed_dtype(x), copy=False)
    mean, inverse = layer_statistics(wide, axis, epsilon)
    y = standardized(_joined(wide, axis), epsilon).reshape(x.shape) * scale.astype(wide.dtype, copy=False)
    if bias is not None:
        y = y + bias.astype(wide.dtype, copy=False)
    return y.astype(x.dtype, copy=False), mean, inverse


@layer_normalization.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, parameters = view(b, inputs[0]), [view(b, value) for value in inputs[1:]]
    lacks = any(v is None and value is not None for v, value in zip(parameters, inputs[1:], strict=True))
    if x is None or lacks or any(node.outputs[1:]) or 0 in x.shape:
        return None
    first = node.attributes.get("axis", -1) % len(x.shape)
    scale, bias = (*parameters, None)[:2]
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), x, range(first, len(x.shape)))
    return [_affine(b, y, scale, bias)]


@operation("InstanceNormalization", signature=like_first_by_channel, widens=True)
def instance_normalization(
    x: AnyArray, scale: AnyArray, bias: AnyArray, *, epsilon: float = 1e-5
) -> AnyArray:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each channel of each row of x (N, C, ...)."""
    y = standardized(_joined(x, 2), epsilon).reshape(x.shape) if x.size else x
    return y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)


@operation("GroupNormalization", signature=like_first_by_channel, widens=True)
def group_normalization(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> AnyArray:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each group of channels of x (N, C, ...)."""
    y = x
    if x.size:
        members = math.prod(x.shape[1:]) // num_groups
        y = standardized(x.reshape(len(x), num_groups, members), epsilon).reshape(x.shape)
    return y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)


@lowering("InstanceNormalization", "GroupNormalization")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, parameters = view(b, inputs[0]), [known(value) for value in inputs[1:]]
    if x is None or 0 in x.shape or any(p is None or p.dtype != np.float32 for p in parameters):
        return None
    groups = node.attributes.get("num_groups", x.shape[1])
    members = b.reshaped(x, x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), members, [2])
    scale, bias = (b.constant(per_channel(p, len(x.shape))) for p in parameters)
    return [_affine(b, b.reshaped(y, *x.shape), scale, bias)]


def _mean_squares(rows: AnyArray) -> AnyArray:
    return np.asarray(row_sums(np.square(rows)) / rows.dtype.type(rows.shape[1]))


@operation("RMSNormalization", signature=broadcast_into_first)
def rms_normalization(
    x: AnyArray, scale: AnyArray, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> AnyArray:
    """scale x / sqrt(mean of x^2 + epsilon) over the axes from `axis` on."""
    wide = x.astype(_computed_dtype(x), copy=False)
    mean = over_rows(_mean_squares, wide, range(axis % x.ndim, x.ndim))
    y = wide / np.sqrt(mean + wide.dtype.type(epsilon))
    return np.asarray(y.astype(x.dtype, copy=False) * scale).astype(x.dtype, copy=False)


@rms_normalization.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, scale = view(b, inputs[0]), view(b, inputs[1])
    if x is None or scale is None or 0 in x.shape:
        return None
    axes = range(node.attributes.get("axis", -1) % len(x.shape), len(x.shape))
    mean = lower_mean(b, b.binary("multiply", x, x), axes)
    shifted = b.binary("add", mean, b.scalar(node.attributes.get("epsilon", 1e-5)))
    y = b.binary("divide", x, b.map("unary", "sqrt", shifted))
    return [b.binary("multiply", y, scale)]


@operation("LpNormalization", signature=like_first, widens=True)
def lp_normalization(x: AnyArray, *, axis: int = -1, p: int = 2) -> AnyArray:
    """x / |x|_p along an axis, or 0 where the norm is 0."""
    norm = over_rows(ROWS["ReduceL1" if p == 1 else "ReduceL2"], x, [axis % x.ndim])
    return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)


@operation("LRN", signature=like_first, widens=True)
def lrn(x: AnyArray, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> AnyArray:
    """x / (bias + alpha / size * sum of x^2 over the `size` channels around)^beta."""
    before, after = (size - 1) // 2, size // 2
    C, squares = x.shape[1], np.square(x)
    sums = np.zeros_like(x)
    for offset in range(max(-before, 1 - C), min(after, C - 1) + 1):
        first, last = max(0, -offset), min(C, C - offset)
        sums[:, first:last] += squares[:, first + offset : last + offset]
    factor = x.dtype.type(alpha / size)
    return np.asarray(x / (x.dtype.type(bias) + factor * sums) ** x.dtype.type(beta))


@operation("MeanVarianceNormalization", signature=like_first, widens=True)
def mean_variance_normalization(x: AnyArray, *, axes: Sequence[int] = (0, 2, 3)) -> AnyArray:
    """(x - mean) / (standard deviation + 1e-9) over some axes."""
    axes = sorted(axis % x.ndim for axis in axes)
    centered = x - over_rows(ROWS["ReduceMean"], x, axes)
    variance = over_rows(ROWS["ReduceMean"], np.square(centered), axes)
    return np.asarray(centered / (np.sqrt(variance) + x.dtype.type(1e-9)))


def axes_from(axis: int, rank: int) -> range:
    """Return the axes of an array from one on."""
    return range(axis % rank, rank)


@combining("Softmax", "LogSoftmax", "LpNormalization")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    rank = len(inputs[0].shape)  # type: ignore[union-attr]  # the input is not optional
    return [[node.attributes.get("axis", -1) % rank]]


@combining("LayerNormalization", "RMSNormalization")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [axes_from(node.attributes.get("axis", -1), len(inputs[0].shape)), ()]  # type: ignore[union-attr]  # as above


@combining("InstanceNormalization", "GroupNormalization")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    first = 2 if node.operation == "InstanceNormalization" else 1
    return [range(first, len(inputs[0].shape)), ()]  # type: ignore[union-attr]  # as above


@combining("BatchNormalization")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    in_training = node.attributes.get("training_mode", 0)
    return [range(len(inputs[0].shape)) if in_training else (), ()]  # type: ignore[union-attr]  # as above


@combining("LRN")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [[1]]


@combining("MeanVarianceNormalization", "Standardize")
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    rank = len(inputs[0].shape)  # type: ignore[union-attr]  # as above
    return [[axis % rank for axis in node.attributes.get("axes", (0, 2, 3))]]

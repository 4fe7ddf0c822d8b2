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
from .modules import NAMES
from .reductions import ROWS, lower_mean, over_rows
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


def _define_softmax(name: str, logarithm: bool) -> None:
    """Define exp(x - max x) / sum(exp(x - max x)) along an axis, or its logarithm."""

    @operation(name, signature=like_first)
    def compute(x: AnyArray, *, axis: int = -1) -> AnyArray:
        return np.moveaxis(softmax_rows(np.moveaxis(x, axis, -1), logarithm), -1, axis) if x.size else x

    @compute.steps
    def _(b: Builder, x: View, *, axis: int = -1) -> View:
        return b.rows("softmax", logarithm, x, [axis % len(x.shape)])


_define_softmax("Softmax", logarithm=False)
_define_softmax("LogSoftmax", logarithm=True)


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
        running = mean, variance
        mean, variance = (a.ravel() for a in _moments(x, [axis for axis in range(x.ndim) if axis != 1]))
        results = tuple(
            (a * momentum + own * (1 - momentum)).astype(a.dtype)
            for a, own in zip(running, (mean, variance), strict=True)
        )
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


def _moments(x: AnyArray, axes: Sequence[int]) -> tuple[AnyArray, AnyArray]:
    """Return the mean and the variance over some axes, which keep the size 1."""
    mean = over_rows(ROWS["ReduceMean"], x, axes)
    return mean, over_rows(ROWS["ReduceMean"], np.square(x - mean), axes)


@operation("Standardize", signature=like_first, widens=True)
def standardize(x: AnyArray, *, axes: Sequence[int], epsilon: float) -> AnyArray:
    """(x - mean) / sqrt(variance + epsilon) over some axes jointly."""
    if x.size == 0:
        return x
    last = sorted(axis % x.ndim for axis in axes)
    ends = range(-len(last), 0)
    moved = np.moveaxis(x, last, ends)
    return np.moveaxis(
        standardized(_joined(moved, x.ndim - len(last)), epsilon).reshape(moved.shape), ends, last
    )


@standardize.steps
def _(b: Builder, x: View, *, axes: Sequence[int], epsilon: float) -> View:
    return b.rows("standardize", epsilon, x, sorted(axis % len(x.shape) for axis in axes))


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
    mean, variance = _moments(wide, range(axis % x.ndim, x.ndim))
    inverse = 1 / np.sqrt(variance + wide.dtype.type(epsilon))
    y = standardized(_joined(wide, axis), epsilon).reshape(x.shape) * scale.astype(wide.dtype, copy=False)
    if bias is not None:
        y = y + bias.astype(wide.dtype, copy=False)
    return y.astype(x.dtype, copy=False), mean, inverse


@layer_normalization.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, scale, bias = (view(b, value) for value in (*inputs, None)[:3])
    if x is None or scale is None or any(node.outputs[1:]) or (bias is None and any(node.inputs[2:])):
        return None
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), x, _axes(node, len(x.shape)))
    return [_affine(b, y, scale, bias)]


def _normalize_groups(x: AnyArray, scale: AnyArray, bias: AnyArray, groups: int, epsilon: float) -> AnyArray:
    y = x
    if x.size:
        rows = x.reshape(len(x), groups, math.prod(x.shape[1:]) // groups)
        y = standardized(rows, epsilon).reshape(x.shape)
    return y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)


@operation("InstanceNormalization", signature=like_first_by_channel, widens=True)
def instance_normalization(
    x: AnyArray, scale: AnyArray, bias: AnyArray, *, epsilon: float = 1e-5
) -> AnyArray:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each channel of each row of x (N, C, ...)."""
    return _normalize_groups(x, scale, bias, x.shape[1], epsilon)


@operation("GroupNormalization", signature=like_first_by_channel, attributes=("stash_type",), widens=True)
def group_normalization(
    x: AnyArray, scale: AnyArray, bias: AnyArray, *, num_groups: int, epsilon: float = 1e-5, **unused: Any
) -> AnyArray:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each group of channels of x (N, C, ...)."""
    return _normalize_groups(x, scale, bias, num_groups, epsilon)


@lowering("InstanceNormalization", "GroupNormalization")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, parameters = view(b, inputs[0]), [known(value) for value in inputs[1:]]
    if x is None or any(p is None or p.dtype != np.float32 for p in parameters):
        return None
    groups = node.attributes.get("num_groups", x.shape[1])
    members = b.reshaped(x, x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), members, [2])
    scale, bias = (b.constant(per_channel(p, len(x.shape))) for p in parameters)
    return [_affine(b, b.reshaped(y, *x.shape), scale, bias)]


@operation("RMSNormalization", signature=broadcast_into_first)
def rms_normalization(
    x: AnyArray, scale: AnyArray, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> AnyArray:
    """scale x / sqrt(mean of x^2 + epsilon) over the axes from `axis` on."""
    wide = x.astype(_computed_dtype(x), copy=False)
    mean = over_rows(ROWS["ReduceMean"], np.square(wide), range(axis % x.ndim, x.ndim))
    y = wide / np.sqrt(mean + wide.dtype.type(epsilon))
    return np.asarray(y.astype(x.dtype, copy=False) * scale).astype(x.dtype, copy=False)


@rms_normalization.steps
def _(b: Builder, x: View, scale: View, *, axis: int = -1, epsilon: float = 1e-5, **unused: Any) -> View:
    mean = lower_mean(b, b.binary("multiply", x, x), range(axis % len(x.shape), len(x.shape)))
    shifted = b.binary("add", mean, b.scalar(epsilon))
    return b.binary("multiply", b.binary("divide", x, b.map("unary", "sqrt", shifted)), scale)


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
    mean, variance = _moments(x, axes)
    return np.asarray((x - mean) / (np.sqrt(variance) + x.dtype.type(1e-9)))


def _axes(node: Node, rank: int) -> Sequence[int]:
    """Return the axes of the first input that a node combines."""
    match node.operation:
        case "LayerNormalization" | "RMSNormalization":
            return range(node.attributes.get("axis", -1) % rank, rank)
        case "InstanceNormalization":
            return range(2, rank)
        case "GroupNormalization":
            return range(1, rank)
        case "BatchNormalization":
            return range(rank) if node.attributes.get("training_mode") else ()
        case "LRN":
            return [1]
        case "MeanVarianceNormalization" | "Standardize":
            return sorted(axis % rank for axis in node.attributes.get("axes", (0, 2, 3)))
    return [node.attributes.get("axis", -1) % rank]


@combining(*NAMES["normalization"].split())
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [_axes(node, len(inputs[0].shape)), ()]  # type: ignore[union-attr]  # the input is not optional

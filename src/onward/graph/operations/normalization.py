"""Softmax, the normalizations, each row on its own, and losses of classification."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...core.functions import softmax, standardized
from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_axes
from .compositions import composed, computed
from .expressions import sqrt, square, where
from .registry import along_axis, operation
from .signatures import check_broadcast, like_first


def _rounded_softmax(x: AnyArray, axis: int, logarithm: bool) -> AnyArray:
    """Return the softmax along an axis, or its logarithm, with each step rounded to half precision."""
    shifted = x - x.max(axis, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if logarithm else powers / total)


def _define_softmax(name: str, logarithm: bool) -> None:
    """Define exp(x - max x) / sum(exp(x - max x)) along an axis, or its logarithm."""

    @operation(name, signature=like_first, combines=along_axis(-1))
    def compute(x: AnyArray, *, axis: int = -1) -> AnyArray:
        if not x.size:
            return x
        return (softmax if x.dtype in (np.float32, np.float64) else _rounded_softmax)(x, axis, logarithm)

    @compute.steps()
    def _(b: Builder, x: View, *, axis: int = -1) -> View:
        return b.rows("softmax", logarithm, x, [axis % len(x.shape)])


_define_softmax("Softmax", logarithm=False)
_define_softmax("LogSoftmax", logarithm=True)


@operation(
    "Standardize",
    signature=like_first,
    widens=True,
    combines=lambda node, inputs: [as_axes(node.attributes["axes"], len(inputs[0].shape))],
)
def standardize(x: AnyArray, *, axes: Sequence[int], epsilon: float) -> AnyArray:
    """(x - mean) / sqrt(variance + epsilon) over some axes jointly."""
    if x.size == 0:
        return x
    last = sorted(axis % x.ndim for axis in axes)
    ends = range(-len(last), 0)
    moved = np.moveaxis(x, last, ends)
    rows = moved.reshape(*moved.shape[: x.ndim - len(last)], math.prod(x.shape[axis] for axis in last))
    return np.moveaxis(standardized(rows, epsilon).reshape(moved.shape), ends, last)


@standardize.steps()
def _(b: Builder, x: View, *, axes: Sequence[int], epsilon: float) -> View:
    return b.rows("standardize", float(epsilon), x, sorted(axis % len(x.shape) for axis in axes))


# Compositions.


def _check_channels(x: Operand, *others: Operand) -> None:
    """Raise ShapeError unless the other inputs are (C,), for the first of (N, C, ...)."""
    if any(other.shape != x.shape[1:2] for other in others):
        shapes = ", ".join(str(other.shape) for other in others)
        raise ShapeError(f"x has shape {x.shape}, but the inputs of its channels {shapes}")


def _by_channel(x: Any, *others: Any) -> Iterator[Any]:
    """Reshape inputs (C,) so that they broadcast against x (N, C, ...)."""
    return (a.reshape(-1, *[1] * max(0, x.rank - 2)) for a in others)


def _wide(x: Any) -> Any:
    """Return x in the dtype of its statistics."""
    return x.cast(np.float64 if x.dtype == np.float64 else np.float32)


def _moments(x: Any, axes: Sequence[int]) -> tuple[Any, Any]:
    """Return the mean and the variance over some axes, which keep the size 1."""
    mean = x.reduce("ReduceMean", axes, True)
    return mean, square(x - mean).reduce("ReduceMean", axes, True)


def _batch_norm_signature(
    x: Operand, scale: Operand, bias: Operand, mean: Operand, variance: Operand, **attributes: Any
) -> list[Signature]:
    _check_channels(x, scale, bias, mean, variance)
    running = [mean, variance] if attributes.get("training_mode") else []
    return list(map(Signature.of, [x, *running]))


@composed("BatchNormalization", widens=True, signature=_batch_norm_signature, has_steps=True)
def batch_normalization(
    x: Any, scale: Any, bias: Any, mean: Any, variance: Any, *, epsilon: float = 1e-5, momentum: float = 0.9,
    training_mode: int = 0,
) -> Iterator[Any]:  # fmt: skip
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each channel of x (N, C, ...).

    With `training_mode`, mean and variance are those of x, and the running ones are outputs, too.
    """
    _check_channels(x, scale, bias, mean, variance)
    running, of_batch = list[Any](), list[Any]()
    if training_mode:
        moments = _moments(x, [axis for axis in range(x.rank) if axis != 1])
        running = [mean, variance]
        mean, variance = of_batch = [a.apply("Reshape", [-1]) for a in moments]

    def of_channels(scale: Any, bias: Any, mean: Any, variance: Any) -> Iterator[Any]:
        root = sqrt(variance.astype(x.dtype).astype(np.float64) + epsilon)
        factors = (1 / root * scale.astype(x.dtype).astype(np.float64)).astype(x.dtype)
        return _by_channel(x, mean.astype(x.dtype), factors, bias.astype(x.dtype))

    # not folded into the weights of a product before it: exported layers keep their bits
    mean, factors, bias = computed(of_channels, scale, bias, mean, variance)
    yield (x - mean) * factors + bias
    for before, after in zip(running, of_batch, strict=True):
        yield before * momentum + (after * (1 - momentum)).cast(before.dtype)


@composed("LayerNormalization", has_steps=True)
def layer_normalization(
    x: Any, scale: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Iterator[Any]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias over the axes from `axis` on.

    The mean and 1 / standard deviation are outputs, too.
    """
    check_broadcast(x, scale, bias)
    wide, axes = _wide(x), range(axis % x.rank, x.rank)
    y = wide.apply("Standardize", axes=axes, epsilon=epsilon) * scale.cast(wide.dtype)
    yield (y if bias is None else y + bias.cast(wide.dtype)).cast(x.dtype)
    mean, variance = _moments(wide, axes)
    yield mean
    yield 1 / sqrt(variance + epsilon)


@composed("InstanceNormalization", widens=True)
def instance_normalization(x: Any, scale: Any, bias: Any, *, epsilon: float = 1e-5) -> Any:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each channel of each row of x (N, C, ...)."""
    _check_channels(x, scale, bias)
    factors, shift = _by_channel(x, scale, bias)
    return x.apply("Standardize", axes=range(2, x.rank), epsilon=epsilon) * factors + shift


@composed("GroupNormalization", widens=True)
def group_normalization(
    x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    """scale (x - mean) / sqrt(variance + epsilon) + bias for each group of channels of x (N, C, ...)."""
    _check_channels(x, scale, bias)
    groups = x.apply("Reshape", [0, num_groups, -1]).apply("Standardize", axes=[2], epsilon=epsilon)
    factors, shift = _by_channel(x, scale, bias)
    return groups.apply("Reshape", x.apply("Shape").name) * factors + shift


@composed("RMSNormalization", has_steps=True)
def rms_normalization(
    x: Any, scale: Any, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    """scale x / sqrt(mean of x^2 + epsilon) over the axes from `axis` on."""
    check_broadcast(x, scale)
    wide, common = _wide(x), np.promote_types(x.dtype, scale.dtype)
    mean = square(wide).reduce("ReduceMean", range(axis % x.rank, x.rank), True)
    return ((wide / sqrt(mean + epsilon)).cast(x.dtype).cast(common) * scale.cast(common)).cast(x.dtype)


@composed("LpNormalization", widens=True)
def lp_normalization(x: Any, *, axis: int = -1, p: int = 2) -> Any:
    """x / |x|_p along an axis, or 0 where the norm is 0."""
    norm = x.reduce("ReduceL1" if p == 1 else "ReduceL2", [axis], True)
    return where(norm.equals(0), 0, x / norm)


@composed("MeanVarianceNormalization", widens=True)
def mean_variance_normalization(x: Any, *, axes: Sequence[int] = (0, 2, 3)) -> Any:
    """(x - mean) / (standard deviation + 1e-9) over some axes."""
    mean, variance = _moments(x, axes)
    return (x - mean) / (sqrt(variance) + 1e-9)


@composed("LRN", widens=True)
def lrn(x: Any, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Any:
    """x / (bias + alpha / size * sum of x^2 over the `size` channels around)^beta."""
    kernel, ends = [size, *[1] * (x.rank - 2)], [0] * (x.rank - 2)
    pads = [(size - 1) // 2, *ends, size // 2, *ends]
    squares = square(x).apply("Unsqueeze", [1])  # the channels as an axis over which a window slides
    sums = squares.apply("SumPool", kernel_shape=kernel, pads=pads).apply("Squeeze", [1])
    return x / (sums * (alpha / size) + bias) ** beta


# Losses of classification.


@composed("NegativeLogLikelihoodLoss", widens=True)
def negative_log_likelihood_loss(
    x: Any, targets: Any, weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Any:
    """The losses of targets (N, ...) under log probabilities x (N, C, ...), or their mean or sum."""
    if reduction not in ("none", "sum", "mean"):
        raise ArgumentError(f"reduction={reduction!r}; expected none, sum or mean")
    counts = targets.equals(targets) if ignore_index is None else ~targets.equals(ignore_index)
    classes = where(counts, targets, 0)
    own = x.apply("GatherElements", classes.apply("Unsqueeze", [1]), axis=1).apply("Squeeze", [1])
    weights = counts.cast(x.dtype) if weight is None else where(counts, weight.apply("Gather", classes), 0)
    losses = -own * weights
    if reduction == "none":
        return losses
    total = losses.cast(np.float64).reduce("ReduceSum")
    if reduction == "mean":
        total = total / weights.cast(np.float64).reduce("ReduceSum")
    return total.cast(x.dtype)


@composed("SoftmaxCrossEntropyLoss", attributes=("ignore_index", "reduction"), widens=True)
def softmax_cross_entropy_loss(x: Any, targets: Any, weight: Any = None, **options: Any) -> Iterator[Any]:
    """The losses of targets under the softmax of x (N, C, ...), or their mean or sum; also its logarithm."""
    logarithms = x.apply("LogSoftmax", axis=1)
    yield logarithms.apply("NegativeLogLikelihoodLoss", targets, weight, **options)
    yield logarithms

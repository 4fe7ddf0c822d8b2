"""Keras' normalization layers, over any axes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .layer import Layer, layer
from .writer import Value


def _moved(k: Layer, x: Value, axes: list[int], to: list[int], function: Callable[[Value], Value]) -> Value:
    """Apply a function to x with some axes in other places, to which they return."""
    rank = k.rank(x)
    sources, targets = ([axis % rank for axis in each] for each in (axes, to))
    order = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    y = function(k.transposed(x, *order))
    return k.transposed(y, *map(int, np.argsort(order)))


def _scale_and_center(k: Layer, extra: int = 0) -> tuple[list[Any], list[Any]]:
    """Return gamma and beta, None for those that the layer lacks, and the other weights."""
    scale, center = k.option("scale", True), k.option("center", True)
    found = k.arrays(extra + scale + center)
    if not found:
        raise k.error("has neither scale nor center: its size is unknown")
    return [found[0] if scale else None, found[scale] if center else None], found[scale + center :]


@layer("BatchNormalization", masks="kept")
def batch_normalization(k: Layer, x: Value) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, with one of each for each index of an axis."""
    (place,) = _listed(k.option("axis", -1))
    (gamma, beta), (mean, variance) = _scale_and_center(k, 2)
    weights = [
        k.weight("gamma", lambda: np.ones(mean.size) if gamma is None else gamma.reshape(-1)),
        k.weight("beta", lambda: np.zeros(mean.size) if beta is None else beta.reshape(-1)),
        k.weight("moving_mean", lambda: mean.reshape(-1)),
        k.weight("moving_variance", lambda: variance.reshape(-1)),
    ]
    x, epsilon = k.floats(x), k.option("epsilon", 1e-3)
    return _moved(k, x, [place], [1], lambda y: k.add("BatchNormalization", y, *weights, epsilon=epsilon))


def _listed(axis: Any) -> list[int]:
    return axis if isinstance(axis, list) else [] if axis is None else [axis]


@layer("Normalization", masks="kept in 3")
def normalization(k: Layer, x: Value) -> Value:
    """(x - mean) / deviation with measured or given statistics, or the inverse."""
    axes = sorted(axis % k.rank(x) for axis in _listed(k.option("axis", -1)))
    given = [k.option(key, None) for key in ("mean", "variance")]
    mean, variance = k.arrays(3)[:2] if given[0] is None else map(np.asarray, given)
    if mean.ndim not in (0, len(axes)) or mean.shape != variance.shape:
        raise k.error(f"has statistics of shapes {mean.shape} and {variance.shape} for the axes {axes}")

    def broadcast(array: Any) -> Any:
        sizes = dict(zip(axes, array.shape, strict=False))
        return array.reshape([sizes.get(axis, 1) for axis in range(k.rank(x))])

    center = k.weight("mean", lambda: broadcast(mean))
    # Keras' deviation is at least 1e-7
    deviation = k.weight("deviation", lambda: broadcast(np.maximum(np.sqrt(variance), 1e-7)))
    if k.option("invert", False):
        return k.add("Add", k.add("Mul", k.floats(x), deviation), center)
    return k.add("Div", k.add("Sub", k.floats(x), center), deviation)


@layer("GroupNormalization", masks="kept")
def group_normalization(k: Layer, x: Value) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta over all but groups along an axis."""
    axis, groups, epsilon = k.option("axis", -1), k.option("groups", 32), k.option("epsilon", 1e-3)
    weights, count = _affine(k, lambda array: array.reshape(-1))
    options = {"num_groups": count if groups == -1 else groups, "epsilon": epsilon}
    x = k.floats(x)
    return _moved(k, x, [axis], [1], lambda y: k.add("GroupNormalization", y, *weights, **options))


def _affine(k: Layer, shaped: Callable[[Any], Any]) -> tuple[list[Value], int]:
    """Return gamma and beta in the given form, ones and zeros if the layer lacks them, and their size."""
    (gamma, beta), _ = _scale_and_center(k)
    shape = shaped(beta if gamma is None else gamma).shape
    return [
        k.weight("gamma", lambda: np.ones(shape) if gamma is None else shaped(gamma)),
        k.weight("beta", lambda: np.zeros(shape) if beta is None else shaped(beta)),
    ], int(np.prod(shape))


@layer("LayerNormalization", masks="kept")
def layer_normalization(k: Layer, x: Value) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta over some axes."""
    axis, epsilon = k.option("axis", -1), k.option("epsilon", 1e-3)
    axes = _listed(axis)
    if len({each < 0 for each in axes}) > 1:
        raise k.error(f"has axis={axes}, counted from both ends, whose order Onward does not know")
    rms = k.option("rms_scaling", False)
    if rms:
        raise k.error("has rms_scaling=True, which Onward does not support")

    def ordered(array: Any) -> Any:
        """Keras reshapes what is in the order of `axis` to the order of x, and transposes nothing."""
        sizes = dict(zip(axes, array.shape, strict=True))
        return array.reshape([sizes[each] for each in sorted(axes)])

    weights, _ = _affine(k, ordered)
    options: dict[str, Any] = {"epsilon": epsilon, "axis": -len(axes)}
    last = list(range(-len(axes), 0))
    x = k.floats(x)
    return _moved(k, x, sorted(axes), last, lambda y: k.add("LayerNormalization", y, *weights, **options))


@layer("RMSNormalization")
def rms_normalization(k: Layer, x: Value) -> Value:
    """x / sqrt(mean of x^2 + epsilon) scale over some axes."""
    axes, epsilon = sorted(_listed(k.option("axis", -1))), k.option("epsilon", 1e-6)
    scale = k.weight("scale", lambda: k.arrays(1)[0])
    last = list(range(-len(axes), 0))
    options: dict[str, Any] = {"epsilon": epsilon, "axis": -len(axes)}
    x = k.floats(x)
    return _moved(k, x, axes, last, lambda y: k.add("RMSNormalization", y, scale, **options))


@layer("UnitNormalization", masks="kept")
def unit_normalization(k: Layer, x: Value) -> Value:
    """x divided by its length over some axes."""
    return unit(k, k.floats(x), _listed(k.option("axis", -1)))


def unit(k: Layer, x: Value, axes: list[int], least: float = 1e-12) -> Value:
    """x divided by its length over some axes; the squared length is at least a number."""
    squares = k.reduced("ReduceSum", k.add("Mul", x, x), axes, keepdims=True)
    return k.add("Div", x, k.add("Sqrt", k.add("Max", squares, least)))

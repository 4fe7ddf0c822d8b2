"""Keras' normalization layers, over any axes."""

from typing import Any

import numpy as np

from .layer import Layer, layer
from .writer import Value


def _moved(
    k: Layer, operation: str, x: Value, axes: list[int], to: list[int], *weights: Any, **options: Any
) -> Value:
    """Move axes of x to other places, add a node, and move the axes of its output back."""
    rank = k.rank(x)
    sources, targets = ([axis % rank for axis in each] for each in (axes, to))
    order = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    y = k.add(operation, k.transposed(k.floats(x), *order), *weights, **options)
    return k.transposed(y, *map(int, np.argsort(order)))


def _listed(axis: Any) -> list[int]:
    return axis if isinstance(axis, list) else [] if axis is None else [axis]


def _affine(
    k: Layer, *, scale: bool = True, center: bool = True, statistics: bool = False, axes: Any = None
) -> tuple[list[Value], int]:
    """Return gamma and beta, ones and zeros if the layer lacks them, any statistics, and the size of each.

    Those of several axes are in the order of `axes`: Keras reshapes them to the order of x, and transposes
    nothing.
    """
    gamma, beta, mean, variance = k.arrays(scale, center, statistics, statistics)
    known = next((each for each in (gamma, beta, mean) if each is not None), None)
    if known is None:
        raise k.error("has neither scale nor center: its size is unknown")
    shape = -1 if axes is None else [size for _, size in sorted(zip(axes, known.shape, strict=True))]
    gamma = np.ones_like(known) if gamma is None else gamma
    beta = np.zeros_like(known) if beta is None else beta
    weights = {"gamma": gamma, "beta": beta}
    weights |= {"moving_mean": mean, "moving_variance": variance} if statistics else {}
    return [k.weight(name, weight.reshape(shape)) for name, weight in weights.items()], known.size


@layer("BatchNormalization", masks="kept")
def batch_normalization(k: Layer, x: Value, *, axis: Any = -1, epsilon: float = 1e-3) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, with one of each for each index of an axis."""
    weights, _ = k.call(_affine, statistics=True)
    return _moved(k, "BatchNormalization", x, _listed(axis), [1], *weights, epsilon=epsilon)


@layer("Normalization", masks="kept in 3")
def normalization(
    k: Layer, x: Value, *, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False
) -> Value:
    """(x - mean) / deviation with measured or given statistics, or the inverse."""
    axes = sorted(each % k.rank(x) for each in _listed(axis))
    if mean is None:
        mean, variance, _ = k.arrays(True, True, True)
    mean, variance = np.asarray(mean), np.asarray(variance)
    if mean.ndim not in (0, len(axes)) or mean.shape != variance.shape:
        raise k.error(f"has statistics of shapes {mean.shape} and {variance.shape} for the axes {axes}")
    sizes = dict(zip(axes, mean.shape, strict=False))
    shape = [sizes.get(each, 1) for each in range(k.rank(x))]
    center = k.weight("mean", mean.reshape(shape))
    # Keras' deviation is at least 1e-7
    deviation = k.weight("deviation", np.maximum(np.sqrt(variance), 1e-7).reshape(shape))
    if invert:
        return k.add("Add", k.add("Mul", k.floats(x), deviation), center)
    return k.add("Div", k.add("Sub", k.floats(x), center), deviation)


@layer("GroupNormalization", masks="kept")
def group_normalization(
    k: Layer, x: Value, *, axis: int = -1, groups: int = 32, epsilon: float = 1e-3
) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta over all but groups along an axis."""
    weights, count = k.call(_affine)
    options = {"num_groups": count if groups == -1 else groups, "epsilon": epsilon}
    return _moved(k, "GroupNormalization", x, [axis], [1], *weights, **options)


@layer("LayerNormalization", masks="kept")
def layer_normalization(k: Layer, x: Value, *, axis: Any = -1, epsilon: float = 1e-3) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta over some axes."""
    axes = _listed(axis)
    if len({each < 0 for each in axes}) > 1:
        raise k.error(f"has axis={axes}, counted from both ends, whose order Onward does not know")
    weights, _ = k.call(_affine, axes=axes)
    return _over_last(k, "LayerNormalization", x, sorted(axes), *weights, epsilon=epsilon)


def _over_last(k: Layer, operation: str, x: Value, axes: list[int], *weights: Value, epsilon: float) -> Value:
    last = range(-len(axes), 0)
    return _moved(k, operation, x, axes, list(last), *weights, epsilon=epsilon, axis=-len(axes))


@layer("RMSNormalization")
def rms_normalization(k: Layer, x: Value, *, axis: Any = -1, epsilon: float = 1e-6) -> Value:
    """x / sqrt(mean of x^2 + epsilon) scale over some axes."""
    scale = k.weight("scale", *k.arrays(True))
    return _over_last(k, "RMSNormalization", x, sorted(_listed(axis)), scale, epsilon=epsilon)


@layer("UnitNormalization", masks="kept")
def unit_normalization(k: Layer, x: Value, *, axis: Any = -1) -> Value:
    """x divided by its length over some axes."""
    return unit(k, k.floats(x), _listed(axis))


def unit(k: Layer, x: Value, axes: list[int], least: float = 1e-12) -> Value:
    """x divided by its length over some axes; the squared length is at least a number."""
    squares = k.reduced("ReduceSum", k.add("Mul", x, x), axes, keepdims=True)
    return k.add("Div", x, k.add("Sqrt", k.add("Max", squares, least)))

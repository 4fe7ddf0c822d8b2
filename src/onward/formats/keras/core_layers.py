"""Keras' layers of one kind of elements: Dense, Embedding, Reshape, normalization, merging, ..."""

from functools import partial, reduce
from string import ascii_letters, ascii_lowercase
from typing import Any

import numpy as np

from ...errors import FileError, ShapeError
from .activations import activation, scalar
from .layer import Layer, layer
from .writer import BOOL, INT32, INT64, Value

DROPOUTS = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout",
)  # fmt: skip
AUGMENTATIONS = "Brightness Contrast Flip Height Rotation Translation Width Zoom"


def numbers(value: Any, count: int) -> list[int]:
    """Return one number for each axis."""
    return list(map(int, value)) if isinstance(value, list | tuple) else [int(value)] * count


def as_list(value: Any) -> list[Any]:
    """Return a list, or a list of a single value."""
    return value if isinstance(value, list) else [value]


OF_BOOLEANS = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And", "Abs": "Identity", "Sign": "Identity"}


def elementwise(target: str, k: Layer, /, *inputs: Value) -> Value:
    """Add an operation of inputs of one dtype; booleans are integers, except in sums and products."""
    if inputs[0].dtype != BOOL or target in ("Equal", "Identity"):
        return k.add(target, *inputs)
    if target in OF_BOOLEANS:
        return k.add(OF_BOOLEANS[target], *inputs)
    return k.add(target, *(as_numbers(k, x) for x in inputs))


def as_numbers(k: Layer, x: Value) -> Value:
    """Convert booleans to integers."""
    return k.cast(x, INT32) if x.dtype == BOOL else x


@layer("Dense", masks="kept")
def dense(k: Layer, x: Value, *, units: int, use_bias: bool = True) -> Value:
    """y = activation(x W + b)"""
    kernel, bias = k.arrays(True, use_bias)
    if kernel.ndim != 2 or kernel.shape[1] != units:
        raise FileError(f"the kernel of {k.name} has shape {kernel.shape}; expected (inputs, {units})")
    return activation(k, k.product(k.floats(x), kernel, bias))


@layer("EinsumDense", masks="dropped")
def einsum_dense(k: Layer, x: Value, *, equation: str, bias_axes: str | None = None) -> Value:
    """y = activation(einsum(equation, x, W) + b)"""
    kernel, bias = k.arrays(True, bias_axes is not None)
    y = einsum_of(k, equation, k.floats(x), k.weight("kernel", kernel))
    return activation(k, y if bias is None else k.add("Add", y, k.weight("bias", bias)))


def einsum_of(k: Layer, equation: str, *inputs: Value) -> Value:
    """Sums of products along the axes with the same letter; an ellipsis stands for all other axes."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        raise k.error(f"has the equation {equation!r}; expected one with ->")
    terms = left.split(",")
    if "..." in left:
        counts = [k.rank(x) - len(term) + 3 for x, term in zip(inputs, terms, strict=True)]
        most = max(n for n, term in zip(counts, terms, strict=True) if "..." in term)
        names = "".join(letter for letter in ascii_letters if letter not in equation)[:most]
        terms = [term.replace("...", names[most - n :]) for n, term in zip(counts, terms, strict=True)]
        output = output.replace("...", names)
    return k.add("Einsum", *inputs, equation=f"{','.join(terms)}->{output}", rank=len(output))


@layer("Embedding", masks="own")
def embedding(k: Layer, x: Value, *, input_dim: int, output_dim: int, mask_zero: bool = False) -> Value:
    """The row of a table for each number; with mask_zero, a mask where x is 0."""
    (table,) = k.arrays(True)
    if table.shape != (input_dim, output_dim):
        raise ShapeError(f"the table has shape {table.shape}; expected {(input_dim, output_dim)}")
    if x.dtype.kind != "i":  # Keras' inputs are floats unless told otherwise
        x = k.cast(x, INT64)
    y = k.add("Gather", k.weight("embeddings", table), x, rank=None if x.rank is None else x.rank + 1)
    return y.with_mask(k.add("Not", k.add("Equal", x, 0))) if mask_zero else y


@layer("Masking", masks="own")
def masking(k: Layer, x: Value, *, mask_value: Any = 0.0) -> Value:
    """Mask the steps whose features all equal a value, and make them zeros."""
    value, y, x = scalar(mask_value), k.floats(x), as_numbers(k, x)
    distance = k.add("Abs", k.add("Sub", y, float(value)) if value else y)
    farthest = k.reduced("ReduceMax", distance, [-1], keepdims=True)
    counts = k.add("Not", k.add("Equal", farthest, 0.0))
    return k.where(counts, x).with_mask(k.squeezed(counts, -1))


def _identity(k: Layer, x: Value) -> Value:
    """A layer that acts only in training, such as dropout, noise and augmentation."""
    k.rest()
    return x


layer(*DROPOUTS, "ActivityRegularization", masks="kept")(_identity)
layer("Identity", masks="kept in 3")(_identity)
layer(*(f"Random{name}" for name in AUGMENTATIONS.split()))(_identity)


@layer("Rescaling", masks="kept in 3")
def rescaling(k: Layer, x: Value, *, scale: Any, offset: Any = 0.0) -> Value:
    """y = scale x + offset, of numbers or one for each feature."""
    y = k.add("Mul", k.floats(x), k.weight("scale", scale))
    return k.add("Add", y, k.weight("offset", offset)) if np.any(offset) else y


@layer("Flatten")
def flatten(k: Layer, x: Value, *, data_format: str | None = None) -> Value:
    """x (B, ...) to (B, N), channels last."""
    if data_format == "channels_first" and k.rank(x) > 2:
        x = k.transposed(x, 0, *range(2, k.rank(x)), 1)
    return k.unsqueezed(x, 1) if x.rank == 1 else k.add("Flatten", x, axis=1, rank=2)


@layer("Reshape")
def reshape(k: Layer, x: Value, *, target_shape: list[int]) -> Value:
    """x (B, ...) to (B, *target_shape), where one axis may be -1."""
    batch = k.shape_of(x, 0) if -1 in target_shape else -1
    return k.reshaped(x, batch, *target_shape, rank=1 + len(target_shape))


@layer("Permute")
def permute(k: Layer, x: Value, *, dims: list[int]) -> Value:
    """The axes after the batch in another order, counted from 1."""
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise k.error(f"has dims={dims}; expected the numbers from 1 to {len(dims)} in some order")
    k.rank(x, 1 + len(dims))
    return k.transposed(x, 0, *dims)


@layer("RepeatVector")
def repeat_vector(k: Layer, x: Value, *, n: int) -> Value:
    """x (B, F) to (B, n, F)."""
    k.rank(x, 2)
    return k.add("Expand", k.unsqueezed(x, 1), np.array([1, n, 1], np.int64), rank=3)


# Normalization, over any axes.


def _moved(
    k: Layer, operation: str, x: Value, axes: list[int], to: list[int], *weights: Any, **options: Any
) -> Value:
    """Move axes of x to other places, add a node, and move the axes of its output back."""
    rank = k.rank(x)
    sources, targets = ([axis % rank for axis in each] for each in (axes, to))
    order = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    y = k.add(operation, k.transposed(x, *order), *weights, **options)
    return k.transposed(y, *map(int, np.argsort(order)))


def _affine(
    k: Layer, *, scale: bool = True, center: bool = True, statistics: bool = False, axes: Any = None
) -> tuple[list[Value], int]:
    """Return gamma and beta, ones and zeros if the layer lacks them, any statistics, and the size of each.

    Those of several axes are in the order of `axes`: Keras reshapes them to the order of x, and transposes
    nothing.
    """
    gamma, beta, mean, variance = k.arrays(scale, center, statistics, statistics)
    known = next((each for each in (gamma, beta, mean) if each is not None), None)
    if known is None and axes is None:
        raise k.error("has neither scale nor center: its size is unknown")
    if known is None:
        known = np.ones([1] * len(axes), k.dtype())
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
    return _moved(k, "BatchNormalization", k.floats(x), as_list(axis), [1], *weights, epsilon=epsilon)


@layer("Normalization", masks="kept in 3")
def normalization(
    k: Layer, x: Value, *, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False
) -> Value:
    """(x - mean) / deviation with measured or given statistics, or the inverse."""
    axes = [] if axis is None else sorted(each % k.rank(x) for each in as_list(axis))
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
    return _moved(k, "GroupNormalization", k.only_floats(x), [axis], [1], *weights, **options)


@layer("LayerNormalization", masks="kept")
def layer_normalization(k: Layer, x: Value, *, axis: Any = -1, epsilon: float = 1e-3) -> Value:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta over some axes."""
    axes = as_list(axis)
    if len({each < 0 for each in axes}) > 1:
        raise k.error(f"has axis={axes}, counted from both ends, whose order Onward does not know")
    weights, _ = k.call(_affine, axes=axes)
    return _over_last(k, "LayerNormalization", x, sorted(axes), *weights, epsilon=epsilon)


def _over_last(k: Layer, operation: str, x: Value, axes: list[int], *weights: Value, epsilon: float) -> Value:
    last = range(-len(axes), 0)
    return _moved(
        k, operation, k.only_floats(x), axes, list(last), *weights, epsilon=epsilon, axis=-len(axes)
    )


@layer("RMSNormalization")
def rms_normalization(k: Layer, x: Value, *, axis: Any = -1, epsilon: float = 1e-6) -> Value:
    """x / sqrt(mean of x^2 + epsilon) scale over some axes."""
    scale = k.weight("scale", *k.arrays(True))
    return _over_last(k, "RMSNormalization", x, sorted(as_list(axis)), scale, epsilon=epsilon)


@layer("UnitNormalization", masks="kept")
def unit_normalization(k: Layer, x: Value, *, axis: Any = -1) -> Value:
    """x divided by its length over some axes."""
    return unit(k, k.only_floats(x), as_list(axis))


def unit(k: Layer, x: Value, axes: list[int], least: float = 1e-12) -> Value:
    """x divided by its length over some axes; the squared length is at least a number."""
    squares = k.reduced("ReduceSum", k.add("Mul", x, x), axes, keepdims=True)
    return k.add("Div", x, k.add("Sqrt", k.add("Max", squares, least)))


# Layers that merge several values, and their masks.

MERGES = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add", "Maximum": "Max", "Minimum": "Min",
}  # fmt: skip


@layer(*MERGES, masks="own")
def merge(k: Layer, *inputs: Value) -> Value:
    """The inputs, place by place.

    If all inputs have a mask, Keras 3 keeps the steps that count in any of them; products, maxima and minima
    omit the masked ones. Keras 2 keeps the steps that count in every input that has a mask.
    """
    operation, every = MERGES[k.kind_name], k.context.version < 3
    given = [x.mask for x in inputs if x.mask is not None]
    kept = given and (every or len(given) == len(inputs))
    mask = _joined(k, "And" if every else "Or", given) if kept else None
    rank = max(k.rank(x) for x in inputs)
    # axes of size 1 after the batch, with which Keras forgets the mask
    missing = [range(1, 1 + rank - k.rank(x)) for x in inputs]
    typed = zip(k.promoted(*inputs), missing, strict=True)
    values = [k.unsqueezed(x, *axes) if axes else x for x, axes in typed]
    if given and not every and operation in ("Max", "Min"):
        return _extreme(k, operation, values).with_mask(mask)
    if given and not every and operation == "Mul":  # a step that does not count is a factor 1
        factors = [x if x.mask is None else k.where(x.mask, x, 1) for x in values]
        y = reduce(partial(elementwise, operation, k), factors)
        y = k.where(mask, y) if mask and all(x.mask for x in values) else y
        return y.with_mask(mask)
    y = reduce(partial(elementwise, operation, k), values)
    if k.kind_name == "Average":
        y = k.add("Div", *k.promoted(y, floats=True), float(len(values)))
    return y.with_mask(mask)


def _joined(k: Layer, operation: str, masks: list[Value]) -> Value:
    return reduce(lambda a, b: a if a.name == b.name else k.add(operation, a, b), masks)


def _extreme(k: Layer, operation: str, values: list[Value]) -> Value:
    """Where only one of two steps counts, that one is taken."""
    y, counts = values[0], values[0].mask
    for x in values[1:]:
        given = x if x.mask is None else k.where(x.mask, x, y)
        kept = y if counts is None else k.where(counts, y, given)
        y = k.add(operation, kept, given)
        counts = None if counts is None or x.mask is None else _joined(k, "Or", [counts, x.mask])
    return y


@layer("Concatenate", masks="own")
def concatenate(k: Layer, *inputs: Value, axis: int = -1) -> Value:
    """The inputs along an axis; for its mask, Keras looks at each feature of a step."""
    rank = k.rank(inputs[0])
    if any(x.rank not in (None, rank) for x in inputs):
        raise ShapeError(f"Concatenate takes values of {[x.rank for x in inputs]} axes; expected one number")
    axis, every = axis % rank, k.context.version < 3
    y = k.add("Concat", *k.promoted(*inputs), axis=axis, rank=rank)
    given = [x.mask for x in inputs if x.mask is not None]
    if not given:
        return y.with_mask(None)
    if axis == rank - 1 == given[0].rank and (every or len(given) == len(inputs)):
        return y.with_mask(_joined(k, "And" if every else "Or", given))
    true = k.constant(np.array(True))
    elements = [
        k.add("Expand", true if x.mask is None else k.over(x.mask, x), k.shape_of(x), rank=rank)
        for x in inputs
    ]
    joined = k.cast(k.add("Concat", *elements, axis=axis), k.dtype())
    counts = k.reduced("ReduceMin" if every else "ReduceMax", joined, [-1])
    return y.with_mask(k.cast(counts, BOOL))


@layer("Dot")
def dot(k: Layer, a: Value, b: Value, *, axes: Any, normalize: bool = False) -> Value:
    """Products along an axis of each of two inputs; with normalize, of unit vectors."""
    letters = iter(ascii_lowercase[2:-1])
    inputs, labels = [], []
    for x, axis in zip((a, b), [axes, axes] if isinstance(axes, int) else axes, strict=True):
        x, axis = k.floats(x), axis % k.rank(x)
        inputs.append(unit(k, x, [axis]) if normalize else x)
        own = ["a", *(next(letters) for _ in range(k.rank(x) - 1))]
        own[axis] = "z"
        labels.append("".join(own))
    output = "a" + "".join(labels).replace("a", "").replace("z", "")
    y = k.add("Einsum", *inputs, equation=f"{','.join(labels)}->{output}", rank=len(output))
    return y if len(output) > 1 else k.unsqueezed(y, 1)

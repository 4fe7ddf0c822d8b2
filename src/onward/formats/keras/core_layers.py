"""Keras' layers that act on each place or only move elements: Dense, Embedding, Masking, Reshape, ..."""

from string import ascii_letters
from typing import Any

import numpy as np

from ...errors import FileError, ShapeError
from .activations import activation
from .layer import Layer, layer
from .writer import BOOL, Value

DROPOUTS = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout",
)  # fmt: skip
AUGMENTATIONS = "Brightness Contrast Flip Height Rotation Translation Width Zoom"


@layer("Dense", masks="kept")
def dense(k: Layer, x: Value) -> Value:
    """y = activation(x W + b)"""
    units, bias = k.option("units"), k.option("use_bias", True)
    kernel, *rest = k.arrays(1 + bias)
    if kernel.ndim != 2 or kernel.shape[1] != units:
        raise FileError(f"the kernel of {k.name} has shape {kernel.shape}; expected (inputs, {units})")
    weights = [k.weight("kernel", lambda: kernel), *(k.weight("bias", lambda: rest[0]) for _ in rest)]
    return activation(k, k.add("MatMul", k.floats(x), *weights))


@layer("EinsumDense", masks="dropped")
def einsum_dense(k: Layer, x: Value) -> Value:
    """y = activation(einsum(equation, x, W) + b)"""
    equation, bias = str(k.option("equation")), k.option("bias_axes", None)
    k.option("output_shape", None)
    kernel, *rest = k.arrays(1 + (bias is not None))
    y = einsum_of(k, equation, k.floats(x), k.weight("kernel", lambda: kernel))
    if rest:
        y = k.add("Add", y, k.weight("bias", lambda: rest[0]))
    return activation(k, y)


def einsum_of(k: Layer, equation: str, *inputs: Value) -> Value:
    """Sums of products along the axes with the same letter; an ellipsis stands for all other axes."""
    terms, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        raise k.error(f"has the equation {equation!r}; expected one with ->")
    if "..." in terms:
        free = [letter for letter in ascii_letters if letter not in equation]
        counts = [k.rank(x) - len(each) + 3 for x, each in zip(inputs, terms.split(","), strict=True)]
        most = max(n for n, each in zip(counts, terms.split(","), strict=True) if "..." in each)
        names = "".join(free[:most])
        named = [
            each.replace("...", names[most - n :]) for n, each in zip(counts, terms.split(","), strict=True)
        ]
        terms, output = ",".join(named), output.replace("...", names)
    return k.add("Einsum", *inputs, equation=f"{terms}->{output}", rank=len(output))


@layer("Embedding", masks="own")
def embedding(k: Layer, x: Value) -> Value:
    """The row of a table for each number; with mask_zero, a mask where x is 0."""
    shape = k.option("input_dim"), k.option("output_dim")
    (table,) = k.arrays(1)
    if table.shape != shape:
        raise ShapeError(f"the table has shape {table.shape}; expected {shape}")
    if x.dtype.kind != "i":  # Keras' inputs are floats unless told otherwise
        x = k.cast(x, np.dtype(np.int64))
    mask = k.option("mask_zero", False)
    rank = None if x.rank is None else x.rank + 1
    rows = k.weight("embeddings", lambda: table)
    y = k.add("Gather", rows, x, rank=rank)
    if not mask:
        return y
    is_zero = k.add("Equal", x, k.zero(x), dtype=BOOL)
    return y._replace(mask=k.add("Not", is_zero))


@layer("Masking", masks="own")
def masking(k: Layer, x: Value) -> Value:
    """Mask the steps whose features all equal a value, and make them zeros."""
    value = k.option("mask_value", 0.0)
    value = value["config"]["value"] if isinstance(value, dict) else value
    x = k.floats(x)
    distance = k.add("Abs", k.add("Sub", x, float(value)) if value else x)
    farthest = k.reduced("ReduceMax", distance, [-1], keepdims=True)
    counts = k.add("Not", k.add("Equal", farthest, 0.0, dtype=BOOL))
    y = k.add("Where", counts, x, k.zero(x), rank=x.rank, dtype=x.dtype)
    return y._replace(mask=k.squeezed(counts, -1))


def _identity(k: Layer, x: Value) -> Value:
    """A layer that acts only in training, such as dropout, noise and augmentation."""
    for key in k.config:
        k.option(key, None)
    return x


layer(*DROPOUTS, "ActivityRegularization", masks="kept")(_identity)
layer("Identity", masks="kept in 3")(_identity)
layer(*(f"Random{name}" for name in AUGMENTATIONS.split()))(_identity)


@layer("Rescaling", masks="kept in 3")
def rescaling(k: Layer, x: Value) -> Value:
    """y = scale x + offset, of numbers or one for each feature."""
    x = k.floats(x)
    scale, offset = (np.asarray(each, x.dtype) for each in (k.option("scale"), k.option("offset", 0.0)))
    y = k.add("Mul", x, k.weight("scale", lambda: scale))
    return k.add("Add", y, k.weight("offset", lambda: offset)) if offset.any() else y


@layer("Flatten")
def flatten(k: Layer, x: Value) -> Value:
    """x (B, ...) to (B, N), channels last."""
    first = k.option("data_format", None) == "channels_first"
    if first and k.rank(x) > 2:
        x = k.transposed(x, 0, *range(2, k.rank(x)), 1)
    if x.rank == 1:
        return k.unsqueezed(x, 1)
    return k.add("Flatten", x, axis=1, rank=2)


@layer("Reshape")
def reshape(k: Layer, x: Value) -> Value:
    """x (B, ...) to (B, *target_shape), where one axis may be -1."""
    target = k.option("target_shape")
    if -1 in target:
        return k.reshaped(x, k.shape_of(x, 0), *target, rank=1 + len(target))
    return k.reshaped(x, -1, *target, rank=1 + len(target))


@layer("Permute")
def permute(k: Layer, x: Value) -> Value:
    """The axes after the batch in another order, counted from 1."""
    dims = k.option("dims")
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise k.error(f"has dims={dims}; expected the numbers from 1 to {len(dims)} in some order")
    k.rank(x, 1 + len(dims))
    return k.transposed(x, 0, *dims)


@layer("RepeatVector")
def repeat_vector(k: Layer, x: Value) -> Value:
    """x (B, F) to (B, n, F)."""
    k.rank(x, 2)
    return k.add("Expand", k.unsqueezed(x, 1), np.array([1, k.option("n"), 1], np.int64), rank=3)


def numbers(value: Any, count: int) -> list[int]:
    """Return one number for each axis."""
    return list(map(int, value)) if isinstance(value, list | tuple) else [int(value)] * count

"""Keras' layers that act on each place or only move elements: Dense, Embedding, Masking, Reshape, ..."""

from string import ascii_letters
from typing import Any

import numpy as np

from ...errors import FileError, ShapeError
from .activations import activation, scalar
from .layer import Layer, layer
from .writer import INT64, Value

DROPOUTS = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout",
)  # fmt: skip
AUGMENTATIONS = "Brightness Contrast Flip Height Rotation Translation Width Zoom"


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
    return y._replace(mask=k.add("Not", k.add("Equal", x, 0))) if mask_zero else y


@layer("Masking", masks="own")
def masking(k: Layer, x: Value, *, mask_value: Any = 0.0) -> Value:
    """Mask the steps whose features all equal a value, and make them zeros."""
    value, x = scalar(mask_value), k.floats(x)
    distance = k.add("Abs", k.add("Sub", x, float(value)) if value else x)
    farthest = k.reduced("ReduceMax", distance, [-1], keepdims=True)
    counts = k.add("Not", k.add("Equal", farthest, 0.0))
    return k.where(counts, x)._replace(mask=k.squeezed(counts, -1))


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


def numbers(value: Any, count: int) -> list[int]:
    """Return one number for each axis."""
    return list(map(int, value)) if isinstance(value, list | tuple) else [int(value)] * count

"""Operations that create arrays from sizes and signatures rather than from elements, also random numbers."""

from __future__ import annotations  # importing np.random is slow

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from ..size import Size
from ..sized import dtype_of, integers
from .arguments import as_axis, as_integers
from .casting import as_dtype
from .compositions import composed
from .expressions import where
from .registry import WIDENED, Inputs, operation

FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)

# Without a signature rule, operations that do not read values are computed from signatures.


@operation("Shape", reads_values=False, takes_sizes=True)
def shape(x: Operand, *, start: int = 0, end: int | None = None) -> Any:
    return integers(x.shape[start:end])


@operation("Size", reads_values=False, takes_sizes=True)
def size(x: Operand) -> Any:
    return integers(math.prod(x.shape))


def _constant_signature(sizes: AnyArray, *, value: AnyArray | None = None) -> Signature:
    shape = tuple(as_integers(sizes))
    if any(size < 0 for size in shape):
        raise ShapeError(f"the shape {shape} has negative sizes")
    return Signature(shape, np.dtype(np.float32) if value is None else value.dtype)


@operation("ConstantOfShape", signature=_constant_signature, shape_inputs=(0,))
def constant_of_shape(sizes: AnyArray, *, value: AnyArray | None = None) -> Any:
    """`value` is an array with one element, 0 by default."""
    signature = _constant_signature(sizes, value=value)
    return np.full(signature.shape, 0 if value is None else value.reshape(()), signature.dtype)


@constant_of_shape.steps(views=())
def _(b: Builder, sizes: AnyArray, *, value: AnyArray | None = None) -> View:
    """Repeat the constant."""
    element = np.zeros((), np.float32) if value is None else value.reshape(())
    return b.constant(element).broadcast(*as_integers(sizes))


def _range_signature(start: AnyArray, limit: AnyArray, delta: AnyArray, **attributes: Any) -> Signature:
    first, last, step = start.item(), limit.item(), delta.item()
    is_finite = all(type(x) is Size or math.isfinite(x) for x in (first, last, step))
    if step == 0 or not is_finite:
        raise ArgumentError(f"Range from {first} to {last} in steps of {step}; expected a finite step, not 0")
    is_integer = dtype_of(start).kind in "iu"
    count = -((first - last) // step) if is_integer else math.ceil((last - first) / step)
    return Signature((max(0, count),), dtype_of(start))


@operation("Range", signature=_range_signature, shape_inputs=(0, 1, 2))
def arange(start: AnyArray, limit: AnyArray, delta: AnyArray, *, stash_type: int = 1) -> Any:
    """start + i delta, for as many i as stay below the limit, or above it if delta is negative.

    Half precision is computed in the dtype `stash_type`: 1 is float32, 11 float64.
    """
    ((count,), dtype) = _range_signature(start, limit, delta)
    working = dtype
    if dtype.name in WIDENED:
        working = np.dtype(np.float64 if stash_type == 11 else np.float32)
    steps = np.arange(count, dtype=np.int64).astype(working)
    y = start.reshape(()).astype(working) + steps * delta.reshape(()).astype(working)
    return y.astype(dtype)


@arange.ranking
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Sequence[Signature]:
    return [Signature((None,), dtype_of(inputs[0]))]


@arange.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[Any, ...]]) -> list[View] | None:
    """Count in the core, for integers whose number a call decides."""
    start, _, step = inputs
    if start is None or step is None or not start.known or not step.known or start.dtype.kind != "i":
        return None
    y = b.new(*shapes[0], dtype="int64")
    b.add("range", start.array.item(), step.array.item(), y)
    return [b.cast(y, start.dtype.name)] if start.dtype.name in DTYPES else None


@arange.by_place
def _(time: Any, node: Node) -> bool:
    """Carry the number of steps so far, if there is an element for each step of a value."""
    if isinstance(time.value(node.outputs[0]), np.ndarray):
        return False
    start, _, delta = (time.known(name) for name in node.inputs)
    value, longer = time.of_length(time.shape(node.outputs[0])[0])
    if value is None or longer or start is None or delta is None or start.dtype.name in WIDENED:
        return False
    timing, zero, one = time.timing(value), *(time.constant(np.array([n])) for n in range(2))
    steps = time.slice(time.add("Shape", value), 0, timing.axis, timing.axis + 1)
    before = time.carry(node, np.zeros(1, np.int64), None, "position")
    places = time.add("Add", before, time.add("Range", zero, steps, one))
    time.keep(before, time.add("Add", before, steps))
    factor, first = (time.constant(array.reshape(1)) for array in (delta, start))
    y = time.add("Mul", time.add("Cast", places, to=start.dtype), factor)
    time.define(node.outputs[0], time.add("Add", y, first), timing.at(0))
    return True


def counted(t: Any, size: Any, axes_after: int = 0) -> Any:
    """Return the integers from 0 to a size, a part of a composition, along the first of some axes."""
    numbers = t.constant_of(0, np.int64).apply("Range", size, 1)
    return numbers.apply("Unsqueeze", range(1, axes_after + 1)) if axes_after else numbers


def places_along(x: Any, axis: int) -> Any:
    """Return the index of each element of x along an axis, with size 1 on the axes before it left out."""
    place = as_axis(axis, x.rank)
    return counted(x.t, x.apply("Shape", start=place, end=place + 1), x.rank - 1 - place)


@composed("EyeLike")
def eye_like(x: Any, *, dtype: Any = None, k: int = 0) -> Any:
    """Ones on the diagonal k of a matrix, zeros elsewhere."""
    if x.rank != 2:
        raise ShapeError(f"the input of EyeLike has shape {x.shape}; expected a matrix")
    return _diagonals(x).equals(k).cast(x.dtype if dtype is None else as_dtype(dtype))


def _diagonals(x: Any) -> Any:
    """Return the diagonal on which each element of a matrix lies, 0 for the main one."""
    return places_along(x, -1).apply("Sub", places_along(x, -2))


@composed("Trilu")
def trilu(x: Any, k: Any = None, *, upper: int = 1) -> Any:
    """The upper or lower triangle of matrices up to the diagonal k, zeros elsewhere."""
    diagonal, limit = _diagonals(x), x.t.constant_of(0, np.int64) if k is None else k.apply("Reshape", [])
    return where(diagonal >= limit if upper else diagonal <= limit, x, 0)


# Random numbers: new ones in each call unless there is a seed.


def _generator(seed: float | None) -> np.random.Generator:
    """Return a generator of random numbers; with a seed, it draws the same numbers in every call."""
    return np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))


def _shape_signature(*, shape: Sequence[int], dtype: Any = FLOAT32, **attributes: Any) -> Signature:
    if min(shape, default=0) < 0:
        raise ShapeError(f"the shape {tuple(shape)} has negative sizes")
    return Signature(tuple(shape), dtype)


def _like_signature(x: Operand, *, dtype: Any = None, **attributes: Any) -> Signature:
    return Signature(x.shape, dtype or x.dtype)


def _define_random(name: str, draw: Callable[..., Any], **defaults: float) -> None:
    """Define the operations that draw from a distribution: as many numbers as a shape or an array has."""

    @operation(name, signature=_shape_signature, attributes=tuple(defaults), is_pure=False)
    def of_shape(
        *,
        shape: Sequence[int],
        dtype: Any = FLOAT32,
        seed: float | None = None,
        **parameters: float,
    ) -> Any:
        return draw(_generator(seed), *(defaults | parameters).values(), shape).astype(dtype)

    @operation(f"{name}Like", signature=_like_signature, attributes=tuple(defaults), is_pure=False)
    def like(x: AnyArray, *, dtype: Any = None, seed: float | None = None, **parameters: float) -> Any:
        return draw(_generator(seed), *(defaults | parameters).values(), x.shape).astype(dtype or x.dtype)


_define_random("RandomNormal", lambda generator, *numbers: generator.normal(*numbers), mean=0.0, scale=1.0)
_define_random("RandomUniform", lambda generator, *numbers: generator.uniform(*numbers), low=0.0, high=1.0)


@operation("Bernoulli", signature=_like_signature, is_pure=False)
def bernoulli(x: AnyArray, *, dtype: Any = None, seed: float | None = None) -> Any:
    """1 with probability x, otherwise 0."""
    return np.asarray(_generator(seed).random(x.shape) < x).astype(dtype or x.dtype)


def _multinomial_signature(
    x: Operand, *, dtype: Any = INT32, sample_size: int = 1, seed: float | None = None
) -> Signature:
    if len(x.shape) != 2 or sample_size < 1:
        raise ShapeError(f"logits of shape {x.shape}, sample_size={sample_size}; expected (B, C), at least 1")
    return Signature((x.shape[0], sample_size), dtype)


@operation("Multinomial", signature=_multinomial_signature, is_pure=False, widens=True)
def multinomial(
    x: AnyArray, *, dtype: Any = INT32, sample_size: int = 1, seed: float | None = None
) -> AnyArray:
    """Indices (B, sample_size) of classes, whose unnormalized logarithmic probabilities are x (B, C)."""
    generator = _generator(seed)
    bounds = np.exp(x.astype(np.float64) - x.max(1, keepdims=True, initial=-np.inf)).cumsum(1)
    drawn = generator.random((len(x), sample_size)) * bounds[:, -1:]
    rows = [np.searchsorted(row, numbers, "right") for row, numbers in zip(bounds, drawn, strict=True)]
    return np.array(rows).reshape(len(x), sample_size).astype(dtype)

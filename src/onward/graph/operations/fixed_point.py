"""Integers that stand for real numbers: rescaling by fixed-point factors, and tables, with exact rounding.

A factor is a multiplier of 31 fractional bits and a shift, as in gemmlowp and TensorFlow Lite.
"""

from functools import partial
from typing import Any

import numpy as np

from ...errors import DtypeError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from ..sized import broadcast_shape
from . import integer_fusion
from .registry import Inputs, elementwise, operation
from .value import known, typed_view

INT32 = np.dtype(np.int32)
STEPS = {"Rescale": "rescale", "RescaleOnce": "rescale_once"}


def high_product(a: AnyArray, b: AnyArray | int, bits: int = 32) -> AnyArray:
    """The upper half of 2 a b, rounded to nearest, ties up; the result saturates."""
    product = (np.asarray(a, np.int64) * b + (1 << (bits - 2))) >> (bits - 1)
    saturated: AnyArray = np.minimum(product, (1 << (bits - 1)) - 1)
    return saturated


def shifted_right(x: AnyArray, n: AnyArray | int) -> AnyArray:
    """x / 2^n for n of at least 0, rounded to nearest, ties away from zero."""
    mask = (np.int64(1) << np.asarray(n, np.int64)) - 1
    found: AnyArray = (x >> n) + ((x & mask) > (mask >> 1) + (x < 0))
    return found


def rescaled(x: AnyArray, multiplier: AnyArray, shift: AnyArray) -> AnyArray:
    """x multiplier / 2^31 2^shift in int32, in two roundings."""
    left, right = np.clip(shift, 0, 31), np.clip(-shift.astype(np.int64), 0, 31)
    wrapped = (x.astype(np.int64) << left).astype(np.int32)
    return shifted_right(high_product(wrapped, multiplier), right).astype(np.int32)


def _rescaled_signature(
    expected: Any, x: Operand, multiplier: Operand, shift: Operand, zero_point: Operand, *limits: Operand
) -> Signature:
    if x.dtype != expected or not multiplier.dtype == shift.dtype == INT32:
        raise DtypeError(
            f"x has dtype {x.dtype}, its factor {multiplier.dtype}, {shift.dtype}; expected {expected}, int32"
        )
    return Signature(broadcast_shape(x.shape, multiplier.shape, shift.shape), zero_point.dtype)


@operation("Rescale", signature=partial(_rescaled_signature, INT32), combines=elementwise)
def rescale(
    x: AnyArray, multiplier: AnyArray, shift: AnyArray, zero_point: AnyArray, low: AnyArray, high: AnyArray
) -> AnyArray:
    """x multiplier / 2^31 2^shift + zero_point, from low to high; the last three are numbers of one dtype."""
    y = rescaled(*np.broadcast_arrays(x, multiplier, shift)).astype(np.int64) + int(zero_point)
    return np.clip(y, int(low), int(high)).astype(zero_point.dtype)


@operation("RescaleOnce", signature=partial(_rescaled_signature, np.dtype(np.int64)), combines=elementwise)
def rescale_once(
    x: AnyArray, multiplier: AnyArray, shift: AnyArray, zero_point: AnyArray, low: AnyArray, high: AnyArray
) -> AnyArray:
    """x multiplier / 2^(31 - shift), rounded once to nearest, ties up, + zero_point, from low to high."""
    n = np.clip(31 - shift.astype(np.int64), 1, 63)
    k, wide, one = np.minimum(n, 16), multiplier.astype(np.int64), np.int64(1)
    rest = x & ((one << k) - 1)
    y = ((x >> k) * wide + (rest * wide + (one << (n - 1)) >> k) >> n - k) + int(zero_point)
    found: AnyArray = np.clip(y, int(low), int(high)).astype(zero_point.dtype)
    return found


@rescale.lowering
@rescale_once.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    views = [x for value in inputs[:3] if (x := typed_view(b, value)) is not None]
    numbers = [n for value in inputs[3:] if (n := known(value)) is not None]
    if len(views) + len(numbers) < 6 or any(n.size != 1 or n.dtype.kind not in "iu" for n in numbers):
        return None
    x, multiplier, shift = views
    dtype, limits, step = numbers[0].dtype.name, list(map(int, numbers)), STEPS[node.operation]
    if (step == "rescale" and dtype not in ("int8", "uint8", "int32")) or dtype not in DTYPES:
        return None
    is_alone = step == "rescale" and inputs[0] is not None and inputs[0].used_once
    fused = integer_fusion.rescaled(b, x, multiplier, shift, limits, dtype) if is_alone else None
    return [fused or b.combined(step, *limits, *views, dtype=dtype)]


def _table_signature(x: Operand, table: Operand, low: Operand, *, bits: int = 0) -> Signature:
    if len(table.shape) != 1 or x.dtype.kind not in "iu":
        raise ShapeError(f"x has dtype {x.dtype}, the table shape {table.shape}; expected integers, a vector")
    if bits and (not 0 < bits < 31 or table.shape[0] < 2 or table.dtype != INT32):
        raise ShapeError(f"a table of {table.dtype}, {table.shape}, cannot be read between {bits} bits")
    return Signature(x.shape, table.dtype)


@operation("Lookup", signature=_table_signature, combines=lambda node, inputs: [(), (0,), ()])
def lookup(x: AnyArray, table: AnyArray, low: AnyArray, *, bits: int = 0) -> AnyArray:
    """table[(x - low) / 2^bits], on the line between two elements, rounded, ties up.

    Integers beyond the table take its first or last element.
    """
    place = np.clip(x.astype(np.int64) - int(low), 0, len(table) - 1 << bits)
    if not bits:
        found: AnyArray = table[place]
        return found
    first = np.minimum(place >> bits, len(table) - 2)
    before, after = (table[first + n].astype(np.int64) for n in (0, 1))
    rise = (after - before) * (place - (first << bits)) + (1 << bits - 1) >> bits
    between: AnyArray = (before + rise).astype(table.dtype)
    return between


@lookup.steps(DTYPES, views=(0, 1))
def _(b: Builder, x: View, table: View, low: AnyArray, *, bits: int = 0) -> View:
    y = b.like(x, table.dtype)
    b.add("lookup", int(low), bits, b.contiguous(table), x, y)
    return y


def newton_reciprocal(x: AnyArray, bits: int = 32) -> AnyArray:
    """2 / (1 + x) for x from 0 to 1 with all bits but one behind the point; the result has two fewer."""
    highest, low = (1 << (bits - 1)) - 1, 32 - bits
    half = (np.asarray(x, np.int64) + highest + 1) // 2
    start, slope = (int(shifted_right(np.array(c), low)) for c in (1515870810, -1010580540))  # 48/17, -32/17
    y = start + high_product(half, slope, bits)
    for _ in range(3):
        rest = (1 << (bits - 3)) - high_product(half, y, bits)
        y = y + np.clip(high_product(y, rest, bits) * 4, -highest - 1, highest)
    return y


def reciprocal_of_one_plus(x: AnyArray, bits: int = 32) -> AnyArray:
    """1 / (1 + x) for x from 0 to 1, both with all bits but one behind the point."""
    y: AnyArray = np.minimum(newton_reciprocal(x, bits) * 2, (1 << (bits - 1)) - 1)
    return y


@operation("FixedReciprocal", signature=lambda x: [Signature(x.shape, INT32)] * 2, combines=elementwise)
def fixed_reciprocal(x: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The multiplier and the shift of the factor 2^31 / x; x is int32 without a sign."""
    wide = x.astype(np.uint32).astype(np.int64)
    zeros = 32 - np.ceil(np.log2(wide + 1.0)).astype(np.int64)
    fraction = np.where(wide == 0, 0, (wide << zeros) - (1 << 31))
    return reciprocal_of_one_plus(fraction).astype(np.int32), zeros.astype(np.int32)


@fixed_reciprocal.steps(["int32"])
def _(b: Builder, x: View) -> list[View]:
    multiplier, shift = b.like(x), b.like(x)
    b.add("fixed_reciprocal", x, multiplier, shift)
    return [multiplier, shift]

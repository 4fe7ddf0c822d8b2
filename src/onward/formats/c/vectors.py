"""The inputs on which a model in C is tested, and the accuracy of int8 on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...errors import ArgumentError
from ...graph.declared import check_names
from ...graph.node import AnyArray
from .runnable import Runnable

MAX_NUMBERS, BLOCKS = 1 << 14, 16  # in the test of a model


class Accuracy(NamedTuple):
    """How far outputs are from those in float32."""

    largest_difference: float
    relative_error: float  # the root of the mean square of the differences over that of the outputs


def random(source: Runnable, phases: int) -> list[list[AnyArray]]:
    """Return random blocks, so many that a stream passes through all its phases."""
    rng = np.random.default_rng(0)
    size = sum(each.size for each in source.block)
    count = max(phases + 2, min(BLOCKS, MAX_NUMBERS // max(size, 1))) if source.streamed else 1
    return [[_random(each, rng) for each in source.block] for _ in range(count)]


def _random(like: AnyArray, rng: np.random.Generator) -> AnyArray:
    if like.dtype.kind == "f":
        return np.asarray(rng.normal(size=like.shape), like.dtype)
    return np.asarray(rng.integers(0, 2, like.shape), like.dtype)


def given(source: Runnable, data: Mapping[str, ArrayLike]) -> list[list[AnyArray]]:
    """Return the blocks that arrays of inputs hold one after the other.

    Raises SignatureError for unknown names, and ArgumentError for arrays of other sizes.
    """
    check_names({each.name: each for each in source.inputs}, list(data), "inputs")
    columns = []
    for declared, block in zip(source.inputs, source.block, strict=True):
        if declared.name not in data:
            raise ArgumentError(f"data has no array for the input {declared.name}")
        array = np.asarray(data[declared.name])
        if array.size == 0 or array.size % block.size:
            raise ArgumentError(
                f"{declared.name} has {array.size} numbers in data, but a block has shape {block.shape}"
            )
        columns.append(array.astype(block.dtype).reshape(-1, *block.shape))
    count = max(map(len, columns))
    if any(len(column) not in (1, count) for column in columns):
        raise ArgumentError("the arrays in data have different numbers of blocks")
    return [[column[min(i, len(column) - 1)] for column in columns] for i in range(count)]


def accuracy(outputs: Sequence[Sequence[AnyArray]], exact: Sequence[Sequence[AnyArray]]) -> Accuracy:
    """Compare outputs in int8 with those in float32."""
    pairs = [(y, z) for ys, zs in zip(outputs, exact, strict=True) for y, z in zip(ys, zs, strict=True)]
    floats = [(np.float64(y).ravel(), np.float64(z).ravel()) for y, z in pairs if y.dtype.kind == "f"]
    found, wanted = (np.concatenate([np.zeros(1), *each]) for each in zip(*floats, strict=True))
    difference = np.zeros_like(wanted)
    np.subtract(found, wanted, out=difference, where=found != wanted)  # infinities may be equal
    scale = float(np.sqrt(np.mean(wanted[np.isfinite(wanted)] ** 2))) or 1.0
    return Accuracy(float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))) / scale)

"""Inputs to try a graph on: random arrays for the dtypes and axes that it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .declared import UNNAMED, Input
from .node import AnyArray

SIZES = (3, 16, 64)  # tried for open axes; those with different names get different sizes
LARGEST_INDEX = 4  # in inputs of integers
MAX_ELEMENTS = 1 << 20


def examples(inputs: Sequence[Input]) -> Iterator[list[AnyArray]]:
    """Yield arrays for inputs, with growing sizes of their open axes; none if a dtype or a rank is open."""
    if any(declared.dtype is None or declared.axes is None for declared in inputs):
        return
    rng, tried = np.random.default_rng(0), list[Any]()
    for size in SIZES:
        sizes: dict[str, int] = {}
        shapes = [
            tuple(
                axis if isinstance(axis, int) else sizes.setdefault(_key(axis, place), size + len(sizes))
                for place, axis in enumerate(declared.axes or ())
            )
            for declared in inputs
        ]
        if shapes not in tried and sum(map(math.prod, shapes)) <= MAX_ELEMENTS:
            tried.append(shapes)
            yield [
                _random(rng, shape, declared.dtype) for shape, declared in zip(shapes, inputs, strict=True)
            ]


def _key(axis: str, place: int) -> str:
    """The name of an open axis; those without a name have the same size if they are in the same place."""
    return f"axis {place}" if axis in UNNAMED else axis


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> AnyArray:
    if dtype.hasobject:
        return np.full(shape, "text", object)
    is_float = dtype.kind in "fc"
    values = rng.standard_normal(shape) if is_float else rng.integers(0, LARGEST_INDEX, shape)
    return np.asarray(values).astype(dtype)

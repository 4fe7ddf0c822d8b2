"""Inputs whose sizes the programs of a compiled model must take, from what a graph declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from ...graph import Input
from ...graph.declared import UNNAMED
from ...graph.node import AnyArray

BASES = (17, 2, 64, 512)  # open axes with different names get different sizes from here on
MOST_OPEN = 4  # axes whose sizes are combined with 1
MOST_ELEMENTS = 1 << 20


def open_axes(inputs: Sequence[Input]) -> list[str]:
    """Return the names of the open axes; those without a name are named after their input."""
    found = [name for each in inputs for name in _named(each) if isinstance(name, str)]
    return list(dict.fromkeys(found))


def sizes(inputs: Sequence[Input], base: int) -> Iterator[dict[str, int]]:
    """Yield sizes of the open axes: different ones first, then each combination of these with 1."""
    names = open_axes(inputs)
    large = {name: base + place for place, name in enumerate(names)}
    yield large
    if len(names) <= MOST_OPEN:
        for ones in product([False, True], repeat=len(names)):
            if any(ones):
                yield {name: 1 if one else large[name] for name, one in zip(names, ones, strict=True)}
    else:
        yield dict.fromkeys(names, 1)


def zeros(inputs: Sequence[Input], sizes: Mapping[str, int]) -> list[AnyArray] | None:
    """Return arrays for inputs with some sizes of their open axes, or None if they would be large."""
    shapes = [tuple(sizes[a] if isinstance(a, str) else a for a in _named(each)) for each in inputs]
    if sum(map(math.prod, shapes)) > MOST_ELEMENTS:
        return None
    return [np.zeros(shape, each.dtype) for shape, each in zip(shapes, inputs, strict=True)]


def _named(declared: Input) -> list[int | str]:
    axes = enumerate(declared.axes or ())
    return [f"{declared.name}.shape[{i}]" if axis in UNNAMED else axis for i, axis in axes]

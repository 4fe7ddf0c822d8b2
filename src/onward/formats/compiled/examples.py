"""Inputs whose sizes the programs of a compiled model must take, from what a graph declares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from ...graph import Input
from ...graph.declared import UNNAMED
from ...graph.node import AnyArray

BASES = (17, 2, 64, 512)  # open axes get sizes from here on
MOST_OPEN = 4  # axes whose sizes are combined with each other and with 1
MOST_ELEMENTS = 1 << 20


def open_axes(inputs: Sequence[Input]) -> list[str]:
    """Return the names of the open axes; those without a name are named after their input."""
    found = [name for each in inputs for name in _named(each) if isinstance(name, str)]
    return list(dict.fromkeys(found))


def sizes(inputs: Sequence[Input], base: int) -> Iterator[dict[str, int]]:
    """Yield sizes of the open axes: different ones first, then all combinations of equal ones and of 1."""
    names = open_axes(inputs)
    count = len(names)
    choices: Iterable[tuple[int, ...]] = (tuple(range(count)), (0,) * count, (-1,) * count)
    if count <= MOST_OPEN:  # an axis has its own size, that of an earlier axis, or 1
        choices = product(*([place, *range(place), -1] for place in range(count)))
    for chosen in choices:
        if all(of < 0 or chosen[of] == of for of in chosen):
            yield {name: 1 if of < 0 else base + of for name, of in zip(names, chosen, strict=True)}


def zeros(inputs: Sequence[Input], sizes: Mapping[str, int]) -> list[AnyArray] | None:
    """Return arrays for inputs with some sizes of their open axes, or None if they would be large."""
    shapes = [tuple(sizes[a] if isinstance(a, str) else a for a in _named(each)) for each in inputs]
    if sum(map(math.prod, shapes)) > MOST_ELEMENTS:
        return None
    return [np.zeros(shape, each.dtype) for shape, each in zip(shapes, inputs, strict=True)]


def _named(declared: Input) -> list[int | str]:
    axes = enumerate(declared.axes or ())
    return [f"{declared.name}.shape[{i}]" if axis in UNNAMED else axis for i, axis in axes]

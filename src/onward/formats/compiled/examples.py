"""Inputs whose sizes the programs of a compiled model must take, from what a graph declares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from ...errors import ArgumentError
from ...graph import Input
from ...graph.declared import UNNAMED
from ...graph.node import AnyArray

BASES = (17, 2, 64, 512)  # open axes get sizes from here on
MOST_OPEN = 4  # axes whose sizes are combined with each other and with 1
# Sizes of one open axis: windows may barely fit, strides may leave remainders, and slices may be cut short.
SIZES = (*range(2, 14), 16, 19, 5000)
MOST_ELEMENTS = 1 << 22


def open_axes(inputs: Sequence[Input]) -> list[str]:
    """Return the names of the open axes; those without a name are named after their input."""
    found = [name for each in inputs for name in _named(each) if isinstance(name, str)]
    return list(dict.fromkeys(found))


def sizes(inputs: Sequence[Input], base: int) -> Iterator[dict[str, int]]:
    """Yield sizes of the open axes: different ones, combinations of equal ones, 1 and 0, and SIZES."""
    names = open_axes(inputs)
    count = len(names)
    choices: Iterable[tuple[int, ...]] = (tuple(range(count)), (0,) * count, (-1,) * count)
    if count <= MOST_OPEN:  # an axis has its own size, that of an earlier axis, 1 or, last, 0
        every = product(*([place, *range(place), -1, -2] for place in range(count)))
        choices = sorted(every, key=lambda chosen: -2 in chosen)
    for chosen in choices:
        if all(of < 0 or chosen[of] == of for of in chosen):
            yield {name: base + of if of >= 0 else 2 + of for name, of in zip(names, chosen, strict=True)}
    if count <= MOST_OPEN:
        own = {name: base + place for place, name in enumerate(names)}
        mixed = product(*((size, 1) for size in own.values()))
        around = [*(dict(zip(names, chosen, strict=True)) for chosen in mixed), dict.fromkeys(names, 0)]
        for others, name, size in product(around, names, SIZES):
            if others[name] != 1:  # else the same sizes follow from another choice
                yield others | {name: size}


def arrays(inputs: Sequence[Input], base: int) -> Iterator[list[AnyArray]]:
    """Yield arrays for inputs in each of these `sizes`, unless they would be large."""
    for chosen in sizes(inputs, base):
        shapes = [tuple(chosen[a] if isinstance(a, str) else a for a in _named(each)) for each in inputs]
        if sum(map(math.prod, shapes)) <= MOST_ELEMENTS:
            yield [np.zeros(shape, each.dtype) for shape, each in zip(shapes, inputs, strict=True)]


def without_example(what: str) -> ArgumentError:
    """Return the error for inputs without an example."""
    most = f"1 to {MOST_ELEMENTS:,} elements in all"
    return ArgumentError(f"no inputs with the declared axes have {most}: pass {what}")


def are_empty(arrays: Iterable[AnyArray]) -> bool:
    """Return whether an array has no elements: a model that only takes such arrays is of no use."""
    return any(array.size == 0 for array in arrays)


def _named(declared: Input) -> list[int | str]:
    axes = enumerate(declared.axes or ())
    return [f"{declared.name}.shape[{i}]" if axis in UNNAMED else axis for i, axis in axes]

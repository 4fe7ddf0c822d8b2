"""Random arrays for the inputs of a graph, from the axes that they declare."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ArgumentError
from .declared import UNNAMED, Input
from .node import AnyArray

SIZES = (3, 16, 64, 200)  # for open axes, to be tried until a model accepts one
LARGEST_INDEX = 4  # in inputs of integers
MOST_ELEMENTS, MOST_FIXED = 1 << 22, 1 << 26  # of an input with open axes, and of one without


def random_inputs(
    inputs: Sequence[Input], size: int, sizes: Mapping[str, int] | None = None
) -> list[AnyArray]:
    """Return random arrays for inputs, whose open axes have these sizes by name, or others from `size` on.

    Axes without a name have the same size if they are in the same place. Raises ArgumentError for an input
    without a declared shape, and for large arrays.
    """
    rng, known, shapes = np.random.default_rng(0), dict(sizes or {}), []
    for each in inputs:
        if each.axes is None or each.dtype is None:
            raise ArgumentError(f"the model does not declare the shape of {each.name}")
        keys = [f"axis {place}" if axis in UNNAMED else axis for place, axis in enumerate(each.axes)]
        shapes.append([
            key if isinstance(key, int) else known.setdefault(key, size + len(known)) for key in keys
        ])  # fmt: skip
        is_fixed = all(isinstance(axis, int) for axis in each.axes)
        if math.prod(shapes[-1]) > (MOST_FIXED if is_fixed else MOST_ELEMENTS):
            raise ArgumentError(f"{each.name} of shape {tuple(shapes[-1])} is too large to be tried")
    return [_random(rng, shape, each.dtype) for shape, each in zip(shapes, inputs, strict=True)]


def _random(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[np.generic] | None) -> AnyArray:
    if dtype is None or dtype.hasobject:
        return np.full(shape, "text", object)
    is_float = dtype.kind in "fc"
    values = rng.standard_normal(shape) if is_float else rng.integers(0, LARGEST_INDEX, shape)
    return np.asarray(values).astype(dtype)

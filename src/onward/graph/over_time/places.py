"""Places of elements that are affine functions of their indices, such as those of overlapping windows.

They are views of a memory that holds 0, 1, 2, ...: the offset is the first place, and the strides are the
differences between the places along each axis.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from ..node import AnyArray, Node, Operand
from ..operations import OPERATIONS
from ..operations.indexing import as_steps
from ..plan.strided import NotStridedError, Strided
from ..plan.view import View
from ..size import are_same
from ..sized import INT64, has_sizes

DTYPES = np.int32, np.int64


def places_of(node: Node, values: Mapping[str, Operand], places: Mapping[str, View]) -> View | None:
    """Return the places that a node computes from places and known integers, or None."""
    given = [values[name] if name else None for name in node.inputs]
    shape = values[node.outputs[0]].shape
    if node.operation == "Range":
        start, _, step = map(_known, given)
        return None if start is None or step is None else View(0, start.item(), shape, (step.item(),))
    if places.keys().isdisjoint(node.inputs):
        return None
    if node.operation == "Cast" and np.dtype(node.attributes["to"]) in DTYPES:
        return places[node.inputs[0]]
    views = [places.get(name) or _view(value) for name, value in zip(node.inputs, given, strict=True)]
    if node.operation in ("Add", "Sub", "Mul"):
        x, y = views
        return x and y and _combined(node.operation, x.broadcast(*shape), y.broadcast(*shape))
    return moved(node, views[0], given[1:]).get(node.outputs[0])


def _known(value: Operand | None) -> AnyArray | None:
    """Return known integers, or None."""
    is_known = isinstance(value, np.ndarray) and value.dtype in DTYPES and not has_sizes(value)
    return value if is_known else None  # type: ignore[return-value]  # an array


def _view(value: Operand | None) -> View | None:
    """Return known integers as places, or None."""
    array = _known(value)
    if array is None or not array.size or (found := as_steps(array[..., None])) is None:
        return None
    first, steps = found
    return View(0, int(first[0]), array.shape, tuple(int(step[0]) for step in steps))


def _combined(operation: str, x: View, y: View) -> View | None:
    """Return the sum or the difference of places, or their product with a number."""
    if operation == "Mul":
        x, y = (y, x) if any(y.strides) else (x, y)
        if any(y.strides):
            return None
        return View(0, x.offset * y.offset, x.shape, tuple(step * y.offset for step in x.strides))
    sign = 1 if operation == "Add" else -1
    steps = (a + sign * b for a, b in zip(x.strides, y.strides, strict=True))
    return View(0, x.offset + sign * y.offset, x.shape, tuple(steps))


def moved(node: Node, x: View | None, others: list[Any]) -> dict[str, View]:
    """Return the outputs of a node that moves the elements of x by name; none if they are not views of x."""
    operation = OPERATIONS[node.operation]
    if not operation.moves or x is None or not all(isinstance(y, np.ndarray | None) for y in others):
        return {}
    found = Strided(x, INT64, _copied).moved(operation.function, others, node.attributes) or ()
    return {
        name: view.with_axes(view.shape, _strides(view))
        for name, view in zip(node.outputs, found, strict=False)
    }


def _strides(view: View) -> list[Any]:
    """Return the strides, 0 along axes of one element, whose strides depend on how they came to be."""
    return [0 if are_same(size, 1) else step for size, step in zip(view.shape, view.strides, strict=True)]


def _copied(view: View) -> NoReturn:
    raise NotStridedError("a copy")

"""Operations that only move elements, as views if strides can express the result, otherwise as copies."""

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View
from .registry import Inputs, known, lowering, view

# Each output element is a copy of an input element, at a position that does not depend on the values.
MOVEMENT = {
    *(
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Gather",
        "Expand",
        "Tile",
    ),
    *("Identity", "Dropout", "DepthToSpace", "SpaceToDepth"),
}


@lowering(*MOVEMENT)
def movement(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Return views if strides can express the outputs, otherwise gather by a table of offsets."""
    x, *others = inputs
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    moved = node.run(x.view.offsets(), *(known(other) for other in others))
    views = []
    for offsets in moved[: len(shapes)]:
        found = View.at(x.view.space, offsets)
        if found is None:
            found = b.new(*offsets.shape)
            table = offsets.ravel() - x.view.offset
            b.add("gather", x.view, table.tolist(), found)
        views.append(found)
    return views


@lowering("Cast")
def cast(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """A cast from float32 to float32, the only dtype of a lowered output."""
    x = view(b, inputs[0])
    return x and [x]


@lowering("Concat")
def concat(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    parts = [view(b, value) for value in inputs]
    axis = node.attributes["axis"] % len(shapes[0])
    y, start = b.new(*shapes[0]), 0
    for part in parts:
        if part is None:
            return None
        size = part.shape[axis]
        b.add("copy", part, y.sliced(axis, start, start + size))
        start += size
    return [y]


@lowering("Pad")
def pad(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, *others = inputs
    if node.attributes.get("mode", "constant") != "constant":
        return movement(b, node, inputs, shapes)
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    # The source of each output element, counted from 1; the padding is 0.
    places = np.arange(x.array.size, dtype=np.float64).reshape(x.array.shape) + 1
    constant = np.zeros((), np.float64)
    parameters = [known(other) for other in others]
    value = node.attributes.get("value", 0.0)
    if len(parameters) > 1 and parameters[1] is not None:
        value = float(parameters[1])
        parameters[1] = constant
    elif value:
        return None
    (moved,) = node.run(places, *parameters)
    inside = np.argwhere(moved > 0)
    if not len(inside):
        return None
    low, high = inside.min(0), inside.max(0) + 1
    cropped = moved[tuple(map(slice, low, high))].astype(np.int64) - 1
    from_view = View.at(x.view.space, x.view.offsets().ravel()[cropped])
    if from_view is None:
        return None
    y = b.new(*shapes[0])
    b.add("fill", value, y)
    inner = y
    for axis, (start, stop) in enumerate(zip(low, high, strict=True)):
        inner = inner.sliced(axis, int(start), int(stop))
    b.add("copy", from_view, inner)
    return [y]

"""Operations that only move elements, as views if strides can express the result, otherwise as copies."""

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View
from .integers import converted
from .registry import Inputs, known, lowering, typed_view

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
    if node.operation == "Gather" and others[0] is not None and not others[0].known:
        return _take(b, node, inputs)
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    moved = node.run(x.view.offsets(), *(known(other) for other in others))
    if any(offsets.dtype != np.int64 for offsets in moved[: len(shapes)]):
        return None
    views = []
    for offsets in moved[: len(shapes)]:
        found = View.at(x.view.space, offsets, x.view.dtype)
        if found is None:
            found = b.new(*offsets.shape, dtype=x.view.dtype)
            table = offsets.ravel() - x.view.offset
            b.add("gather", x.view, table.tolist(), found)
        views.append(found)
    return views


def _take(b: Builder, node: Node, inputs: Inputs) -> list[View] | None:
    """Gather along one axis with indices that vary between calls."""
    x, indices = (typed_view(b, value) for value in inputs)
    if x is None or indices is None or indices.dtype not in ("int32", "int64"):
        return None
    axis, axes = node.attributes.get("axis", 0) % len(x.shape), range(len(x.shape))
    rows = x.permuted(axis, *(other for other in axes if other != axis))
    count = len(indices.shape)
    y = b.new(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :], dtype=x.dtype)
    index_axes = range(axis, axis + count)
    selected = y.permuted(*index_axes, *(other for other in range(len(y.shape)) if other not in index_axes))
    b.add("take", rows, indices, selected, node.name)
    return [y]


CAST_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}


@lowering("Cast")
def cast(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Convert to the dtype with the code `to` in ONNX."""
    x, dtype, value = typed_view(b, inputs[0]), CAST_DTYPES.get(node.attributes["to"]), inputs[0]
    if x is None or dtype is None or value is None:
        return None
    if value.used_once and dtype == "float32" and (y := converted(b, x)):
        return [y]
    return [b.cast(x, dtype)]


@lowering("Where")
def where(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    condition, x, y = (typed_view(b, value) for value in inputs)
    if condition is None or x is None or y is None:
        return None
    return [b.where(condition, x, y)]


@lowering("Concat")
def concat(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    parts = [part for value in inputs if (part := typed_view(b, value))]
    if len(parts) < len(inputs):
        return None
    axis = node.attributes["axis"] % len(shapes[0])
    y, start = b.new(*shapes[0], dtype=parts[0].dtype), 0
    for part in parts:
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
        value = parameters[1].item()
        parameters[1] = constant
    elif value:
        return None
    (moved,) = node.run(places, *parameters)
    inside = np.argwhere(moved > 0)
    if not len(inside):
        return None
    low, high = inside.min(0), inside.max(0) + 1
    cropped = moved[tuple(map(slice, low, high))].astype(np.int64) - 1
    from_view = View.at(x.view.space, x.view.offsets().ravel()[cropped], x.view.dtype)
    if from_view is None:
        return None
    y = b.new(*shapes[0], dtype=x.view.dtype)
    b.fill(value, y)
    inner = y
    for axis, (start, stop) in enumerate(zip(low, high, strict=True)):
        inner = inner.sliced(axis, int(start), int(stop))
    b.add("copy", from_view, inner)
    return [y]

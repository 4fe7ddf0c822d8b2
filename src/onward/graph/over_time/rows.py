"""Check that a graph computes each row of a batch from the same row of its inputs alone."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, islice, product
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph, Input
from ..inference import Values, flattened, outputs_of
from ..node import Node, Signature, with_size
from ..operations import OPERATIONS
from ..operations.arguments import as_axis
from ..operations.registry import elementwise
from ..polynomial import evaluated
from ..size import Axes, Size, are_same
from .following import Follower

MAX_TRIALS = 200  # combinations of axes that may be the inputs' batch axes
ROWS = "rows of a pool"  # the name of the axis

Shapes = Sequence[tuple[Any, ...]]


def by_rows(
    graph: Graph, carries: int, shapes: Shapes, choices: Sequence[Sequence[int]]
) -> tuple[Graph, list[int], list[int | None]]:
    """Return the graph for any number of rows, and the batch axes of its inputs and outputs.

    An output that is the same for any number of rows has no batch axis.

    `shapes` are the shapes of the inputs for one row, which may hold symbolic sizes of the same `Axes`, and
    `choices` the possible batch axes of each, the likeliest first. The first inputs and outputs are carries,
    whose batch axes must be the same. An input of shape (1,) without a batch axis, such as the position in a
    sequence, becomes one of shape (rows,). Raises ArgumentError, which names the node, if an operation
    combines rows.
    """
    alone = [d.name for d, shape, axes in zip(graph.inputs, shapes, choices, strict=True) if not axes]
    for declared, shape in zip(graph.inputs, shapes, strict=True):
        if declared.name in alone and shape != (1,):
            raise ArgumentError(f"cannot run rows of a batch separately: {declared.name} has no batch axis")
    choices = [possible or [0] for possible in choices]
    problem: ArgumentError | None = None
    names = [declared.name for declared in graph.inputs]
    symbolic = [size for size in chain(*shapes) if type(size) is Size]
    sizes = symbolic[0].axes if symbolic else Axes(is_open=True)
    one: dict[str, Any] = {name: sizes.add(name) for size in symbolic for name in size.names}
    rows, one[ROWS] = sizes.add(ROWS), 1
    for axes in islice(product(*choices), MAX_TRIALS):
        values = Values()
        for declared, shape, axis in zip(graph.inputs, shapes, axes, strict=True):
            assert declared.dtype is not None
            values[declared.name] = with_size(Signature(shape, declared.dtype), axis, rows)
        try:
            builder = _RowBuilder(graph, values, dict(zip(names, axes, strict=True)), one)
            built, found = builder.build(alone)
        except ArgumentError as error:
            problem = problem or error
            continue
        if found[:carries] == list(axes[:carries]):
            pairs = zip(graph.inputs, axes, strict=True)
            return built.replaced(inputs=[_with_rows(d, axis) for d, axis in pairs]), list(axes), found
    raise problem or ArgumentError("cannot run rows of a batch separately: a carry changes its batch axis")


def _with_rows(declared: Input, axis: int) -> Input:
    """Return an input that may have any number of rows, as have all others."""
    if declared.axes is None:
        return declared
    return declared.with_axes(*declared.axes[:axis], ROWS, *declared.axes[axis + 1 :])


class _RowBuilder(Follower):
    """Follows the batch axis through a graph; `one` has the sizes of all symbolic axes for one row.

    Values that are the same for all rows of the graph, but differ between those of a pool, get a batch axis
    before their other axes: they are leading.
    """

    problem, name, elements = "cannot run rows of a batch separately", "the rows", "rows"
    size, otherwise = "the number of rows", "its sizes hold for one row"

    def __init__(self, graph: Graph, values: Values, axes: dict[str, int], one: Mapping[str, Any]) -> None:
        of_one = {
            name: Signature(tuple(evaluated(size, one) for size in value.shape), value.dtype)
            if isinstance(value, Signature)
            else value
            for name, value in values.items()
        }
        super().__init__(flattened(graph, of_one), values)
        self._axes: dict[str, int | None] = {**axes}
        self._one = one
        self._leading = dict[str, str]()  # the names of leading values, by those in the graph

    def _varies(self, size: Any) -> bool:
        return type(size) is Size and ROWS in size.names

    def build(self, alone: Sequence[str] = ()) -> tuple[Graph, list[int | None]]:
        """Return the graph and the batch axis of each output, if it has one.

        The inputs `alone`, of shape (rows,), have no batch axis in the graph; nor have the outputs that
        follow from them, and become ones of shape (rows,).
        """
        for name in alone:
            self._leading[name] = self.add("Unsqueeze", name, self.constant([1]))
        self.follow()
        outputs = [
            self.add("Reshape", self._leading[name], self.constant([-1])) if name in self._leading else name
            for name in self._source.outputs
        ]
        axes = [self._axis_of_output(name) for name in outputs]
        built = self._source.replaced(nodes=self._nodes, outputs=outputs, constants=self._constants)
        return built, axes

    def _axis_of_output(self, name: str) -> int | None:
        """Return the batch axis of an output, or None if it is the same for any number of rows."""
        axis = self.axis(name)
        if axis is None and self._differs(name):
            varying = self._open_axes(name)
            if len(varying) != 1:
                raise ArgumentError(f"the output {name} has no row of its own for each row of the input")
            (axis,) = varying
        return axis

    def _add_leading(self, node: Node) -> None:
        """Add a node that moves, broadcasts, joins or looks up leading values."""
        operation, output, leads = OPERATIONS[node.operation], node.outputs[0], True
        inputs = [self._leading.get(name, name) for name in node.inputs]
        if node.operation == "Unsqueeze":
            axes = np.asarray(self._whole[node.inputs[1]])
            inputs[1] = self.constant(axes + (axes >= 0))
        elif node.operation == "Concat" and self._leading.keys() >= {*node.inputs}:
            axis = node.attributes["axis"]
            node = node.with_attributes({**node.attributes, "axis": axis + (axis >= 0)})
        elif operation.combines is elementwise and not operation.moves:
            inputs, leads = self._aligned(node)
        elif node.operation in ("Reshape", "Expand"):
            node, inputs = node.with_attributes({}), self._with_rows_in_shape(node, *inputs)
        elif node.operation == "Transpose":
            perm = node.attributes.get("perm") or range(len(self._whole[inputs[0]].shape) - 1)[::-1]
            node = node.with_attributes({"perm": [0, *(axis + 1 for axis in perm)]})
        elif node.operation == "Gather" and inputs[0] == node.inputs[0]:
            self._leading[output] = self._looked_up(node.with_inputs(*inputs))
            return
        else:
            self.refuse(node, f"{self.name} have positions of their own")
        if leads:
            self._leading[output] = output = f"{output}/leading"
        self._append(node.with_inputs(*inputs).with_outputs(output))

    def _with_rows_in_shape(self, node: Node, x: str, shape: str) -> list[str]:
        """Return the inputs of a Reshape or Expand of a leading value x, which keep its rows."""
        if shape in self._leading.values() or self._differs(shape):
            self.refuse(node, f"it merges {self.name} with another axis")
        sizes = self._whole[shape]
        if node.attributes.get("allowzero") and not (isinstance(sizes, np.ndarray) and sizes.all()):
            self.refuse(node, f"{self.name} have positions of their own")
        more = self._whole[shape].shape[0] + 1 - len(self._whole[x].shape)
        if node.operation == "Expand" and more > 0:
            x = self.add("Unsqueeze", x, self.constant(range(1, more + 1)))
        rows = self.constant([0 if node.operation == "Reshape" else 1])
        return [x, self.add("Concat", rows, shape, axis=0)]

    def _looked_up(self, node: Node) -> str:
        """Add a node that reads entries of a table at leading places; return them as a leading value."""
        found = self.add(node.operation, *node.inputs, **node.attributes)
        axis = as_axis(node.attributes.get("axis", 0), len(self._whole[node.inputs[0]].shape))
        others = (place for place in range(len(self._whole[found].shape)) if place != axis)
        return self.add("Transpose", found, perm=[axis, *others]) if axis else found

    def _aligned(self, node: Node) -> tuple[list[str], bool]:
        """Return the inputs of a node that broadcasts, and whether its output is a leading value."""
        inputs = [self._leading.get(name, name) for name in node.inputs]
        leads = [name in self._leading for name in node.inputs]
        shapes = [self._whole[name].shape if name else () for name in inputs]
        ranks = [len(shape) - leading for shape, leading in zip(shapes, leads, strict=True)]
        axes = [None if leading else self.axis(name) for name, leading in zip(inputs, leads, strict=True)]
        rank = max(ranks)
        places = {axis + rank - own for axis, own in zip(axes, ranks, strict=True) if axis is not None}
        for i, own in enumerate(ranks):
            if leads[i]:
                missing, place = rank - own, min(places, default=-1)
                if place >= missing:
                    inputs[i] = self._moved(inputs[i], place - missing)
                elif missing > place + 1:
                    inputs[i] = self.add("Unsqueeze", inputs[i], self.constant(range(1, missing - place)))
        return inputs, not places

    def _moved(self, x: str, place: int) -> str:
        """Return a leading value with its rows on one of its other axes, which must have size 1."""
        shape = self._whole[x].shape
        if not are_same(shape[place + 1], 1):
            raise ArgumentError(f"it merges {self.name} with another axis")
        x = self.add("Squeeze", x, self.constant([place + 1]))
        perm = [*range(1, place + 1), 0, *range(place + 1, len(shape) - 1)]
        return self.add("Transpose", x, perm=perm) if place else x

    def _add_node(self, node: Node) -> None:
        if not self._leading.keys().isdisjoint(node.inputs):
            self._add_leading(node)
        elif node.operation == "Recurrent" and self.axis(node.inputs[0]) == 0:
            self._add_steps_as_rows(node)
        elif node.operation == "Loop":
            self._add_loop(node)
        else:
            self._append(node)

    def _add_loop(self, node: Node) -> None:
        """Add a loop whose iterations compute each row from the same row of other values."""
        attributes, (count, _, *values) = node.attributes, node.inputs
        states = values[: len(values) - node.captured]
        if count and self._differs(count):
            self.refuse(node, "the number of its iterations depends on the rows")
        names = [declared.name for declared in attributes["body"].inputs]
        inside = [Signature((), np.dtype(np.int64)), Signature((), np.dtype(np.bool_))]
        inside += [Signature.of(self._whole[name]) for name in states]
        known = [*inside, *(self._whole[name] for name in values[len(states) :])]
        axes = [self.axis(name) for name in values]
        inner = {name: axis for name, axis in zip(names[2:], axes, strict=True) if axis is not None}
        builder = _RowBuilder(attributes["body"], dict(zip(names, known, strict=True)), inner, self._one)
        body, (_, *after) = builder.build()
        if after[: len(states)] != axes[: len(states)]:
            self.refuse(node, "an iteration changes the batch axis of a value")
        self._nodes.append(node.with_attributes({**attributes, "body": body}))
        self._whole |= outputs_of(node, self._whole)
        for place, (name, axis) in enumerate(zip(node.outputs, after, strict=True)):
            if name and axis is not None:
                self._axes[name] = axis + (place >= len(states))

    def _append(self, node: Node) -> None:
        if node.operation == "Reshape":
            node = self._for_any_rows(node)
        self._whole |= outputs_of(node, self._whole)
        self._nodes.append(node)
        outputs = [name for name in node.outputs if name]
        if any(name not in self._whole for name in outputs):
            self.refuse(node, "its shapes depend on the values of the input")
        names = [name for name in node.inputs if self.axis(name) is not None and name not in self._derived]
        if names and not all(isinstance(self._whole[name], np.ndarray) for name in outputs):
            self._check_combined(node)
            self._check_sizes(node)
            self._axes |= {name: self._axis_after(node, name) for name in outputs}
        else:
            self._axes |= self._derive(node)

    def axis(self, name: str) -> int | None:
        """Return the batch axis of a value."""
        return self._axes.get(name)

    def _for_any_rows(self, node: Node) -> Node:
        """Return a Reshape whose constant shape holds for one row with a shape for any number of rows."""
        x, shape = node.inputs
        sizes, axis, (before, dtype) = self._whole[shape], self.axis(x), Signature.of(self._whole[x])
        if axis is None or not isinstance(sizes, np.ndarray) or shape not in self._source.constants:
            return node
        one = Signature((*before[:axis], 1, *before[axis + 1 :]), dtype)
        y = outputs_of(node, {x: one, shape: sizes})[node.outputs[0]].shape
        rows_before = math.prod(before[:axis])
        places = [place for place, size in enumerate(y) if size == 1 and math.prod(y[:place]) == rows_before]
        if not places or sizes[places[0]] in (0, -1):
            return node
        place = axis if axis in places else places[0]
        first, last = self.constant(sizes[:place]), self.constant(sizes[place + 1 :])
        rows = self.add("Shape", x, start=axis, end=axis + 1)
        return node.with_inputs(x, self.add("Concat", first, rows, last, axis=0))

    def _add_steps_as_rows(self, node: Node) -> None:
        """Run rows that are the steps of a recurrent node, one step each, as rows of a batch."""
        x, lengths, *states = node.inputs
        if self._whole[x].shape[1] != 1 or lengths:
            self.refuse(node, "the rows are its steps")
        perm = {"perm": [1, 0, 2]}
        swapped, y = self.add("Transpose", x, **perm), f"{node.outputs[0]}/steps"
        self._append(node.with_inputs(swapped, "", *states).with_outputs(y, *node.outputs[1:]))
        self._append(Node("Transpose", (y,), (node.outputs[0],), perm, node.name, node.source))


def likely_axes(axes: Sequence[int | str], names: Mapping[str, int]) -> list[int]:
    """Return the axes of an input that may be its batch axis, the likeliest first.

    `axes` are those that the model declares, and `names` counts the inputs that have an axis of each name.
    """
    found = [axis for axis, size in enumerate(axes) if isinstance(size, str) or size == 1]
    return sorted(found, key=lambda axis: (-names.get(str(axes[axis]), 0), isinstance(axes[axis], int), axis))

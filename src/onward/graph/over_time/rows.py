"""Check that a graph computes each row of a batch from the same row of its inputs alone."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import NoReturn

import numpy as np

from ...errors import ArgumentError, OnwardError
from ..graph import Graph
from ..inference import Values, flattened, outputs_of
from ..node import Node, Signature
from ..operations import OPERATIONS
from ..operations.registry import named
from .timing import varying_axes

SEVERAL = 3  # rows, to see where they are
MAX_TRIALS = 200  # combinations of axes that may be the inputs' batch axes

Shapes = Sequence[tuple[int, ...]]


def by_rows(
    graph: Graph, carries: int, shapes: Shapes, choices: Sequence[Sequence[int]]
) -> tuple[Graph, list[int], list[int]]:
    """Return the graph for any number of rows, and the batch axes of its inputs and outputs.

    `shapes` are the shapes of the inputs for one row, and `choices` the possible batch axes of each, the
    likeliest first. The first inputs and outputs are carries, whose batch axes must be the same. Raises
    ArgumentError, which names the node, if an operation combines rows.
    """
    for declared, possible in zip(graph.inputs, choices, strict=True):
        if not possible:
            raise ArgumentError(f"cannot run rows of a batch separately: {declared.name} has no batch axis")
    problem: ArgumentError | None = None
    for axes in islice(product(*choices), MAX_TRIALS):
        one: Values = {}
        several: Values = {}
        for declared, shape, axis in zip(graph.inputs, shapes, axes, strict=True):
            assert declared.dtype is not None
            one[declared.name] = Signature(tuple(shape), declared.dtype)
            several[declared.name] = Signature((*shape[:axis], SEVERAL, *shape[axis + 1 :]), declared.dtype)
        names = [declared.name for declared in graph.inputs]
        try:
            built, found = _RowBuilder(graph, one, several, dict(zip(names, axes, strict=True))).build()
            outputs = [_row_axis(name, axis) for name, axis in zip(graph.outputs, found, strict=True)]
        except ArgumentError as error:
            problem = problem or error
            continue
        if outputs[:carries] == list(axes[:carries]):
            return built, list(axes), outputs
    raise problem or ArgumentError("cannot run rows of a batch separately: a carry changes its batch axis")


def _row_axis(name: str, axis: int | None) -> int:
    if axis is None:
        raise ArgumentError(f"the output {name} has no row of its own for each row of the input")
    return axis


class _RowBuilder:
    """Follows the batch axis through a graph, by inferring the shapes for one row and for several."""

    def __init__(self, graph: Graph, one: Values, several: Values, axes: dict[str, int]) -> None:
        self._graph = flattened(graph, one)
        self._one: Values = {**self._graph.constants, **one}
        self._several: Values = {**self._graph.constants, **several}
        self._axes = axes
        self._nodes: list[Node] = []

    def build(self) -> tuple[Graph, list[int | None]]:
        """Return the graph and the batch axis of each output, if it has one."""
        for node in self._graph.nodes:
            try:
                self._add(node)
            except OnwardError as error:
                message = f"cannot run rows of a batch separately: {error}"
                raise ArgumentError(named(node, ArgumentError(message))) from error
        axes = [self._axes.get(name) for name in self._graph.outputs]
        return self._graph.replaced(nodes=self._nodes), axes

    def _add(self, node: Node) -> None:
        if node.operation == "Recurrent" and self._axes.get(node.inputs[0]) == 0:
            self._add_steps_as_rows(node)
        elif node.operation == "Loop":
            self._add_loop(node)
        else:
            self._append(node)

    def _add_loop(self, node: Node) -> None:
        """Add a loop whose iterations compute each row from the same row of other values."""
        attributes, (count, _, *values) = node.attributes, node.inputs
        states = values[: len(values) - attributes.get("captured", 0)]
        if not np.array_equal(self._one.get(count), self._several.get(count)):  # type: ignore[arg-type]  # signatures differ
            self._refuse("the number of its iterations depends on the rows")
        names = [declared.name for declared in attributes["body"].inputs]

        def inside(known: Values) -> Values:
            own = [Signature((), np.dtype(np.int64)), Signature((), np.dtype(np.bool_))]
            own += [Signature.of(known[name]) for name in states]
            return dict(zip(names, [*own, *(known[name] for name in values[len(states) :])], strict=True))

        axes = [self._axis(name) for name in values]
        inner = {name: axis for name, axis in zip(names[2:], axes, strict=True) if axis is not None}
        body, (_, *after) = _RowBuilder(
            attributes["body"], inside(self._one), inside(self._several), inner
        ).build()
        if after[: len(states)] != axes[: len(states)]:
            self._refuse("an iteration changes the batch axis of a value")
        self._nodes.append(node._replace(attributes={**attributes, "body": body}))
        self._one |= outputs_of(node, self._one)
        self._several |= outputs_of(node, self._several)
        for place, (name, axis) in enumerate(zip(node.outputs, after, strict=True)):
            if name and axis is not None:
                self._axes[name] = axis + (place >= len(states))

    def _append(self, node: Node) -> None:
        self._one |= outputs_of(node, self._one)
        if node.operation == "Reshape":
            node = self._for_any_rows(node)
        self._several |= outputs_of(node, self._several)
        self._nodes.append(node)
        outputs = [name for name in node.outputs if name]
        if any(name not in self._one or name not in self._several for name in outputs):
            self._refuse("its shapes depend on the values of the input")
        rowwise = [name for name in node.inputs if self._axis(name) is not None]
        if not rowwise or all(isinstance(self._several[name], np.ndarray) for name in outputs):
            return
        self._check_combined(node)
        for name in outputs:
            self._axes[name] = self._output_axis(node, rowwise[0], name)

    def _axis(self, name: str) -> int | None:
        """Return the batch axis of a value, or of an array that follows from the number of rows."""
        if not name or name in self._axes:
            return self._axes.get(name)
        one, several = self._one[name], self._several[name]
        varying = varying_axes(one.shape, several.shape)
        if isinstance(several, np.ndarray) and len(varying) == 1 and (several == several.flat[0]).all():
            return varying[0]
        return None

    def _check_combined(self, node: Node) -> None:
        operation = OPERATIONS[node.operation]
        if operation.combines is None:
            self._refuse(f"Onward does not know whether {node.operation} combines rows")
        inputs = [self._several[name] if name else None for name in node.inputs]
        combined = list(operation.combines(node, inputs))
        combined += combined[-1:] * len(inputs)
        deciding = operation.shape_inputs
        for place, name in enumerate(node.inputs):
            axis = self._axis(name)
            if axis is not None and axis in combined[place]:
                self._refuse("it combines rows")
            value, other = self._several.get(name), self._one.get(name)
            depends = isinstance(value, np.ndarray) and not np.array_equal(value, other)  # type: ignore[arg-type]  # known as well
            if axis is None and depends:
                if deciding is not None and place not in deciding:
                    self._refuse("it computes with the number of rows")

    def _output_axis(self, node: Node, source: str, name: str) -> int:
        varying = varying_axes(self._one[name].shape, self._several[name].shape)
        if len(varying) != 1 or self._several[name].shape[varying[0]] != SEVERAL:
            self._refuse("it merges the rows with another axis, or its sizes hold for one row")
        axis = self._axis(source)
        before, after = self._several[source].shape[:axis], self._several[name].shape[: varying[0]]
        moves = node.operation in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
        if moves and np.prod(before) != np.prod(after):
            self._refuse("it merges the rows with another axis")
        return varying[0]

    def _for_any_rows(self, node: Node) -> Node:
        """Return a Reshape whose constant shape holds for one row with a shape for any number of rows."""
        x, shape = node.inputs
        sizes, axis, y = self._one[shape], self._axis(x), self._one[node.outputs[0]].shape
        if axis is None or not isinstance(sizes, np.ndarray) or shape not in self._graph.constants:
            return node
        rows_before = math.prod(self._one[x].shape[:axis])
        places = [place for place, size in enumerate(y) if size == 1 and math.prod(y[:place]) == rows_before]
        if not places or sizes[places[0]] in (0, -1):
            return node
        place = axis if axis in places else places[0]
        name = f"{node.outputs[0]}/shape"
        array = np.array([-1 if other == place else size for other, size in enumerate(y)])
        self._one[name] = self._several[name] = self._graph.constants[name] = array
        return node._replace(inputs=(x, name))

    def _refuse(self, reason: str) -> NoReturn:
        raise ArgumentError(reason)

    def _add_steps_as_rows(self, node: Node) -> None:
        """Run rows that are the steps of a recurrent node, one step each, as rows of a batch."""
        x, lengths, *states = node.inputs
        if self._one[x].shape[:2] != (1, 1) or lengths:
            self._refuse("the rows are its steps")
        perm = {"perm": [1, 0, 2]}
        swapped, y = f"{node.outputs[0]}/rows", f"{node.outputs[0]}/steps"
        self._append(Node("Transpose", (x,), (swapped,), perm, node.name, node.source))
        self._append(node._replace(inputs=(swapped, "", *states), outputs=(y, *node.outputs[1:])))
        self._append(Node("Transpose", (y,), (node.outputs[0],), perm, node.name, node.source))


def likely_axes(axes: Sequence[int | str], names: Mapping[str, int]) -> list[int]:
    """Return the axes of an input that may be its batch axis, the likeliest first.

    `axes` are those that the model declares, and `names` counts the inputs that have an axis of each name.
    """
    found = [axis for axis, size in enumerate(axes) if isinstance(size, str) or size == 1]
    return sorted(found, key=lambda axis: (-names.get(str(axes[axis]), 0), isinstance(axes[axis], int), axis))

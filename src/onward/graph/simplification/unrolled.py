"""Copies of the same nodes as the iterations of a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from ..declared import Input
from ..graph import Graph, close
from ..node import AnyArray, Node
from ..operations import OPERATIONS
from .writes import END, WRITE

MAX_DEPTH = 3  # nodes before the copies from which a value of each copy follows
MAX_DELAY = 4  # copies from the computation of a value to its use
MAX_SIZE = 1024  # of a vector that differs from copy to copy; matrices are slower than weights

Row = tuple[str, ...]  # the names of a value in all copies


class Differs(Exception):
    """The nodes are not copies of each other."""


class Stacked(NamedTuple):
    """A value in the body that the loop stacks along an axis, the last iteration first if `backward`."""

    inner: str
    axis: int
    backward: bool


class WrittenArray(NamedTuple):
    """An array before its copies write to its steps, and the first of these."""

    before: str
    written: Stacked
    first: int
    is_whole: bool  # whether no steps follow


class Unrolled:
    """A loop that replaces nodes, of which each row holds the copies.

    `makers` are the nodes that compute values around it, and `varying` the values that are not constants.
    Raises Differs if the copies are not the iterations of a loop.
    """

    def __init__(
        self, graph: Graph, makers: Mapping[str, Node], varying: Set[str], rows: Sequence[Sequence[Node]]
    ) -> None:
        self._graph, self._around, self._count, self._node = graph, makers, len(rows[0]), rows[0][0]
        self._varying = varying
        self._prefix = next(filter(None, self._node.outputs))
        while f"{self._prefix}/copies" in graph.constants or f"{self._prefix}/index" in varying:
            self._prefix += "/again"  # a loop with that prefix is before these nodes or around them
        self._index = f"{self._prefix}/index"
        self.constants = dict[str, AnyArray]()  # of the nodes around the body
        self._before = list[Node]()
        self._nodes, self._inner_constants = list[Node](), dict[str, AnyArray]()
        self._makers = dict[str, Node]()  # of values in the body
        self._names = dict[Row, str]()  # of values in the body
        self._inside = dict[str, tuple[int, Row]]()  # values of the copies: the copy, and the value in all
        self._states = dict[Row, tuple[str, Row]]()  # names before each iteration, and values after it
        self._writers = dict[str, Sequence[Node]]()  # nodes that write arrays, by these
        self._arrays = dict[str, WrittenArray]()  # as the last copy leaves them
        self._unsqueezed = dict[str, tuple[str, int]]()  # values after the loop: a value, and its new axis
        self._stacked = dict[Stacked, str]()  # outputs of the loop
        self._following = set[str]()  # values in the body that follow from states
        self._changing = {self._index}  # and from states or steps
        self.must_keep_shapes = False  # whether a single copy of such a value is needed
        for copies in rows:
            for row in zip(*(node.outputs for node in copies), strict=True):
                self._inside |= {name: (copy, row) for copy, name in enumerate(row) if name}
                self._writers |= dict.fromkeys(row, copies) if copies[0].operation == WRITE else {}
        for copies in rows:
            self._add(copies, 0)

    def _add(self, copies: Sequence[Node], depth: int) -> None:
        """Add the node of the body that these are copies of."""
        first = copies[0]
        if not all(_are_alike(first, node) for node in copies):
            raise Differs
        inputs = list(zip(*(node.inputs for node in copies), strict=True))
        outputs = list(zip(*(node.outputs for node in copies), strict=True))
        if first.operation == WRITE:
            self._write(copies, inputs, outputs[0])
            return
        if not OPERATIONS[first.operation].is_pure:
            raise Differs
        names = [next(filter(None, row), "") for row in outputs]
        if depth:  # other rows and the nodes around the loop may read the values of the first copy
            names = [name and self._unused(name) for name in names]
        if not self._is_step(first, inputs, names[0]):
            values = [self._value(row, depth) for row in inputs]
            self._append(first.with_inputs(*values).with_outputs(*names))
        self._names |= zip(outputs, names, strict=True)

    def _unused(self, name: str) -> str:
        """Return a name in the body for a value from around it."""
        return f"{self._prefix}/{name} {len(self._names)}"

    def _append(self, node: Node) -> None:
        self._nodes.append(node)
        self._makers |= dict.fromkeys(filter(None, node.outputs), node)
        for values in (self._following, self._changing):
            if not values.isdisjoint(node.inputs):
                values.update(node.outputs)

    def _value(self, row: Row, depth: int) -> str:
        """Return the name of a value in the body."""
        if row not in self._names:
            self._names[row] = self._found(row, depth)
        return self._names[row]

    def _found(self, row: Row, depth: int) -> str:
        constants = [self._graph.constants.get(name) for name in row]
        if row.count(row[0]) == len(row) and row[0] not in self._inside:
            return self._same(row[0])
        if (delay := self._delay(row)) > 0:
            return self._state(row, delay)
        arrays = [array for array in constants if array is not None]
        if len(arrays) == len(row):
            return self._constant(arrays)
        nodes = [self._around[name] for name in row if name in self._around and name not in self._inside]
        if len(nodes) < len(row) or depth == MAX_DEPTH or nodes[0].operation == WRITE:
            raise Differs
        if nodes[0] is nodes[-1]:
            return self._part(nodes[0], row)
        if len({node.outputs.index(name) for node, name in zip(nodes, row, strict=True)}) > 1:
            raise Differs
        self._add(nodes, depth + 1)
        return self._names[row]

    def _same(self, name: str) -> str:
        """Return the name of a value that is the same in all copies."""
        if name in self._graph.constants:
            self._inner_constants[name] = self._graph.constants[name]
        return name

    def _delay(self, row: Row) -> int:
        """Return the distance to the earlier copy whose results each copy reads, or 0 if there is none."""
        inside = [name in self._inside for name in row[: MAX_DELAY + 1]]
        return inside.index(True) if True in inside and all(row[: inside.index(True)]) else 0

    def _state(self, row: Row, delay: int) -> str:
        """Return the name of a value that each copy but the first reads from the copy before it."""
        computed = self._inside[row[delay]][1]
        if computed[: self._count - delay] != row[delay:] or row[delay] in self._writers:
            raise Differs
        if self._varying.isdisjoint(computed):  # constants are cheaper than a state
            raise Differs
        later = (*row[1:delay], *computed[: self._count - delay + 1])
        for other, (name, after) in self._states.items():
            if after == later and self._are_equal_constants(row[0], other[0]):
                return name
        name = f"{self._prefix}/before {len(self._states)}"
        self._states[row] = name, later
        self._following.add(name)
        self._changing.add(name)
        if delay > 1:
            self._value(later, 0)
        return name

    def _are_equal_constants(self, name: str, other: str) -> bool:
        constants = self._graph.constants
        return name in constants and other in constants and _are_equal(constants[name], constants[other])

    def _constant(self, arrays: Sequence[AnyArray]) -> str:
        """Return the name of a constant that may differ from copy to copy."""
        first, name = arrays[0], f"{self._prefix}/constant {len(self._inner_constants)}"
        if any((a.dtype, a.shape) != (first.dtype, first.shape) for a in arrays) or first.dtype.hasobject:
            raise Differs
        if all(array is first or array.tobytes() == first.tobytes() for array in arrays):
            self._inner_constants[name] = first
            return name
        is_vector = first.size == max(first.shape, default=1) <= MAX_SIZE
        if not is_vector or first.dtype.kind != "f":
            raise Differs
        self._inner_constants[name] = np.stack(arrays)
        self._append(self._made("Gather", (name, self._index), f"{name}/step", axis=0))
        return f"{name}/step"

    # steps of sequences

    def _is_step(self, node: Node, inputs: Sequence[Row], output: str) -> bool:
        """Add the nodes that read an iteration's step of a sequence, if the copies read one step each."""
        if node.operation not in ("Gather", "Slice"):
            return False
        numbers, axis = [self._integers(row) for row in inputs[1:]], node.attributes.get("axis", 0)
        places = numbers[0]
        if node.operation == "Slice":
            places, ends, axes, steps = (*numbers, [1])[:4] if len(numbers) > 2 else [None] * 4
            if not places or not ends or not axes or not steps or len({*axes}) > 1 or {*steps} != {1}:
                return False
            if [min(end, END) for end in ends] != [start + 1 or END for start in places]:
                return False
            axis = axes[0]
        if not places or len({*places}) == 1:
            return False
        x = self._sequence(inputs[0], axis, places)
        self._add_step(
            self._steps(x, axis, places), axis, output, self._graph.constants[inputs[1][0]].ndim > 0
        )
        return True

    def _add_step(self, x: str, axis: int, output: str, keeps_axis: bool) -> None:
        """Add the nodes that read an iteration's step of an array with one step for each iteration."""
        step = f"{output}/step" if keeps_axis else output
        self._append(self._made("Gather", (x, self._index), step, axis=axis))
        if keeps_axis:
            self._append(self._made("Unsqueeze", (step, self._axis(axis)), output))

    def _sequence(self, row: Row, axis: int, places: Sequence[int]) -> str:
        """Return the name of the array of which each copy reads one step.

        A step that the copies before did not write is that of the array before all copies.
        """
        writers = self._writers.get(row[1], ())
        writes = [(node.attributes["axis"], node.attributes["step"]) for node in writers]
        is_unwritten = (
            writes == [(axis, place) for place in places] and row[1:] == self._inside[row[1]][1][:-1]
        )
        if (row.count(row[0]) < len(row) and not is_unwritten) or row[0] in self._inside:
            raise Differs
        return row[0]

    def _part(self, split: Node, row: Row) -> str:
        """Return the name of the part of width 1 of each copy."""
        sizes = self._integers_of((*split.inputs, "")[1])
        places = [split.outputs.index(name) for name in row if name in split.outputs]
        if split.operation != "Split" or len(places) < len(row) or {*sizes} != {1}:
            raise Differs
        axis, name = split.attributes.get("axis", 0), self._unused(row[0])
        self._add_step(self._steps(split.inputs[0], axis, places), axis, name, True)
        return name

    def _steps(self, x: str, axis: int, places: Sequence[int]) -> str:
        """Return the name of an array whose steps along an axis are those of the iterations."""
        first, last, step = places[0], places[-1], places[1] - places[0]
        if not _are_steps(places, step) or (first < 0) != (last < 0):
            raise Differs
        name = x
        if (first, step) != (0, 1) or self._size(x, axis) != self._count:
            name, end = f"{self._prefix}/{x} along {axis} from {first} by {step}", last + step
            if (end < 0) != (last < 0) or (last == -1 and step > 0):
                end = END if step > 0 else -END
            self._before.append(self._sliced(x, name, axis, first, end, step))
        return name

    def _size(self, x: str, axis: int) -> Any:
        """Return the size of an axis of an input or a constant, or None if it is not known."""
        declared = {each.name: each.axes or () for each in self._graph.inputs}
        shape = self._graph.constants[x].shape if x in self._graph.constants else declared.get(x, ())
        return shape[axis] if -len(shape) <= axis < len(shape) else None

    def _integers(self, row: Row) -> list[int] | None:
        """Return the integer of each copy, or None if they are not constants of one integer each."""
        found = [self._integers_of(name) for name in row]
        if {*map(len, found)} != {1} or len({self._graph.constants[name].ndim for name in row}) > 1:
            return None
        return [numbers[0] for numbers in found]

    def _integers_of(self, name: str) -> list[int]:
        """Return the elements of a constant of integers, or none."""
        array = self._graph.constants.get(name, self._inner_constants.get(name))
        is_vector = array is not None and array.ndim < 2 and array.dtype.kind in "iu"
        return array.ravel().tolist() if array is not None and is_vector else []

    def _axis(self, axis: int) -> str:
        name = f"{self._prefix}/axis {axis}"
        self._inner_constants[name] = np.array([axis])
        return name

    def _sliced(self, x: str, name: str, axis: int, start: int, end: int, step: int = 1) -> Node:
        """Return the node, before or after the loop, of a slice along an axis."""
        numbers = {f"{self._prefix}/{n}": np.array([n]) for n in (start, end, axis, step)}
        self.constants |= numbers
        return self._made("Slice", (x, *(f"{self._prefix}/{n}" for n in (start, end, axis, step))), name)

    def _made(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
        return Node(operation, tuple(inputs), (output,), attributes, self._node.name, self._node.source)

    # The nodes after the copies read the results of these methods.

    def _write(self, copies: Sequence[Node], inputs: Sequence[Row], outputs: Row) -> None:
        """Let the loop stack the steps of an array that the copies write."""
        arrays, values = inputs
        axis, size = copies[0].attributes["axis"], copies[0].attributes["size"]
        places = [node.attributes["step"] for node in copies]
        first, step = min(places[0], places[-1]), 1 if places[0] < places[-1] else -1
        if arrays[1:] != outputs[:-1] or arrays[0] in self._inside or not _are_steps(places, step):
            raise Differs
        if step < 0 and size is None:  # a value may lie beyond the end, and extend the array
            raise Differs
        value = self._value(values, 0)
        inner = f"{outputs[0]}/written"
        self._append(self._made("Squeeze", (value, self._axis(axis)), inner))
        is_whole = size == first + len(places)
        self._arrays[outputs[-1]] = WrittenArray(arrays[0], Stacked(inner, axis, step < 0), first, is_whole)

    def reading(self, node: Node) -> Node:
        """Return a node that reads stacked values instead of those of all copies, if it concatenates them."""
        if node.operation == "Unsqueeze" and node.inputs[0] in self._inside:
            if axes := self._integers(node.inputs[1:]):
                self._unsqueezed[node.outputs[0]] = node.inputs[0], axes[0]
        if node.operation != "Concat" or len(node.inputs) < self._count:
            return node
        axis, names = node.attributes["axis"], list(node.inputs)
        parts = [self._stackable(name, axis) for name in names]
        place = 0
        while place + self._count <= len(names):
            inner, copies = (list(each) for each in zip(*parts[place : place + self._count], strict=True))
            backward = copies[0] > 0
            if (
                inner[0]
                and {*inner} == {inner[0]}
                and copies == [*range(self._count)][:: -1 if backward else 1]
            ):
                stacked = [self._output(Stacked(inner[0], axis, backward))]
                names[place : place + self._count] = stacked
                parts[place : place + self._count] = [("", 0)]
            place += 1
        return node.with_inputs(*names)

    def _stackable(self, name: str, axis: int) -> tuple[str, int]:
        """Return the value in the body and the copy of a value with a new axis, or ("", 0)."""
        before, unsqueezed = self._unsqueezed.get(name, ("", 0))
        if before:
            return self._copied(before) if unsqueezed == axis else ("", 0)
        inner, copy = self._copied(name)
        maker = self._makers.get(inner)
        if maker is None or maker.operation != "Unsqueeze" or self._integers_of(maker.inputs[1]) != [axis]:
            return "", 0
        return maker.inputs[0], copy

    def _copied(self, name: str) -> tuple[str, int]:
        """Return the value in the body that a value of a copy is, or "", and the number of the copy."""
        copy, row = self._inside.get(name, (0, ()))
        return self._names.get(row, ""), copy

    def _output(self, stacked: Stacked) -> str:
        return self._stacked.setdefault(stacked, f"{self._prefix}/stacked {len(self._stacked)}")

    def nodes(self, needed: set[str]) -> list[Node]:
        """Return the loop, after the nodes that it needs and before those that need it."""
        if any(self._names[later] not in self._changing for _, later in self._states.values()):
            raise Differs  # what is the same in all copies, and what follows from it, runs once instead
        after, ends = list[Node](), {later[-1]: row for row, (_, later) in reversed(self._states.items())}
        last = dict.fromkeys(self._states, "")
        for name in [name for name in self._inside if name in needed]:
            inner, copy = self._copied(name)
            if name in self._arrays:
                after += self._array(name)
            elif name in ends:
                last[ends[name]] = name
            elif inner:
                self.must_keep_shapes |= inner in self._following
                self.constants[f"{name}/copy"] = np.array(copy)
                inputs = self._output(Stacked(inner, 0, False)), f"{name}/copy"
                after.append(self._made("Gather", inputs, name, axis=0))
            else:
                raise Differs
        return [*self._before, self._loop(tuple(last.values())), *after]

    def _array(self, name: str) -> list[Node]:
        """Return the nodes that put the steps of the copies into an array and keep its other steps."""
        before, written, first, is_whole = self._arrays[name]
        parts, axis = [self._output(written)], written.axis
        nodes = list[Node]()
        if first:
            nodes.append(self._sliced(before, f"{name}/first", axis, 0, first))
            parts.insert(0, f"{name}/first")
        if not is_whole:
            nodes.append(self._sliced(before, f"{name}/rest", axis, first + self._count, END))
            parts.append(f"{name}/rest")
        return [*nodes, self._made("Concat", parts, name, axis=axis)]

    def _loop(self, last: Row) -> Node:
        count, true = f"{self._prefix}/copies", f"{self._prefix}/condition"
        self.constants[count] = np.array(self._count)
        before = [name for name, _ in self._states.values()]
        body = Graph(
            inputs=map(Input, (self._index, true, *before)),
            outputs=(
                true,
                *(self._names[later] for _, later in self._states.values()),
                *(stacked.inner for stacked in self._stacked),
            ),
            nodes=self._nodes,
            constants=self._inner_constants,
            opset=self._graph.opset,
        )
        body.of_layers = self._graph.of_layers
        captured = close(body)
        attributes = {
            "body": body,
            "captured": len(captured),
            "scan_output_axes": [stacked.axis for stacked in self._stacked],
            "scan_output_directions": [int(stacked.backward) for stacked in self._stacked],
            "is_rolled_up": 1,
        }
        inputs = (count, "", *(row[0] for row in self._states), *captured)
        outputs = (*last, *self._stacked.values())
        return Node("Loop", inputs, outputs, attributes, self._node.name, self._node.source)


def _are_steps(places: Sequence[int], step: int) -> bool:
    """Whether each number is that much more than the one before it."""
    return step != 0 and list(places) == list(range(places[0], places[0] + step * len(places), step))


def _are_alike(first: Node, other: Node) -> bool:
    """Whether two nodes compute the same with different inputs."""
    if first.operation != other.operation or len(first.inputs) != len(other.inputs):
        return False
    if len(first.outputs) != len(other.outputs):
        return False
    a, b = first.attributes, other.attributes
    if a is b or (first.operation == WRITE and a["axis"] == b["axis"] and a["size"] == b["size"]):
        return True
    return a.keys() == b.keys() and all(_are_equal(value, b[name]) for name, value in a.items())


def _are_equal(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
        is_same = value.dtype == other.dtype and value.shape == other.shape
        return is_same and value.tobytes() == other.tobytes()
    is_plain = isinstance(value, str | int | float | list | tuple | np.dtype) and type(value) is type(other)
    return value is other or (is_plain and repr(value) == repr(other))  # -0.0 is not 0.0

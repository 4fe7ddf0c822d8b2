"""Simplify a graph once, before any plan: fold constants, and recognize idioms of exporters."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from ...core import budget
from ...core.budget import Limit
from ...errors import ArgumentError, LimitError
from ..graph import Graph, bodies, used_names, with_bodies
from ..inference import outputs_of
from ..node import REFUSALS, AnyArray, Expansion, Node, described
from ..operations import OPERATIONS
from .counted import as_counted
from .idioms import replace_idioms
from .loops import as_layer, with_plain_index
from .repetitions import rolled_up
from .rewrites import REWRITES
from .sizes import keep_integers, keep_wide

MAX_COMPARED = 64  # elements of constants that are compared by value

Item = TypeVar("Item")


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    with suppress(*REFUSALS):  # the error belongs to the call, which names the node
        graph = rolled_up(graph)
    with Limit.of(graph.constants.values()).entered():
        simpler = Simplifier(graph)
        for node in graph.nodes:
            simpler.add(node)
    outputs = tuple(simpler.names.get(name, name) for name in graph.outputs)
    result = graph.replaced(nodes=simpler.nodes, outputs=outputs, constants=simpler.constants)
    return replace_idioms(result.without_unused())


class Simplifier:
    """Copies a graph node by node, in its simpler form."""

    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self._declared = {declared.name: declared.axes or () for declared in graph.inputs}
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}  # values that equal others
        self.makers: dict[str, Node] = {}
        self.integers: set[str] = set()  # values that hold integers of 64 bits
        self.wide: dict[str, str] = {}  # sizes in int32 that are known in int64
        self.dequantized: dict[str, Node] = {}  # the nodes that made constants from quantized ones
        self._budget = budget.current()
        self._first: dict[Any, Node] = {}  # the first pure node of each operation on the same inputs
        self._earlier: dict[Any, Node] = {}  # the pure nodes with further ones, also by their attributes

    def add(self, node: Node) -> None:
        self._budget.spend(20 * budget.STEP)
        node = self._renamed(node)
        operation = OPERATIONS[node.operation]
        if node.operation == "If" and node.inputs[0] in self.constants:
            assert operation.expand is not None
            expansion = operation.expand(node, [self.constants.get(name) for name in node.inputs])
            assert expansion is not None  # its condition is known
            self.add_all(expansion)
        elif bodies(node):
            node = self._with_constants(node)
            with suppress(*REFUSALS):  # the error belongs to the call, which names the node
                if node.operation == "Loop" and (counted := as_counted(self, node)):
                    node = self._with_constants(counted)
            layer = as_layer(self, node) if node.operation == "Loop" else None
            for simpler in layer or ():
                self.add(simpler)
            if layer is None:
                self._append(node)
        elif not operation.is_pure or any([name and name not in self.constants for name in node.inputs]):
            for simpler in self._rewritten(node):
                self._append(simpler)
        elif not self._fold(node):
            self._append(node)

    def _renamed(self, node: Node) -> Node:
        """Replace the inputs of a node by the values that they equal."""
        if not self.names or self.names.keys().isdisjoint(node.inputs):
            return node
        return node.with_inputs(*[self.names.get(name, name) for name in node.inputs])

    def add_all(self, expansion: Expansion) -> None:
        """Add the nodes and constants that take the place of a node."""
        self.constants |= expansion.constants
        for node in expansion.nodes:
            self.add(node)

    def _fold(self, node: Node) -> bool:
        """Compute a node whose inputs are constants, unless that takes much work or raises an error."""
        try:
            found = outputs_of(node, self.constants)
        except (ArgumentError, LimitError):  # the error belongs to the call, which names the node
            return False
        arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        if arrays.keys() != set(filter(None, node.outputs)):
            return False
        self.constants |= arrays
        if node.operation == "DequantizeLinear":
            self.dequantized[node.outputs[0]] = node
        elif node.operation == "Transpose" and self.constants[node.inputs[0]].ndim:
            if (dequantized := self.dequantized.get(node.inputs[0])) is not None:
                self.dequantized[node.outputs[0]] = self._transposed(dequantized, node)
        return True

    def _transposed(self, dequantized: Node, node: Node) -> Node:
        """Return the node that dequantizes transposed integers, instead of transposing dequantized ones."""
        (name, *others), (output, *_) = dequantized.inputs, node.outputs
        integers = self.constants[name]
        perm = list(node.attributes.get("perm") or reversed(range(integers.ndim)))
        axis = perm.index(dequantized.attributes.get("axis", 1) % integers.ndim)
        inputs = self.constant(f"{output}/integers", integers.transpose(perm)), *others
        attributes = {**dequantized.attributes, "axis": axis}
        return Node(dequantized.operation, inputs, node.outputs, attributes, node.name, node.source)

    def _rewritten(self, node: Node) -> list[Node]:
        if node.operation not in REWRITES:
            return [node]
        try:
            simpler = REWRITES[node.operation](self, node)
            if isinstance(simpler, str):
                self.alias(node.outputs[0], simpler)
                return []
            return [simpler or node] if isinstance(simpler, Node | None) else list(simpler)
        except REFUSALS:  # the error belongs to the call, which names the node
            return [node]

    def _append(self, node: Node) -> None:
        """Append a node, unless an earlier one computes the same."""
        node = self._renamed(node)  # the nodes that take the place of one may equal earlier ones
        earlier = self._equal(node)
        if earlier is not node:
            known = dict(zip(node.outputs, earlier.outputs, strict=False))
            if all(known.get(name) for name in node.outputs if name):
                self.names |= known
                return
        self.nodes.append(node)
        for name in node.outputs:
            self.makers[name] = node
        keep_integers(self, node)
        keep_wide(self, node)

    def _equal(self, node: Node) -> Node:
        """Return the first node that computes the same."""
        if not OPERATIONS[node.operation].is_pure:
            return node
        key = node.operation, *map(self._content, node.inputs)
        first = self._first.setdefault(key, node)
        text = "" if first is node else described(node.attributes)
        if not text:
            return node
        self._earlier.setdefault((key, described(first.attributes)), first)
        return self._earlier.setdefault((key, text), node)

    def _content(self, name: str) -> Any:
        """Return a key that is equal for equal small constants, or the name of another value."""
        array = self.constants.get(name)
        if array is None or array.size > MAX_COMPARED or array.dtype.hasobject:
            return name
        return array.dtype.str, array.shape, array.tobytes()

    def alias(self, name: str, other: str) -> None:
        """Let a value stand for another one that equals it. Raises ArgumentError for an omitted input."""
        if not other:
            raise ArgumentError("its first input is omitted")
        self.names[name] = other

    def constant(self, name: str, array: AnyArray) -> str:
        self.constants[name] = array
        return name

    def axes(self, name: str) -> tuple[int | str, ...]:
        """Return the axes of a value, "" for those of unknown size, or () if their number is unknown."""
        node = self.makers.get(name := self._unreversed(name))
        if node is None:
            return self._declared.get(name, ())
        if node.operation == "Recurrent" and name == node.outputs[0]:
            return "", "", ""
        if node.operation in ("Concat", "Slice"):
            return ("",) * len(self.axes(node.inputs[0]))
        if node.operation == "ConstantOfShape":
            return ("",) * self._length(node.inputs[0])
        perm = node.attributes.get("perm") if node.operation == "Transpose" else None
        axes = self.axes(node.inputs[0]) if perm else ()
        return tuple(axes[place] for place in perm or ()) if axes else ("",) * len(perm or ())

    def _length(self, name: str) -> int:
        """Return the number of elements of a shape that a graph computes, or 0 if it is not known."""
        if (constant := self.constants.get(name)) is not None:
            return constant.size
        node = self.makers.get(name)
        if node is None or node.operation not in ("Concat", "Reshape"):
            return 0
        if node.operation == "Reshape":  # of one size
            shape = self.constants.get(node.inputs[1])
            return int(shape is not None and shape.tolist() == [1])
        lengths = list(map(self._length, node.inputs))
        return sum(lengths) if all(lengths) else 0

    def is_length(self, name: str, x: str) -> bool:
        """Whether a value is the first size of another one."""
        node = self.makers.get(name)
        while node is not None and node.operation != "Shape":
            if not self._keeps_first_size(node):
                return False
            node = self.makers.get(node.inputs[0])
        if node is None or node.attributes.get("start"):
            return False
        return self._unreversed(node.inputs[0]) == self._unreversed(x)

    def _keeps_first_size(self, node: Node) -> bool:
        """Whether a node returns the first of some sizes as it is."""
        arrays = [self.constants.get(name) for name in node.inputs[1:]]
        numbers = [array.ravel().tolist() for array in arrays if array is not None]
        match node.operation:
            case "Cast" | "Squeeze" | "Reshape" | "Unsqueeze":
                return True
            case "Max" | "Sub" | "Add" | "Gather":
                return numbers == [[0]]
            case "Slice":
                return numbers[:3] == [[0], [1], [0]]
        return False

    def _unreversed(self, name: str) -> str:
        """Return the value of which another one has the steps in the opposite order."""
        while (node := self.makers.get(name)) is not None and node.operation == "ReverseSequence":
            name = node.inputs[0]
        return name

    def _with_constants(self, node: Node) -> Node:
        """Give the bodies of a node the constants that they use, and simplify the bodies."""
        first, captured = len(node.inputs) - node.captured, node.captured
        passed, outer = node.inputs[:first], node.inputs[first:]
        unknown = [name for name in outer if name not in self.constants]

        def simpler(body: Graph) -> Graph:
            pairs = zip(body.inputs[len(body.inputs) - captured :], outer, strict=True)
            known = {d.name: self.constants[name] for d, name in pairs if name in self.constants}
            constants = body.constants | known
            inputs = [declared for declared in body.inputs if declared.name not in constants]
            inner = body.replaced(inputs=inputs, constants=constants)
            return simplify(with_plain_index(inner) if node.operation == "Loop" else inner)

        node = with_bodies(node.with_inputs(*passed, *unknown), simpler)
        if "captured" not in node.attributes:
            return node
        return _without_unread(node.with_attributes({**node.attributes, "captured": len(unknown)}))


def _without_unread(node: Node) -> Node:
    """Return a node that captures only what its bodies read."""
    read = [{*body.outputs, *used_names(body.nodes)} for body in bodies(node)]
    first, end = len(node.inputs) - node.captured, node.captured
    pairs = list(zip(bodies(node), read, strict=True))
    unread = {n for n in range(-end, 0) if not any(body.inputs[n].name in names for body, names in pairs)}
    if not unread:
        return node

    def without(items: Sequence[Item]) -> list[Item]:
        return [item for n, item in enumerate(items, -len(items)) if n not in unread]

    node = with_bodies(node, lambda body: body.replaced(inputs=without(body.inputs)))
    attributes = {**node.attributes, "captured": end - len(unread)}
    return node.with_inputs(*node.inputs[:first], *without(node.inputs[first:])).with_attributes(attributes)

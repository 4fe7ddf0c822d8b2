"""Simplify a graph once, before any plan: fold constants, and recognize idioms of exporters."""

from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph, bodies
from ..memory import size_of
from ..node import AnyArray, Node
from ..operations import OPERATIONS
from ..operations.registry import Value
from . import REWRITES
from .batch_norms import fold_batch_norms
from .cells import replace_cells
from .idioms import replace_idioms

MAX_FOLDED = 1 << 24  # bytes of arrays that are computed from constants, unless the constants are large
MAX_COMPARED = 64  # elements of constants that are compared by value


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    simplifier = Simplifier(graph)
    for node in graph.nodes:
        simplifier.add(node)
    return replace_idioms(replace_cells(fold_batch_norms(simplifier.finish())))


class Simplifier:
    """Copies a graph node by node, in its simpler form."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}  # values that equal others
        self.makers: dict[str, Node] = {}
        # the bytes that may still be folded; int8 weights become float32
        self.limit = max(MAX_FOLDED, 8 * sum(array.nbytes for array in graph.constants.values()))
        self.earlier: dict[Any, Node] = {}  # the pure nodes, by what they compute
        self.dequantized: dict[str, Node] = {}  # the nodes that made constants from quantized ones

    def add(self, node: Node) -> None:
        node = node._replace(inputs=tuple(self.names.get(name, name) for name in node.inputs))
        operation = OPERATIONS[node.operation]
        if node.operation == "If" and node.inputs[0] in self.constants:
            self._inline(node)
        elif any(bodies(node)):
            self._append(self._with_constants(node))
        elif operation.is_pure and all(not name or name in self.constants for name in node.inputs):
            results = self._folded(node)
            if results is None:
                self._append(node)
            else:
                self.constants |= zip(node.outputs, results, strict=False)
                if node.operation == "DequantizeLinear":
                    self.dequantized[node.outputs[0]] = node
        else:
            for simpler in self._rewritten(node):
                self._append(simpler)

    def _rewritten(self, node: Node) -> list[Node]:
        try:
            simpler = REWRITES[node.operation](self, node)
            if isinstance(simpler, str):
                self.alias(node.outputs[0], simpler)
                return []
            return [simpler or node] if isinstance(simpler, Node | None) else list(simpler)
        except Exception:  # no rule, or a malformed node; its error belongs to the call, which names the node
            return [node]

    def _append(self, node: Node) -> None:
        """Append a node, unless an earlier one computes the same."""
        key = self._meaning(node)
        earlier = None if key is None else self.earlier.setdefault(key, node)
        if earlier is not None and earlier is not node:
            known = dict(zip(node.outputs, earlier.outputs, strict=False))
            if all(known.get(name) for name in node.outputs if name):
                self.names |= known
                return
        self.nodes.append(node)
        self.makers |= dict.fromkeys(node.outputs, node)

    def _meaning(self, node: Node) -> Any:
        """Return a key that is equal for nodes that compute the same, or None for a node that is not pure."""
        if not OPERATIONS[node.operation].is_pure or any(bodies(node)):
            return None
        attributes = sorted(node.attributes.items())
        if not all(_is_plain(value) for _, value in attributes):
            return None
        return node.operation, tuple(map(self._content, node.inputs)), repr(attributes)

    def _content(self, name: str) -> Any:
        """Return a key that is equal for equal small constants, or the name of another value."""
        array = self.constants.get(name)
        if array is None or array.size > MAX_COMPARED or array.dtype.hasobject:
            return name
        return array.dtype.str, array.shape, array.tobytes()

    def _inline(self, node: Node) -> None:
        """Replace an If with a constant condition by the nodes of its branch."""
        expand = OPERATIONS["If"].expand
        condition = self.constants[node.inputs[0]]
        known = Value(condition.shape, condition.dtype, condition)
        expansion = expand and expand(node, [known, *[None] * (len(node.inputs) - 1)])
        assert expansion is not None  # its condition is known
        self.constants |= expansion.constants
        for inner in expansion.nodes:
            self.add(inner)

    def alias(self, name: str, other: str) -> None:
        """Let a value stand for another one that equals it. Raises ArgumentError for an omitted input."""
        if not other:
            raise ArgumentError("its first input is omitted")
        self.names[name] = other

    def constant(self, name: str, array: AnyArray) -> str:
        self.constants[name] = array
        return name

    def _folded(self, node: Node) -> list[Any] | None:
        """Compute a node whose inputs are constants, unless its outputs are large or it raises an error."""
        operation = OPERATIONS[node.operation]
        arrays = [self.constants.get(name) for name in node.inputs]
        given = sum(a.nbytes for a in arrays if a is not None)
        try:
            signatures = (operation.signatures(arrays, node.attributes) if operation.has_rule else None) or ()
            if size_of(signatures) > min(self.limit, max(MAX_FOLDED, 2 * given)):
                return None
            results = [np.asarray(result) for result in operation.compute(arrays, node.attributes)]
            self.limit -= sum(array.nbytes for array in results)
            return results
        except Exception:  # the error belongs to the call, which names the node
            return None

    def _with_constants(self, node: Node) -> Node:
        """Give the bodies of a node the constants that they use, and simplify the bodies."""
        outer = [self.constants.get(name) for name in node.inputs]
        all_but_condition = len(node.inputs) - 1 if node.operation == "If" else 0
        captured = node.attributes.get("captured", all_but_condition)
        first = len(node.inputs) - captured
        kept = [place for place in range(len(node.inputs)) if place < first or outer[place] is None]
        attributes = dict(node.attributes)
        for name, body in node.attributes.items():
            if isinstance(body, Graph):
                own = len(body.inputs) - captured
                inner = body.replaced(constants=dict(body.constants))
                for declared, array in zip(body.inputs[own:], outer[first:], strict=True):
                    if array is not None:
                        inner.constants[declared.name] = array
                inner.inputs = [d for d in body.inputs if d.name not in inner.constants]
                attributes[name] = simplify(inner)
        if "captured" in attributes:
            attributes["captured"] = sum(place >= first for place in kept)
        return node._replace(inputs=tuple(node.inputs[place] for place in kept), attributes=attributes)

    def finish(self) -> Graph:
        """Return the simplified graph without unused nodes and constants."""
        outputs = tuple(self.names.get(name, name) for name in self.source.outputs)
        whole = self.source.replaced(nodes=self.nodes, outputs=outputs, constants=self.constants)
        return whole.without_unused()


def _is_plain(value: Any) -> bool:
    """Return whether an attribute equals another one exactly if their representations are equal."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | np.dtype | type)

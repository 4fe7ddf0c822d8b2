"""Write a graph as a message of ONNX; subclasses decide how nodes and constants are written."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...core.identity import Identity
from ...graph import Graph, Input, Node
from ...graph.node import AnyArray
from . import build, messages
from .tensors import DATA_TYPES


class File:
    """What the graphs of a model share: the names of values, and how constants are stored."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def new_name(self, name: str, taken: set[str]) -> str:
        """Add the name, or a similar one that is free, to `taken`, and return it."""
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        return unique

    def tensor(self, array: AnyArray, name: str) -> messages.Tensor:
        """Return the message of a constant."""
        return build.tensor(array, name)


class GraphWriter:
    """Writes one graph or body, in which `names` maps values of the graph to values of the model."""

    def __init__(
        self,
        file: File,
        graph: Graph,
        prefix: str = "",
        outer: GraphWriter | None = None,
        captured: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._file, self._graph, self._prefix, self._outer = file, graph, prefix, outer
        self._captured = captured  # the values of the outer graph that are inputs of a body
        self._nodes: list[messages.Node] = []
        self._tensors: list[messages.Tensor] = []
        # the constants by id, with their names: those of this graph, and in further maps those around it
        self.stored: ChainMap[Identity, str] = outer.stored.new_child() if outer else ChainMap()
        self.names: dict[str, str] = {"": ""}

    @property
    def is_outermost(self) -> bool:
        """Whether the graph is no body."""
        return self._outer is None

    def finish(self, captured: Mapping[str, str] = MappingProxyType({})) -> messages.Graph:
        """Write the graph; `captured` maps its last inputs to values from around it."""
        graph = self._graph
        own = [declared for declared in graph.inputs if declared.name not in captured]
        self.names |= captured
        self.names |= {declared.name: self.new_name(declared.name) for declared in own}
        declared_outputs = self.declared_outputs()
        results = [self.new_name(declared.name) for declared in declared_outputs]
        made = {name for node in graph.nodes for name in node.outputs}
        for value, result in zip(graph.outputs, results, strict=True):
            if value in made and value not in self.names:
                self.names[value] = result
        for name, array in graph.constants.items():
            if name in graph.defaults:
                self._tensors.append(self._file.tensor(array, self.names[name]))
            elif name not in self.names:
                self.names[name] = self.constant(array, name)
        for node in graph.nodes:
            self.write(node)
        for value, result in zip(graph.outputs, results, strict=True):
            if self.names[value] != result:
                self.write_copy(self.names[value], result)
        return messages.Graph(
            name=self._prefix or "onward",
            node=self._nodes,
            input=[self.value_info(declared, self.names[declared.name]) for declared in own],
            output=list(map(self.value_info, declared_outputs, results)),
            initializer=self._tensors,
        )

    def declared_outputs(self) -> Sequence[Input]:
        """Return the declarations of the outputs."""
        return self._graph.declared_outputs or [Input(name) for name in self._graph.outputs]

    def write(self, node: Node) -> None:
        """Add a node of the graph."""
        raise NotImplementedError

    def write_copy(self, value: str, copy: str) -> None:
        """Add a node that gives a value another name."""
        raise NotImplementedError

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node between values of the model."""
        self._nodes.append(build.node(op_type, inputs, outputs, name=name, domain=domain, **attributes))

    def value_info(self, declared: Input, name: str) -> messages.ValueInfo:
        """Return the message of an input or output."""
        if declared.dtype is None:
            return messages.ValueInfo(name=name)  # the body of a loop need not declare types
        return build.value_info(name, DATA_TYPES[declared.dtype.name], declared.axes)

    def new_name(self, name: str) -> str:
        """Return a name for a new value; in a body, it starts with the prefix of the body."""
        return self._file.new_name(self._prefix + name.removeprefix(self._prefix), self._file.names)

    def constant(self, value: ArrayLike, name: str = "constant") -> str:
        """Store an array, unless this graph or one around it holds it, and return its name."""
        key = Identity(value)
        if key not in self.stored:
            unique = self.new_name(name)
            self._tensors.append(self._file.tensor(np.asarray(value), unique))
            self.stored[key] = unique
        return self.stored[key]

    def written_bodies(self, node: Node, inputs: Sequence[str], owner: str) -> dict[str, messages.Graph]:
        """Write the bodies of a node, to which its last inputs are visible; `owner` names their values."""
        first = len(inputs) - node.captured
        written = {}
        for key, body in node.attributes.items():
            if isinstance(body, Graph):
                last = [declared.name for declared in body.inputs[len(body.inputs) - node.captured :]]
                captured = dict(zip(last, node.inputs[first:], strict=True))
                writer = type(self)(self._file, body, f"{owner}/{key}/", self, captured)
                written[key] = writer.finish(dict(zip(last, inputs[first:], strict=True)))
        return written

    def output(self, name: str) -> str:
        """Return the name in the model of an output of a node."""
        if name not in self.names:
            self.names[name] = self.new_name(name)
        return self.names[name]

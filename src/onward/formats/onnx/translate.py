"""Translate the graph of an ONNX file to a graph of Onward, whose constants stay in the memory of the file.

Functions of the file are inlined. The body of an If, Loop, Scan or SequenceMap becomes a graph of its own,
to which the values that it uses from around it are passed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from ...errors import FileError, OnwardError
from ...graph import Graph, Input
from ...graph.graph import close
from ...graph.node import AnyArray, named
from . import messages, opsets, own_functions
from .protobuf import decode
from .tensors import attribute_value, dtype_of, tensor_array
from .validate import described

RECURRENT = {"RNN", "GRU", "LSTM"}
SCOPES = "pkg.torch.onnx.name_scopes"  # the key of the metadata of a node
BODIES = {  # the graphs among the attributes of an operator
    "If": ("then_branch", "else_branch"),
    "Loop": ("body",),
    "Scan": ("body",),
    "SequenceMap": ("body",),
}
MAX_DEPTH = 64  # functions that call functions
Functions = Mapping[tuple[str, str, str], messages.Function]
# Adds the operations of a node with these inputs and attributes, and returns the outputs, or None to run the
# body of its function; the number is the version of the domain.
Add = Callable[["Scope", messages.Node, int, list[str], dict[str, Any]], Sequence[str] | None]
DOMAINS: Mapping[str, Add] = {own_functions.DOMAIN: own_functions.add}


def translate(model: messages.Model, domains: Mapping[str, Add] = DOMAINS) -> Graph:
    """Return the graph of a model from `read`; `domains` adds the nodes that are not of ONNX itself.

    Raises FileError and ArgumentError, which name the node.
    """
    assert model.graph is not None
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    versions = _versions(model.opset_import)
    scope = Scope(Graph(opset=versions.get("", 0)), versions, functions, domains)
    scope.graph.of_layers = any(entry.key == messages.OF_LAYERS for entry in model.metadata_props)
    return scope.translated(model.graph).graph


class Scope:
    """The visible names in one graph or function of a file, and the graph that holds their values."""

    def __init__(
        self,
        graph: Graph,
        versions: Mapping[str, int],
        functions: Functions,
        domains: Mapping[str, Add],
        outer: Scope | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.graph, self.versions, self.functions, self.domains = graph, versions, functions, domains
        self.outer = outer
        self.attributes = attributes or {}  # from the call of the function around the nodes
        self.depth: int = 0 if outer is None else outer.depth  # functions that are being expanded
        self.names: dict[str, str] = {"": ""}  # names in the file to names in the graph
        self.source = messages.Graph()  # in the file; that of a function declares no shapes
        self.modules: Counter[str] = Counter()  # the layers in each module

    def translated(self, graph: messages.Graph) -> Scope:
        """Translate a graph of the file, and return the scope."""
        self.source = graph
        for value in graph.input:
            self.names[value.name] = self.graph.add_input(*declaration(value))
        for tensor in graph.initializer:
            self.names[tensor.name] = self.graph.add_constant(tensor_array(tensor), tensor.name)
        self.add_nodes(graph.node)
        self.graph.outputs = tuple(self.find(value.name) for value in graph.output)
        self.graph.declared_outputs = tuple(map(declaration, graph.output))
        return self

    def find(self, name: str) -> str:
        """Return the name in the graph of a value of this scope or one around it."""
        if name not in self.names:
            if self.outer is None:
                raise FileError(f"the value {name} is not defined")
            self.names[name] = found = self.outer.find(name)
            outer = self.outer.graph
            if found in outer.constants and found not in outer.defaults:
                self.graph.constants[found] = outer.constants[found]
        return self.names[name]

    def add_nodes(self, nodes: Sequence[messages.Node]) -> None:
        for node in nodes:
            try:
                self._add_node(node)
            except OnwardError as error:
                raise type(error)(named(described(node), error)) from error

    def _add_node(self, node: messages.Node) -> None:
        attributes = self._attributes(node)
        domain = "" if node.domain == "ai.onnx" else node.domain
        inputs = [self.names[name] if name in self.names else self.find(name) for name in node.input]
        version = self.versions.get(domain, 0)
        if domain in self.domains:
            outputs = self.domains[domain](self, node, version, inputs, attributes)
            if outputs is not None:
                self._define(node, outputs)
                return
        if not domain and opsets.is_current(node.op_type, version) and opsets.UNUSED.isdisjoint(attributes):
            self._define(node, self._add(node, node.op_type, inputs, node.output, attributes))
            return
        call = opsets.normalize(opsets.Call(self, node, version, inputs, attributes), domain)
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if call is not None:
            operation, inputs, attributes = call.operation, call.inputs, call.attributes
            if operation == "Constant":
                self.names[node.output[0]] = self.graph.add_constant(attributes["value"], node.output[0])
                return
            if operation in BODIES:
                inputs, attributes = self.with_bodies(operation, inputs, attributes)
            own = node.output[: min(call.defined)] if call.defined else node.output
            self._define(node, self._add(node, operation, inputs, own, attributes))
            if call.defined:
                self.names |= {node.output[i]: v for i, v in call.defined.items() if i < len(node.output)}
        elif function is not None:
            self._inline(node, function, inputs, attributes)
        else:
            from . import reference  # slow to import, and few files need it

            function_call = reference.function(node, version, attributes)
            self._define(node, self._add(node, "Python", inputs, node.output, {"function": function_call}))

    def _add(
        self,
        node: messages.Node,
        operation: str,
        inputs: list[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> Sequence[str]:
        return self.graph.add_node(operation, inputs, outputs, attributes, self._name(node), node.operator)

    def _name(self, node: messages.Node) -> str:
        """The name of a node; for recurrent layers that of their module, which PyTorch keeps beside it."""
        if node.operator not in RECURRENT:
            return node.name or ", ".join(filter(None, node.output))
        runs = [decode(messages.Metadata, run).metadata_props for run in node.metadata_props]
        scopes = next((entry.value for run in runs for entry in run if entry.key == SCOPES), "")
        names = re.findall(r"'([^']*)'", scopes)  # of the model, the modules in it and the operator
        if len(names) < 2:
            return node.name or node.op_type
        name = "/".join(["", *filter(None, names[-2].split(".")), node.op_type])
        self.modules[name] += 1
        return f"{name}_{self.modules[name] - 1}" if self.modules[name] > 1 else name

    def _define(self, node: messages.Node, values: Sequence[str]) -> None:
        for name, value in zip(node.output, values, strict=False):
            if name:
                self.names[name] = value

    def _attributes(self, node: messages.Node) -> dict[str, Any]:
        values = {}
        for attribute in node.attribute:
            if not attribute.ref_attr_name:
                values[attribute.name] = attribute_value(attribute)
            elif attribute.ref_attr_name in self.attributes:
                values[attribute.name] = self.attributes[attribute.ref_attr_name]
        return values

    def _inline(
        self, node: messages.Node, function: messages.Function, inputs: list[str], attributes: dict[str, Any]
    ) -> None:
        """Replace a call by the nodes of its function."""
        defaults = {a.name: attribute_value(a) for a in function.attribute_proto}
        versions = {**self.versions, **_versions(function.opset_import)}
        inner = Scope(self.graph, versions, self.functions, self.domains, None, {**defaults, **attributes})
        inner.depth = self.depth + 1
        if inner.depth > MAX_DEPTH:
            raise FileError(f"functions are nested more than {MAX_DEPTH} deep")
        padded = [*inputs, *[""] * (len(function.input) - len(inputs))]
        inner.names |= dict(zip(function.input, padded, strict=True))
        inner.add_nodes(function.node)
        self._define(node, [inner.find(name) for name in function.output])

    def with_bodies(
        self, operation: str, inputs: list[str], attributes: dict[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        """Return the inputs and attributes of a node with its bodies translated.

        What the bodies use from outside is added to the inputs.
        """
        graphs = {name: self._body(g) for name, g in attributes.items() if isinstance(g, messages.Graph)}
        captured, attributes = close(*graphs.values()), attributes | graphs
        if operation == "Loop":  # captured values follow the count and the condition
            inputs = [*inputs, *[""] * (2 - len(inputs))]
        if operation != "If":
            attributes["captured"] = len(captured)
        return [*inputs, *captured], attributes

    def _body(self, graph: messages.Graph) -> Graph:
        body = self.graph.body()
        scope = Scope(body, self.versions, self.functions, self.domains, self, self.attributes)
        return scope.translated(graph).graph

    def dtype(self, number: int) -> np.dtype[Any]:
        """Return the dtype of a data type of ONNX."""
        return dtype_of(number, "the node")

    def rank(self, name: str) -> int | None:
        """Return the number of axes of a value of the file, if it is known."""
        declared = self.declared(name)
        if declared is not None and declared.axes is not None:
            return len(declared.axes)
        constant = self.constant(name)
        return None if constant is None else constant.ndim

    def constant(self, name: str) -> AnyArray | None:
        """Return a value of the file if it is a constant."""
        return self.graph.constants.get(self.names.get(name, ""))

    def declared(self, name: str) -> Input | None:
        """Return what the file declares of a value, if anything."""
        return self._declared.get(name)

    @cached_property
    def _declared(self) -> dict[str, Input]:
        runs = [decode(messages.Declarations, run).value_info for run in self.source.value_info]
        declared = map(declaration, (*self.source.input, *chain(*runs), *self.source.output))
        return {each.name: each for each in declared}


def declaration(value: messages.ValueInfo) -> Input:
    """Return the declaration of an input or output."""
    tensor = None if value.type is None else value.type.tensor_type
    if tensor is None or not tensor.elem_type:
        return Input(value.name)
    axes = None
    if tensor.shape is not None:
        axes = tuple(
            a.dim_param or "" if a.dim_value in (None, messages.UNKNOWN_SIZE) else a.dim_value
            for a in tensor.shape.dim
        )
    return Input(value.name, dtype_of(tensor.elem_type, f"the value {value.name}"), axes)


def _versions(imports: Sequence[messages.OperatorSetId]) -> dict[str, int]:
    return {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in imports}

"""A whole model as a graph: inputs, constants, and nodes in the order of their computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from ..core import budget
from ..errors import ArgumentError, OnwardError
from .declared import Input as Input
from .declared import Sizes, as_declared, check_names
from .node import AnyArray, Expansion, Naming, Node, needed_nodes
from .operations import OPERATIONS
from .operations.modules import MODULES
from .structure import Structure

INPUTS = attrgetter("inputs")
NODE = 1 << 10  # bytes of a node, with its attributes and the names of its values


class Source(Protocol):
    """Code that is recorded for the inputs of each call."""

    def general(self, declared: Mapping[str, Any]) -> Graph:
        """Return one graph for all sizes of the inputs, whose axes or values may be declared."""


class Graph:
    """A model that front ends write with `add`, and that a `Planner` runs.

    Values have unique names. The body of an If, Loop or Scan is a graph of its own; values from around it are
    additional inputs of the node and of the body, after their own.

    `carries` maps inputs with default values to the outputs that hold their next values: the state that the
    source keeps between calls. `structure` is the signature of the source's function if that takes or returns
    nested containers, and `sizes` is what it requires of the sizes of the inputs. `source` is code
    that is recorded for each call.

    Examples
    --------
    >>> graph = Graph()
    >>> x = graph.add_input("x", np.float32, ("batch", 3))
    >>> W = graph.add_constant(np.ones((3, 2), np.float32))
    >>> graph.outputs = (graph.add("Relu", graph.add("MatMul", x, W)),)
    >>> [node.operation for node in graph.nodes]
    ['MatMul', 'Relu']
    """

    def __init__(
        self,
        inputs: Iterable[Input] = (),
        outputs: tuple[str, ...] = (),
        declared_outputs: tuple[Input, ...] = (),
        nodes: Iterable[Node] = (),
        constants: Mapping[str, AnyArray] | None = None,
        opset: int = 0,
    ) -> None:
        self.inputs, self.outputs, self.nodes = list(inputs), outputs, list(nodes)
        self.declared_outputs = declared_outputs  # the types of the outputs, for loops without iterations
        self.constants: dict[str, AnyArray] = dict(constants or {})
        self.defaults = frozenset[str]()  # the inputs that may be omitted; constants hold their values
        self.carries: dict[str, str] = {}  # names of inputs to names of declared outputs
        self.structure: Structure | None = None
        self.sizes = Sizes()
        self.source: Source | None = None
        self.opset = opset  # from the ONNX file: the nodes have dtypes that this opset allows
        self.of_layers = False  # whether Onward's layers became the graph: then it keeps their bits
        self._names: dict[str, int] = {}  # to the last number appended to each
        self._input_names: set[str] = set()

    def replaced(self, **changes: Any) -> Graph:
        """Return a graph with some attributes replaced; it shares all others."""
        graph = object.__new__(type(self))
        vars(graph).update(vars(self), **changes)
        return graph

    def meaning(self) -> Any:
        """Return what determines the outputs: all except the names that errors use."""
        nodes = [(node.operation, node.inputs, node.outputs, node.attributes) for node in self.nodes]
        return self.inputs, self.outputs, self.constants, self.defaults, self.carries, nodes

    def add_input(
        self,
        name: str,
        dtype: Any = None,
        axes: Sequence[int | str] | None = None,
        converts: str = "same_kind",
    ) -> str:
        """Declare the next input and return its name."""
        name = self._new_name(name)
        declared = Input(name, dtype and np.dtype(dtype), None if axes is None else tuple(axes), converts)
        self.inputs.append(declared)
        self._input_names.add(name)
        return name

    def add_constant(self, array: AnyArray, name: str = "") -> str:
        """Add a constant, or the default value of an input of this name, and return its name."""
        if name in self._input_names:
            self.defaults |= {name}
        else:
            name = self._new_name(name or f"constant_{len(self.constants)}")
        self.constants[name] = array
        return name

    def add(
        self,
        operation: str,
        *inputs: str,
        name: str = "",
        source: str = "",
        output: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node with one output, and return the name of the output.

        `name`, `source` and `output` are what the source file calls the node, its operator and the output.
        Raises ArgumentError, which names the node, for an unknown operation or attribute.
        """
        return self.add_all(operation, inputs, (output,), name=name, source=source, **attributes)[0]

    def add_all(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str] = 1,
        *,
        name: str = "",
        source: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Add a node with several outputs, given their number or names, and return their names."""
        return self.add_node(operation, inputs, outputs, attributes, name, source)

    def add_node(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str],
        attributes: Mapping[str, Any],
        name: str = "",
        source: str = "",
    ) -> tuple[str, ...]:
        """Add a node as `add_all` does; its attributes may have any names, such as those of a file."""
        budget.charge(10 * budget.STEP, NODE)
        wanted = [""] * outputs if isinstance(outputs, int) else outputs
        named = tuple([self._new_name(output or f"{operation}_{len(self.nodes)}") for output in wanted])
        name = (name if named else self._new_name(operation)) or named[0]
        node = Node(operation, tuple(inputs), named, attributes, name, source)
        if operation not in MODULES:
            raise ArgumentError(f"{node}: the operation {operation} is not supported")
        try:
            OPERATIONS[operation].check_attributes(attributes)
        except OnwardError as error:
            raise ArgumentError(f"{node}: {error}") from error
        self.nodes.append(node)
        return named

    def body(self) -> Graph:
        """Return an empty graph for a body. Its values get names that this graph does not use."""
        return Graph().replaced(_names=self._names)

    def renamed(self, prefix: str, inputs: Sequence[str], outputs: Sequence[str]) -> Expansion:
        """Return the nodes and constants of a body with its inputs and outputs replaced by outer values.

        All other names get a prefix.
        """
        names = {declared.name: name for declared, name in zip(self.inputs, inputs, strict=True)} | {"": ""}
        nodes = [
            node.with_inputs(*(names.get(name, prefix + name) for name in node.inputs)).with_outputs(
                *(name and prefix + name for name in node.outputs)
            )
            for node in self.nodes
        ]
        for inner, outer in zip(self.outputs, outputs, strict=True):
            if outer:
                nodes.append(Node("Identity", (names.get(inner, prefix + inner),), (outer,), {}, outer))
        return Expansion(nodes, {prefix + name: array for name, array in self.constants.items()})

    @property
    def runs_in_calls(self) -> bool:
        """Whether the source keeps a state from call to call, and fixes the sizes of the inputs of a call."""
        given = [declared.axes for declared in self.inputs if declared.name not in self.defaults]
        fixed = [axes is not None and all(isinstance(axis, int) for axis in axes[1:]) for axes in given]
        return bool(self.carries) and all(fixed)

    def with_defaults(self, replaced: frozenset[str] = frozenset()) -> Graph:
        """Return a graph whose inputs with default values are constants, except those that are replaced."""
        fixed = self.defaults - replaced
        return self.replaced(
            inputs=[declared for declared in self.inputs if declared.name not in fixed],
            constants={name: array for name, array in self.constants.items() if name not in replaced},
            defaults=frozenset(),
        )

    def with_fixed(self, values: Mapping[str, Any]) -> Graph:
        """Return a graph in which some inputs are constants.

        Raises SignatureError for unknown names, and ShapeError and DtypeError for values that do not fit.
        """
        declared = {each.name: each for each in self.inputs}
        check_names(declared, list(values), "inputs")
        fixed = {name: as_declared(declared[name], value).copy() for name, value in values.items()}
        return self.replaced(
            inputs=[each for each in self.inputs if each.name not in fixed],
            constants=self.constants | fixed,
            defaults=self.defaults.difference(fixed),
        )

    def with_inputs(self, names: Iterable[str]) -> Graph:
        """Return a graph in which some constants are inputs, after the others."""
        constants = dict(self.constants)
        arrays = {name: constants.pop(name) for name in names}
        more = [Input(name, array.dtype, array.shape) for name, array in arrays.items()]
        return self.replaced(inputs=[*self.inputs, *more], constants=constants)

    def without_unused(self) -> Graph:
        """Return the graph without the nodes and the constants that the outputs do not depend on."""
        needed = set(self.outputs)
        nodes = [
            node if len(node.outputs) == 1 else node.returning(needed)  # one output is needed
            for node in needed_nodes(self.nodes, needed, checks)
        ]
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return self.replaced(nodes=nodes, constants=constants)

    def _new_name(self, name: str) -> str:
        """Return the name, with a number appended if a value already has it."""
        if name not in self._names:
            self._names[name] = 0
            return name
        new, number = name, self._names[name]
        while new in self._names:
            number += 1
            new = f"{name}_{number + 1}"
        self._names[name] = number
        self._names[new] = 0
        return new


def checks(node: Node) -> bool:
    """Whether a node may raise an error on purpose."""
    return node.operation == "Check" or any(checks(inner) for body in bodies(node) for inner in body.nodes)


def bodies(node: Node) -> list[Graph]:
    """Return the graphs among the attributes of a node."""
    if not node.attributes:
        return []
    return [value for value in node.attributes.values() if isinstance(value, Graph)]


def with_bodies(node: Node, change: Callable[[Graph], Any]) -> Node:
    """Return the node with what `change` makes of its bodies."""
    with Naming(node):
        attributes = {k: change(v) if isinstance(v, Graph) else v for k, v in node.attributes.items()}
    return node.with_attributes(attributes)


def used_names(nodes: Sequence[Node]) -> list[str]:
    """Return the name of each input of the nodes, once for each use."""
    return list(chain.from_iterable(map(INPUTS, nodes)))


def close(*bodies: Graph) -> list[str]:
    """Declare what bodies use from around them as their last inputs, and return the names."""
    names = dict[str, None]()
    for body in bodies:
        made = (node.outputs for node in body.nodes)
        own = {"", *(declared.name for declared in body.inputs), *body.constants, *chain.from_iterable(made)}
        used = (*used_names(body.nodes), *body.outputs)
        names |= dict.fromkeys(name for name in used if name not in own)
    for body in bodies:
        body.inputs += map(Input, names)
    return list(names)

"""The weights of a graph, and the graph with its weights as inputs: one program then trains all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..core.cell import Cell
from ..core.identity import Identity
from ..errors import ArgumentError, OnwardError
from .declared import as_declared
from .gradients import with_gradients
from .graph import Graph, bodies
from .inference import infer, open_signatures
from .node import AnyArray, Node
from .operations import OPERATIONS
from .plan.planner import Planner
from .simplification.simplify import simplify

# The inputs of operations that are weights if they are constants.
SECOND, AFTER_FIRST = (1,), (1, 2)
WEIGHTS: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(("Add", "Mul", "MatMul", "Gemm", "Einsum"), range(3)),
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization"), AFTER_FIRST),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), AFTER_FIRST),
    **dict.fromkeys(("RMSNormalization", "PRelu"), SECOND),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3)),
    "Gather": (0,),
}
# Operations through which a constant remains a weight.
PASSING = frozenset("Cast Expand Flatten Identity Reshape Slice Split Squeeze Transpose Unsqueeze".split())
PRODUCTS = {"MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose"}
ELEMENTWISE = {"Add", "Mul"}


def cells_of(graph: Graph) -> dict[str, Cell]:
    """Return each cell of the nodes once, by the name of the first node that has it."""
    found, seen = dict[str, Cell](), set[Identity]()
    for node in graph.nodes:
        cell = node.attributes.get("cell")
        if cell is not None and Identity(cell) not in seen:
            seen.add(Identity(cell))
            found[node.outputs[0] if node.name in found else node.name] = cell
    return found


def weights_of(graph: Graph) -> dict[str, AnyArray]:
    """Return the arrays of floats that training changes, by name.

    These are the constants of at least one axis that are filters, matrices, tables of embeddings and weights
    of recurrent nodes, the scales and shifts of normalizations, and what is multiplied with values or added
    to them; a single number only if it is added to a product. The weights of a cell have the name of its
    node in front of theirs.
    """
    products, single = set[str](), set[str]()  # values that are products, and where a single number may be
    for node in graph.nodes:
        if node.operation in PRODUCTS or (node.operation in PASSING and node.inputs[0] in products):
            products.update(node.outputs)
        if node.operation not in ELEMENTWISE or not products.isdisjoint(node.inputs):
            single.update(node.inputs)
    names = _used_as_weights(graph.nodes) - graph.defaults
    weights = {
        name: array
        for name, array in graph.constants.items()
        if name in names and _is_weight(array) and (array.size > 1 or name in single)
    }
    for prefix, cell in cells_of(graph).items():
        weights |= {f"{prefix}.{name}": array for name, array in cell.weights.items()}
    return weights


def _is_weight(array: AnyArray) -> bool:
    """Whether an array holds numbers to train: a mask of infinities does not."""
    return array.dtype in (np.float32, np.float64) and array.ndim > 0 and bool(np.isfinite(array).all())


def _used_as_weights(nodes: Sequence[Node]) -> set[str]:
    """Return the values that some nodes take as weights, directly or in their bodies."""
    found = set[str]()
    for node in reversed(nodes):
        places = (place for place in WEIGHTS.get(node.operation, ()) if place < len(node.inputs))
        found.update(node.inputs[place] for place in places)
        if node.operation in PASSING and not found.isdisjoint(node.outputs):
            found.add(node.inputs[0])
        for body in bodies(node):
            inner, captured = _used_as_weights(body.nodes), node.inputs[len(node.inputs) - node.captured :]
            own = body.inputs[len(body.inputs) - node.captured :]
            found.update(outer for x, outer in zip(own, captured, strict=True) if x.name in inner)
    return found - {""}


def with_weights(graph: Graph, weights: Mapping[str, AnyArray]) -> Graph:
    """Return the graph with some of its constants, and of the weights of its cells, replaced."""
    constants = {name: weights.get(name, array) for name, array in graph.constants.items()}
    changed = dict[Identity, Cell]()
    for prefix, cell in cells_of(graph).items():
        own = {name: weights.get(f"{prefix}.{name}", array) for name, array in cell.weights.items()}
        changed[Identity(cell)] = cell.with_weights(own, cell.precision)
    nodes = [
        node.with_attributes({**node.attributes, "cell": changed[Identity(node.attributes["cell"])]})
        if node.attributes.get("cell") is not None
        else node
        for node in graph.nodes
    ]
    return graph.replaced(constants=constants, nodes=nodes)


def _with_weighted_cells(graph: Graph) -> Graph:
    """Return the graph with the weights of its cells as constants. Raises ArgumentError."""
    prefixes = {Identity(cell): prefix for prefix, cell in cells_of(graph).items()}
    constants, nodes = dict(graph.constants), list[Node]()
    known = infer(graph, open_signatures(graph.inputs), ignored=(OnwardError,)) if prefixes else {}

    def added(node: Node) -> Iterator[Node]:
        cell = node.attributes.get("cell")
        if any(each.attributes.get("cell") is not None for body in bodies(node) for each in body.nodes):
            raise ArgumentError(f"{node} has no gradient: it repeats a recurrent cell")
        if cell is None:
            yield node
        elif node.operation == "Recurrent":
            if cell.precision:
                raise ArgumentError(
                    f"{node} has no gradient: quantized weights are supported at inference only"
                )
            names = {name: f"{prefixes[Identity(cell)]}.{name}" for name, _ in cell.float_shapes()}
            constants.update((outer, cell.weights[name]) for name, outer in names.items())
            form = {**node.attributes, "cell": cell.with_weights({})}
            count = 2 + len(cell.state_names)
            inputs = (*node.inputs, *[""] * count)[:count]
            yield (
                node.with_operation("WeightedRecurrent")
                .with_attributes(form)
                .with_inputs(*inputs, *names.values())
            )
        else:
            expand = OPERATIONS[node.operation].expand
            expansion = expand and expand(node, [known.get(name) if name else None for name in node.inputs])
            if not expansion:
                raise ArgumentError(f"{node} has no gradient")
            constants.update(expansion.constants)
            constants.update(expansion.known)
            for inner in expansion.rest():
                yield from added(inner)

    for node in graph.nodes:
        nodes += added(node)
    return graph.replaced(nodes=nodes, constants=constants)


class Trainable:
    """A graph without defaults, and its gradients, for all values of some weights.

    Raises ArgumentError, which names the node, if an operation has no gradient.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, AnyArray]) -> None:
        if not weights:
            raise ArgumentError("the model has no weights of float32 or float64 to train")
        self.inputs, self.names = graph.inputs, tuple(weights)
        weighted = _with_weighted_cells(graph)
        unused = {name: array for name, array in weights.items() if name not in weighted.constants}
        weighted = weighted.replaced(constants=weighted.constants | unused)
        self.forward = Planner(simplify(weighted.with_inputs(self.names)))

    @cached_property
    def backward(self) -> Planner:
        """From the inputs, the weights and the gradients of the outputs to those of the first two."""
        return Planner(simplify(with_gradients(self.forward.graph)))

    def arrays(self, x: Any) -> list[AnyArray]:
        """Return the checked inputs: x, or all of a tuple. Raises ArgumentError, ShapeError, DtypeError."""
        given = x if isinstance(x, tuple) else (x,)
        if len(given) != len(self.inputs):
            names = ", ".join(declared.name for declared in self.inputs)
            raise ArgumentError(
                f"x has {len(given)} arrays; expected a tuple with an array for each of ({names})"
            )
        return [as_declared(declared, value) for declared, value in zip(self.inputs, given, strict=True)]

    def of_inputs(self, gradients: Sequence[AnyArray]) -> tuple[list[Any], dict[str, AnyArray]]:
        """Split the results of `backward` into those of the inputs, None for integers, and the weights."""
        found = iter(gradients)
        of_inputs = [
            next(found) if d.dtype is not None and d.dtype.kind == "f" else None for d in self.inputs
        ]
        return of_inputs, dict(zip(self.names, found, strict=True))

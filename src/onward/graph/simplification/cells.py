"""Recognize one step of an LSTM or a GRU that an exporter wrote as products, activations and sums.

The preactivations of the gates must be linear in two values, the input x and the state h, with constant
weights. Products of all gates or of single ones, and any split and order of the gates, are recognized.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...layers.base import NO_WEIGHTS
from ..graph import Graph
from ..node import AnyArray, Node
from ..operations.recurrent import LAYERS
from .patterns import Match, Matcher, Pattern

LAST_AXIS = (1, -1)  # the axis of the gates in the preactivations (B, G*H)

# c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c')
NEW_CELL = ("Add", ("Mul", ("Sigmoid", "f"), "c"), ("Mul", ("Sigmoid", "i"), ("Tanh", "g")))
LSTM_STEP = ("Mul", ("Sigmoid", "o"), ("Tanh", NEW_CELL))
# n = tanh(n_x + sigmoid(r) n_h), h' = (1 - sigmoid(z)) n + sigmoid(z) h
CANDIDATE = ("Tanh", ("Add", "n_x", ("Mul", ("Sigmoid", "r"), "n_h")))
UPDATE = ("Sigmoid", "z")
GRU_STEP = [
    ("Add", ("Mul", ("Sub", "h", CANDIDATE), UPDATE), CANDIDATE),
    ("Add", ("Mul", UPDATE, "h"), ("Mul", ("Sub", 1.0, UPDATE), CANDIDATE)),
]


class Linear(NamedTuple):
    """A value as the sum of products x W, one W (K, N) for each value x, and a bias (N,)."""

    terms: dict[str, AnyArray]
    bias: AnyArray
    nodes: tuple[Node, ...]  # that compute it

    def columns(self, first: int, last: int) -> "Linear":
        terms = {name: W[:, first:last] for name, W in self.terms.items()}
        return Linear(terms, self.bias[first:last], self.nodes)


def replace_cells(graph: Graph) -> Graph:
    """Return the graph with one node for each step of a cell that is written out."""
    if not {"Sigmoid", "Tanh", "Mul"} <= {node.operation for node in graph.nodes}:
        return graph
    layers: dict[Any, Any] = {}  # steps with equal weights share a layer
    matcher, found = Matcher(graph), list[Node]()
    for node in graph.nodes:
        if node.operation in CELLS:
            pattern, build = CELLS[node.operation]
            steps = (build(matcher, match, layers) for match in matcher.matches(pattern, node))
            found += itertools.islice(filter(None, steps), 1)
    return _with(graph, found)


def _with(graph: Graph, steps: Sequence[Node]) -> Graph:
    """Return the graph with steps, each in place of the first node that computes one of its outputs."""
    by_output = {name: step for step in steps for name in step.outputs}
    nodes = [next(filter(None, map(by_output.get, node.outputs)), node) for node in graph.nodes]
    return graph.replaced(nodes=list({node.outputs: node for node in nodes}.values())).without_unused()


def _lstm(matcher: Matcher, match: Match, layers: dict[Any, Any]) -> Node | None:
    """The node of the step h', c' = LSTM(x, h, c)."""
    gates = [_linear(matcher, match.values[gate]) for gate in "ifgo"]
    (new_cell,) = (node.outputs[0] for node in match.nodes if node.operation == "Add")
    outputs = (match.nodes[0].outputs[0], new_cell)
    found = [gate for gate in gates if gate is not None]
    if len(found) < 4 or not _is_private(matcher, match, found, outputs):
        return None
    sources = set(found[0].terms)
    H = len(found[0].bias)
    if len(sources) != 2 or any(set(gate.terms) != sources or len(gate.bias) != H for gate in found):
        return None
    h = next((name for name in reversed(found[0].terms) if found[0].terms[name].shape[0] == H), None)
    if h is None:
        return None
    (x,) = sources - {h}
    W, R = (np.concatenate([gate.terms[name].T for gate in found]) for name in (x, h))
    bias = np.concatenate([gate.bias for gate in found])
    layer = _layer("LSTM", W, R, bias, np.zeros_like(bias), layers)
    return _step(match, layer, (x, h, match.values["c"]), outputs)


def _gru(matcher: Matcher, match: Match, layers: dict[Any, Any]) -> Node | None:
    """The node of the step h' = GRU(x, h), whose reset gate multiplies the product with h."""
    h, outputs = match.values["h"], match.nodes[0].outputs
    gates = [_linear(matcher, match.values[gate]) for gate in ("r", "z", "n_x", "n_h")]
    found = [gate for gate in gates if gate is not None]
    if len(found) < 4 or not _is_private(matcher, match, found, outputs):
        return None
    r, z, n_x, n_h = found
    H, sources = len(r.bias), set(r.terms)
    if set(n_h.terms) != {h} or len(n_x.terms) != 1 or h in n_x.terms:
        return None
    (x,) = n_x.terms
    if not sources == set(z.terms) == {x, h} or any(len(gate.bias) != H for gate in found):
        return None
    W = np.concatenate([gate.terms[x].T for gate in (r, z, n_x)])
    R = np.concatenate([gate.terms[h].T for gate in (r, z, n_h)])
    bias, zeros = np.concatenate([r.bias, z.bias, n_x.bias]), np.zeros_like(r.bias)
    layer = _layer("GRU", W, R, bias, np.concatenate([zeros, zeros, n_h.bias]), layers)
    return _step(match, layer, (x, h), outputs)


def _is_private(matcher: Matcher, match: Match, gates: list[Linear], outputs: tuple[str, ...]) -> bool:
    nodes = (*match.nodes, *(node for gate in gates for node in gate.nodes))
    return matcher.is_private(nodes, outputs)


def _step(match: Match, layer: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Node:
    last = match.nodes[0]
    return Node("Step", inputs, outputs, {"layer": layer}, last.name, type(layer).__name__)


def _layer(cell: str, W: AnyArray, R: AnyArray, b_W: AnyArray, b_R: AnyArray, layers: dict[Any, Any]) -> Any:
    """Return the layer with these weights, their gates in its order; equal weights make one layer."""
    arrays = {"weight_ih_l0": W, "weight_hh_l0": R, "bias_ih_l0": b_W, "bias_hh_l0": b_R}
    key = cell, *(array.tobytes() for array in arrays.values())
    if key not in layers:
        layers[key] = LAYERS[cell](W.shape[1], R.shape[1], dtype=W.dtype, rng=NO_WEIGHTS)
        layers[key].load_state_dict(arrays)
    return layers[key]


def _linear(matcher: Matcher, name: str) -> Linear | None:
    """Return a value as a linear function of other values, or None if it is none."""
    node = matcher.makers.get(name)
    if node is None:
        return None
    constants = [matcher.constants.get(value) for value in node.inputs]
    found = None
    if node.operation == "MatMul" and len(constants) == 2:
        found = _product(node.inputs[0], constants[1])
    elif node.operation == "Gemm" and len(constants) > 1:
        found = _gemm(node, constants)
    elif node.operation == "Add" and len(constants) == 2:
        found = _sum(matcher, node, constants)
    elif node.operation == "Split":
        found = _part(matcher, node, constants, node.outputs.index(name))
    elif node.operation == "Slice":
        found = _slice(matcher, node, constants)
    return None if found is None else found._replace(nodes=(node, *found.nodes))


def _product(x: str, W: AnyArray | None) -> Linear | None:
    if W is None or W.ndim != 2 or W.dtype not in (np.float32, np.float64):
        return None
    return Linear({x: W}, np.zeros(W.shape[1], W.dtype), ())


def _gemm(node: Node, constants: list[AnyArray | None]) -> Linear | None:
    attributes, (_, W, *others) = node.attributes, constants
    if attributes.get("transA") or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
        return None
    found = _product(node.inputs[0], W.T if W is not None and attributes.get("transB") else W)
    return _biased(found, others[0]) if any(node.inputs[2:]) else found


def _biased(found: Linear | None, bias: AnyArray | None) -> Linear | None:
    if found is None or bias is None or bias.ndim > 1 or bias.size not in (1, len(found.bias)):
        return None
    return found._replace(bias=found.bias + bias)


def _sum(matcher: Matcher, node: Node, constants: list[AnyArray | None]) -> Linear | None:
    parts = [_linear(matcher, name) for name, a in zip(node.inputs, constants, strict=True) if a is None]
    biases = [a for a in constants if a is not None]
    first = parts[0] if parts else None
    if len(parts) == 1 and len(biases) == 1:
        return _biased(first, biases[0])
    if len(parts) != 2 or first is None or parts[1] is None:
        return None
    second = parts[1]
    if first.terms.keys() & second.terms.keys() or len(first.bias) != len(second.bias):
        return None
    return Linear(first.terms | second.terms, first.bias + second.bias, first.nodes + second.nodes)


def _part(matcher: Matcher, node: Node, constants: list[AnyArray | None], place: int) -> Linear | None:
    """One part of a split along the last axis."""
    found = _linear(matcher, node.inputs[0])
    if found is None or node.attributes.get("axis", 0) not in LAST_AXIS:
        return None
    N, count = len(found.bias), len(node.outputs)
    if any(node.inputs[1:]):
        if constants[1] is None:
            return None
        edges = np.cumsum([0, *constants[1].tolist()])
    else:
        edges = np.arange(count + 1) * -(-N // count)
    if edges[-1] != N:
        return None
    return found.columns(int(edges[place]), int(edges[place + 1]))


def _slice(matcher: Matcher, node: Node, constants: list[AnyArray | None]) -> Linear | None:
    """A slice of the last axis."""
    found = _linear(matcher, node.inputs[0])
    starts, ends, axes, steps = (*constants[1:], None, None, None)[:4]
    if found is None or starts is None or ends is None or axes is None or starts.size != 1:
        return None
    if int(axes.item()) not in LAST_AXIS or (any(node.inputs[4:]) and (steps is None or steps.item() != 1)):
        return None
    first, last, _ = slice(int(starts.item()), int(ends.item())).indices(len(found.bias))
    return found.columns(first, max(first, last))


# by the last operation of a step: its pattern, and what builds its node
CELLS: dict[str, tuple[Pattern, Callable[[Matcher, Match, dict[Any, Any]], Node | None]]] = {
    "Mul": (LSTM_STEP, _lstm),
    "Add": (GRU_STEP, _gru),
}

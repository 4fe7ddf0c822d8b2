"""Recognize one step of an LSTM or a GRU that an exporter wrote as products, activations and sums.

The preactivations of the gates must be linear in two values, the input x and the state h, with constant
weights. Products of all gates or of single ones, and any split and order of the gates, are recognized.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ...core.cell import Cell
from ...errors import OnwardError
from ..node import AnyArray, Node
from ..operations import OPERATIONS
from ..patterns import Match, Matcher, Pattern

LAST_AXIS = (1, -1)  # the axis of the gates in the preactivations (B, G*H)

# c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c')
NEW_CELL = ("Add", ("Mul", ("Sigmoid", "f"), "c"), ("Mul", ("Sigmoid", "i"), ("Tanh", "g")))
LSTM_STEP = ("Mul", ("Sigmoid", "o"), ("Tanh", NEW_CELL))
UPDATE = ("Sigmoid", "z")


def _mixed(candidate: Pattern) -> list[Pattern]:
    """The patterns of h' = (1 - sigmoid(z)) n + sigmoid(z) h."""
    return [
        ("Add", ("Mul", ("Sub", "h", candidate), UPDATE), candidate),
        ("Add", ("Mul", UPDATE, "h"), ("Mul", ("Sub", 1.0, UPDATE), candidate)),
    ]


# n = tanh(n_x + sigmoid(r) n_h), or n = tanh(n), whose state h the reset gate multiplies before the product
GRU_STEP = _mixed(("Tanh", ("Add", "n_x", ("Mul", ("Sigmoid", "r"), "n_h"))))
GRU_STEP_RESET_BEFORE = _mixed(("Tanh", "n"))
NONLINEARITIES = {"Tanh": "tanh", "Relu": "relu"}


def lstm_step(match: Match) -> list[Node] | None:
    """The node of the step h', c' = LSTM(x, h, c)."""
    (new_cell,) = (node.outputs[0] for node in match.nodes if node.operation == "Add")
    gates = [(gate, gate) for gate in map(_linear_of(match), "ifgo")]
    return _step("LSTM", match, gates, ["c"], [new_cell])


def gru_step(match: Match) -> list[Node] | None:
    """The node of the step h' = GRU(x, h), whose reset gate multiplies the product with h."""
    r, z, n_x, n_h = map(_linear_of(match), ("r", "z", "n_x", "n_h"))
    return _step("GRU", match, [(r, r), (z, z), (n_x, n_h)])


def gru_step_reset_before(match: Match) -> list[Node] | None:
    """The node of the step h' = GRU(x, h), whose reset gate multiplies h."""
    n, z, h = *map(_linear_of(match), "nz"), match.values["h"]
    if n is None:
        return None
    for name in n.terms:
        reset = match.matcher.find(("Mul", ("Sigmoid", "r"), "h"), name)
        if reset is not None and reset.values["h"] == h:
            terms = {h if other == name else other: W for other, W in n.terms.items()}
            n = Linear(terms, n.bias, (*n.nodes, *reset.nodes))
            r = _linear_of(reset)("r")
            return _step("GRU", match, [(gate, gate) for gate in (r, z, n)], reset_after=False)
    return None


def rnn_step(matcher: Matcher, name: str, h: str) -> list[Node] | None:
    """The node of the step h' = tanh(W x + R h + b), or relu, with a given name."""
    last = matcher.makers.get(name)
    if last is None or last.operation not in NONLINEARITIES:
        return None
    match, found = Match(matcher, {"h": h}, (last,)), _linear(matcher, last.inputs[0])
    return _step("RNN", match, [(found, found)], nonlinearity=NONLINEARITIES[last.operation])


def _linear_of(match: Match) -> Callable[[str], "Linear | None"]:
    """Return a function that returns what a name of a pattern stands for, as a linear function."""
    return lambda name: _linear(match.matcher, match.values[name])


def _step(
    kind: str,
    match: Match,
    gates: Sequence[tuple["Linear | None", "Linear | None"]],
    other_states: Sequence[str] = (),
    other_outputs: Sequence[str] = (),
    **options: Any,
) -> list[Node] | None:
    """Return the node of a step; `gates` are the values to which x and h contribute, in the cell's order."""
    pairs = [(of_x, of_h) for of_x, of_h in gates if of_x is not None and of_h is not None]
    covered = (*match.nodes, *(node for pair in pairs for found in pair for node in found.nodes))
    outputs = (*match.nodes[0].outputs, *other_outputs)
    if len(pairs) < len(gates) or not match.matcher.is_private(covered, outputs):
        return None
    first = pairs[0][0]
    H = len(first.bias)
    states = [name for name, W in first.terms.items() if len(W) == H and match.values.get("h", name) == name]
    if not states or len(first.terms) != 2 or any(len(found.bias) != H for pair in pairs for found in pair):
        return None
    declared = {each.name for each in match.matcher.graph.inputs}  # the states, in the body of a loop
    h = sorted(states, key=declared.__contains__)[-1]
    (x,) = first.terms.keys() - {h}
    for of_x, of_h in pairs:
        expected = [{x, h}, {x, h}] if of_x is of_h else [{x}, {h}]
        if [set(of_x.terms), set(of_h.terms)] != expected:
            return None
    zeros = np.zeros_like(first.bias)
    arrays = {
        "weight_ih_l0": np.concatenate([of_x.terms[x].T for of_x, _ in pairs]),
        "weight_hh_l0": np.concatenate([of_h.terms[h].T for _, of_h in pairs]),
        "bias_ih_l0": np.concatenate([of_x.bias for of_x, _ in pairs]),
        "bias_hh_l0": np.concatenate([zeros if of_x is of_h else of_h.bias for of_x, of_h in pairs]),
    }
    inputs = (x, h, *(match.values[state] for state in other_states))
    cell = _cell(match.matcher, kind, arrays, options)
    return [Node("Step", inputs, outputs, {"cell": cell}, match.nodes[0].name, kind)]


def _cell(matcher: Matcher, kind: str, arrays: dict[str, AnyArray], options: dict[str, Any]) -> Cell:
    """Return a cell; equal weights make one."""
    key = (kind, *options.items(), *(array.tobytes() for array in arrays.values()))
    if key not in matcher.cells:
        W, R = arrays["weight_ih_l0"], arrays["weight_hh_l0"]
        matcher.cells[key] = Cell(kind, W.shape[1], R.shape[1], dtype=W.dtype, **options).filled(arrays)
    return matcher.cells[key]


class Linear(NamedTuple):
    """A value as the sum of products x W, one W (K, N) for each value x, and a bias (N,)."""

    terms: dict[str, AnyArray]
    bias: AnyArray
    nodes: tuple[Node, ...]  # that compute it


def _linear(matcher: Matcher, name: str) -> Linear | None:
    """Return a value as a linear function of other values, or None if it is none."""
    node = matcher.makers.get(name)
    if node is None:
        return None
    constants, attributes = [matcher.constants.get(value) for value in node.inputs], node.attributes
    found = None
    match node.operation, constants:
        case "MatMul", [_, W, *bias]:  # as the sum of a product and a bias
            found = _product(node.inputs[0], W)
            if bias:
                found = _added(found, _linear(matcher, node.inputs[2]) if bias[0] is None else None, bias[0])
        case "Gemm", [_, W, *others] if not attributes.get("transA"):
            if attributes.get("alpha", 1) == attributes.get("beta", 1) == 1:
                found = _product(node.inputs[0], W.T if W is not None and attributes.get("transB") else W)
                found = _biased(found, others[0]) if any(node.inputs[2:]) else found
        case "Add", [_, _]:
            found = _sum(matcher, node, constants)
        case "Split", [_, *sizes] if attributes.get("axis", 0) in LAST_AXIS:
            found = _columns(matcher, node, sizes, node.outputs.index(name))
        case "Slice", [_, *others] if others[2:] and others[2] is not None:
            if [axis in LAST_AXIS for axis in others[2].ravel()] == [True]:
                found = _columns(matcher, node, others, 0)
    return None if found is None else Linear(found.terms, found.bias, (node, *found.nodes))


def _product(x: str, W: AnyArray | None) -> Linear | None:
    if W is None or W.ndim != 2 or W.dtype not in (np.float32, np.float64):
        return None
    return Linear({x: W}, np.zeros(W.shape[1], W.dtype), ())


def _biased(found: Linear | None, bias: AnyArray | None) -> Linear | None:
    if found is None or bias is None or bias.ndim > 1 or bias.size not in (1, len(found.bias)):
        return None
    return Linear(found.terms, found.bias + bias, found.nodes)


def _added(first: Linear | None, second: Linear | None, bias: AnyArray | None) -> Linear | None:
    """The sum of a linear function and another one, or a bias."""
    if bias is not None:
        return _biased(first, bias)
    if first is None or second is None:
        return None
    if first.terms.keys() & second.terms.keys() or len(first.bias) != len(second.bias):
        return None
    return Linear(first.terms | second.terms, first.bias + second.bias, first.nodes + second.nodes)


def _sum(matcher: Matcher, node: Node, constants: list[AnyArray | None]) -> Linear | None:
    parts = [_linear(matcher, name) for name, a in zip(node.inputs, constants, strict=True) if a is None]
    first, second = (*parts, None, None)[:2]
    return _added(first, second, next((a for a in constants if a is not None), None))


def _columns(matcher: Matcher, node: Node, constants: Sequence[Any], place: int) -> Linear | None:
    """The output of a Split or a Slice of the last axis, which takes columns of the weights."""
    found = _linear(matcher, node.inputs[0])
    known = [name for name, a in zip(node.inputs[1:], constants, strict=True) if a is not None or not name]
    if found is None or len(known) < len(constants):
        return None

    def part(array: AnyArray) -> AnyArray:
        columns: AnyArray = OPERATIONS[node.operation].compute([array, *constants], node.attributes)[place]
        return columns

    with suppress(OnwardError):  # malformed sizes; the error belongs to the call
        terms = {name: part(W) for name, W in found.terms.items()}
        return Linear(terms, part(found.bias[None])[0], found.nodes)
    return None

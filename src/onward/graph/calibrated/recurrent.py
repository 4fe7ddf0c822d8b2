"""LSTM, GRU and RNN in integers: 8 bits for x, h and weights, 16 bits for the gates, c, and the h of a GRU.

The arguments of the gates have 12 bits behind the point, the gates 15. Functions lie on the lines between 513
of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from ...core.cell import Cell
from ..graph import Graph, Input
from ..node import AnyArray, Node
from ..operations.fixed_factors import lines
from ..writer import Recorder
from .forms import Q12, Q15, Form, Integers, times
from .ranges import state_of

INT32 = np.dtype(np.int32)
SUM_LIMITS = (-(1 << 30), 1 << 30)  # of the terms of an argument, whose sum has 32 bits
FACTOR_LIMITS = (-(1 << 16) + 1, (1 << 16) - 1)  # of what a gate of 15 bits multiplies


def is_supported(node: Node) -> bool:
    """Whether a node is a recurrent layer that runs in integers: one of torch.nn, forward over all steps."""
    cell: Any = node.attributes.get("cell")
    if node.operation != "Recurrent" or cell.dtype != np.float32 or cell.precision:
        return False
    is_plain = cell.is_plain() and cell.equation in RULES and not cell.proj_size
    is_forward = cell.sizes.D == 1 and not node.attributes.get("reverse")
    return is_plain and is_forward and not (*node.inputs, "")[1]


def applies(q: Any, node: Node, integral: Collection[str]) -> bool:
    """Whether a node has a rule."""
    return is_supported(node) and q.is_real(node.inputs[0])


class CellWeights(NamedTuple):
    """The weights of one layer, with rows in the order of its gates."""

    W: AnyArray
    R: AnyArray
    b_W: AnyArray
    b_R: AnyArray


def _weights(cell: Cell, number: int) -> CellWeights:
    weights, end = cell.weights, f"_l{number}"
    zeros = np.zeros(len(weights[f"weight_ih{end}"]), np.float32)
    biases = (weights.get(f"bias_{each}{end}", zeros) for each in ("ih", "hh"))
    return CellWeights(weights[f"weight_ih{end}"], weights[f"weight_hh{end}"], *biases)


class Rule(NamedTuple):
    """A cell in integers: how many of its recurrent biases join those of x, its states, and a step."""

    joined: int  # gates
    forms: Callable[[Form, Form], list[Form]]  # of the states, given those of h in 8 bits and c
    step: Callable[..., list[Any]]  # to the states and y


def write(q: Any, node: Node) -> None:
    """Run the layers one after the other, each as a scan over the steps."""
    cell: Any = node.attributes["cell"]
    h0, c0 = (*node.inputs, "", "", "")[2:4]
    rule, hidden = RULES[cell.equation], Form.of(*q.ranges.limits([state_of(node, 0), h0]))
    low, high = q.ranges.limits([state_of(node, 1), c0])
    forms = rule.forms(hidden, Form.of_16_bits(max(-low, high)))
    x, form = q.integers(node.inputs[0]), q.form(node.inputs[0])
    given = [_initial(q, node, place, each) for place, each in enumerate(forms)]
    finals: list[list[Any]] = [[] for _ in forms]
    for number in range(cell.num_layers):
        start = [each.apply("Gather", x.number(number, np.int64), axis=0) for each in given]
        *after, x = _scanned(q, _weights(cell, number), rule, (form, hidden, forms), x, start)
        form = hidden
        for ends, each in zip(finals, after, strict=True):
            ends.append(each.apply("Unsqueeze", [0]))
    q.define(node.outputs[0], hidden, x)
    for name, own, ends in zip(node.outputs[1:], forms, finals, strict=False):
        q.define(name, own, ends[0].apply("Concat", *ends[1:], axis=0) if ends[1:] else ends[0])


def _initial(q: Any, node: Node, place: int, form: Form) -> Integers:
    """Return a state at the start (L, B, H)."""
    name = (*node.inputs, "", "", "")[2 + place]
    if name:
        found: Integers = q.integers(name, form)
        return found
    cell: Any = node.attributes["cell"]
    batch = q.ranges.shape(node.inputs[0])[1]
    zeros = np.full((cell.num_layers, batch, cell.hidden_size), form.zero_point)
    return Integers(q, q.cast(zeros, form.dtype), form.dtype)


def _scanned(
    q: Any,
    weights: CellWeights,
    rule: Rule,
    forms: tuple[Form, Form, list[Form]],
    x: Integers,
    start: list[Any],
) -> list[Integers]:
    """Return the states after all steps, and y."""
    given, hidden, states = forms
    b_R = weights.b_R.copy()
    b_R[: rule.joined * weights.R.shape[1]] = 0
    first = arguments(x, given, weights.W, weights.b_W + weights.b_R - b_R)
    inner = Recorder(Graph(), f"int8/{len(q.graph.nodes)}/", q.label)
    body, shape = inner.graph, ("batch", weights.R.shape[1])
    dtypes = [form.dtype for form in states]
    before = [
        Integers(inner, body.add_input(f"state_{place}", dtype, shape), dtype)
        for place, dtype in enumerate(dtypes)
    ]
    sums = Integers(inner, body.add_input("sums", INT32), INT32)
    after, dtypes = rule.step(_Step(weights.R, b_R, hidden, states), sums, *before), [*dtypes, hidden.dtype]
    body.outputs = tuple(each.name for each in after)
    body.declared_outputs = tuple(Input(*pair, shape) for pair in zip(body.outputs, dtypes, strict=True))
    given_names = [*(state.name for state in start), first.name]
    made = q.add_all("Scan", given_names, len(dtypes), body=body, num_scan_inputs=1)
    return [Integers(q, name, dtype) for name, dtype in zip(made, dtypes, strict=True)]


def arguments(x: Any, form: Form, rows: AnyArray, bias: AnyArray) -> Any:
    """Return products with rows, plus a bias, with 12 bits behind the point."""
    sums, scales = times(x, form, rows, bias)
    return sums.scaled(scales / Q12, Form(Q12, 0, 32), SUM_LIMITS)


class _Step(NamedTuple):
    """What a step of a cell needs."""

    R: AnyArray
    b: AnyArray
    hidden: Form  # of h in 8 bits
    states: list[Form]


def sigmoid(x: Any) -> Any:
    """The logistic function, with 15 bits behind the point."""
    return _function(x, lambda v: 1 / (1 + np.exp(-v)), Q12)


def tanh(x: Any, scale: float = Q12) -> Any:
    """The hyperbolic tangent, with 15 bits behind the point."""
    return _function(x, np.tanh, scale)


def _tanh_of_state(c: Any, scale: float) -> Any:
    """The tangent of c, whose table has lines of at most 1/32."""
    return tanh(c, scale) if scale <= Q12 else tanh(c.scaled(scale / Q12, Form(Q12, 0, 32)))


def _function(x: Any, function: Callable[[AnyArray], AnyArray], scale: float) -> Any:
    # beyond 16 bits, the table has the numbers of its ends
    return x.looked_up(lines(function, (scale, 0), Q15.scale), -(1 << 15), np.int32, bits=7)


def _lstm(step: _Step, sums: Any, h: Any, c: Any) -> list[Any]:
    total = sums + arguments(h, step.hidden, step.R, step.b)
    i, f, g, o = total.split(4)
    exponent = round(np.log2(step.states[1].scale))
    kept, added = (sigmoid(f) * c).shifted(15), (sigmoid(i) * tanh(g)).shifted(30 + exponent)
    new = (kept + added).saturated()
    product = sigmoid(o) * _tanh_of_state(new, step.states[1].scale)
    y = product.scaled(2.0**-30 / step.hidden.scale, step.hidden)
    return [y, new, y]


def _gru(step: _Step, sums: Any, h: Any) -> list[Any]:
    near = h.scaled(Q15.scale / step.hidden.scale, step.hidden)
    r, z, n = sums.split(3)
    u_r, u_z, u_n = arguments(near, step.hidden, step.R, step.b).split(3)
    factor = u_n.apply("Clip", *FACTOR_LIMITS)
    new = tanh(n + (sigmoid(r + u_r) * factor).shifted(15))
    return _mixed(step, sigmoid(z + u_z), new, h)


def _gru_reset_before(step: _Step, sums: Any, h: Any) -> list[Any]:
    near = h.scaled(Q15.scale / step.hidden.scale, step.hidden)
    r, z, n = sums.split(3)
    split = 2 * step.R.shape[1]
    u_r, u_z = arguments(near, step.hidden, step.R[:split], step.b[:split]).split(2)
    reset = (sigmoid(r + u_r) * h).scaled(2.0**-30 / step.hidden.scale, step.hidden)
    new = tanh(n + arguments(reset, step.hidden, step.R[split:], step.b[split:]))
    return _mixed(step, sigmoid(z + u_z), new, h)


def _mixed(step: _Step, z: Any, new: Any, h: Any) -> list[Any]:
    after = (new + (z * (h - new)).shifted(15)).saturated()
    return [after, after.scaled(Q15.scale / step.hidden.scale, step.hidden)]


def _rnn(step: _Step, sums: Any, h: Any) -> list[Any]:
    total = sums + arguments(h, step.hidden, step.R, step.b)
    y = tanh(total).scaled(Q15.scale / step.hidden.scale, step.hidden)
    return [y, y]


RULES = {
    "lstm": Rule(4, lambda h, c: [h, c], _lstm),
    "gru": Rule(2, lambda h, c: [Q15], _gru),
    "gru_reset_before": Rule(3, lambda h, c: [Q15], _gru_reset_before),
    "rnn": Rule(1, lambda h, c: [h], _rnn),
}

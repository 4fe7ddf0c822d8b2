"""Onward's own functions, in the domain `onward`, for what no operator of ONNX expresses.

Other runtimes run the bodies of the functions, which are their equations. Onward reads a call as an operation
of graphs and runs its own layers, which preserves the bits.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from ...graph.node import AnyArray
from ...layers.base import NO_WEIGHTS
from ...layers.rnn import LSTM
from . import build, messages

if TYPE_CHECKING:
    from .translate import _Scope

DOMAIN, VERSION = "onward", 1
ACTIVATIONS = {"silu": "Swish", "affine": "Affine", "scaled_tanh": "ScaledTanh"}
OPERATIONS = {"steps": "Steps", "last": "LastStep", "final_state": "FinalState"}

# The equations have Python's syntax: an operator is called with values, and keyword arguments are its
# attributes. Literals are int64 constants. {name}, {real} and {way} are an LSTM's name, dtype and direction.
EQUATIONS = """
def silu(x):
    return Mul(x, Sigmoid(x))

def affine(x, alpha, beta):
    return Add(Mul(alpha, x), beta)

def scaled_tanh(x, alpha, beta):
    return Mul(alpha, Tanh(Mul(beta, x)))

# y (B, T, F) and lengths (B,) to (B, F): the step `length` of y with a zero step prepended
def last(y, lengths):
    steps = Pad(y, [0, 1, 0, 0, 0, 0])
    return GatherND(steps, Unsqueeze(Cast(lengths, to=7), [1]), batch_dims=1)

# x (T, B, ...) to lengths (B,), all equal to T
def steps(x):
    shape = Shape(x)
    return Cast(Expand(Gather(shape, [0]), Gather(shape, [1])), to=6)

# A recurrent node's final state (D, B, H), with the initial state instead of zeros in rows of no steps
def final_state(state, initial, lengths):
    return Where(Unsqueeze(Greater(lengths, int32(0)), [1]), state, initial)

# x (T, B, I), W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), with gates in the order i f g o, W_hr (H, P),
# lengths (B,), h0 (1, B, P) and c0 (1, B, H) to y (T, 1, B, P) and the final h and c. Past a row's length,
# the state does not change and y is 0.
def {name}(x, W, R, b_W, b_R, W_hr, lengths, h0, c0):
    sums = Add(Add(MatMul(Unsqueeze(x, [1]), W), b_W), b_R)
    times = Cast(Range(0, Gather(Shape(x), 0), 1), to=6)
    rows = Unsqueeze(lengths, [1])

    def steps(h_before, c_before, sum, t):
        i, f, g, o = Split(Add(sum, MatMul(h_before, R)), [1, 1, 1, 1], axis=0)
        c = Add(Mul(Sigmoid(f), c_before), Mul(Sigmoid(i), Tanh(g)))
        h = MatMul(Mul(Sigmoid(o), Tanh(c)), W_hr)
        valid = Less(t, rows)
        return Where(valid, h, h_before), Where(valid, c, c_before), Where(valid, h, {real}(0.0))

    h_n, c_n, y = Scan(
        h0, c0, sums, times, body=steps, num_scan_inputs=2,
        scan_input_directions=[{way}, {way}], scan_output_directions=[{way}],
    )
    return y, h_n, c_n
"""


def add(scope: _Scope, node: messages.Node, version: int, inputs: list[str]) -> Sequence[str] | None:
    """Add the operations of a call and return the outputs, or None to run the body of the function."""
    name, graph = node.op_type, scope.graph
    if version != VERSION:
        raise ArgumentError(f"this version of Onward reads version {VERSION} of {DOMAIN}, not {version}")
    if name in OPERATIONS:
        return graph.add_all(OPERATIONS[name], inputs, node.output, name=node.name)
    if name not in (*ACTIVATIONS, "lstm", "lstm_reverse"):
        raise ArgumentError(f"this version of Onward has no function {name}")
    constants = [graph.constants.get(value) for value in inputs[1 : 6 if name.startswith("lstm") else None]]
    if any(constant is None for constant in constants):
        return None
    if name in ACTIVATIONS:
        numbers = [float(constant.item()) for constant in constants if constant is not None]
        attributes: dict[str, Any] = dict(zip(("alpha", "beta"), numbers, strict=False))
        return graph.add_all(ACTIVATIONS[name], inputs[:1], node.output, name=node.name, **attributes)
    layer, reverse = _projected(*constants), name == "lstm_reverse"
    kept = [inputs[0], *inputs[6:]]
    y, *states = graph.add_all("Recurrent", kept, 3, name=node.name, layer=layer, reverse=reverse)
    return graph.add("Unsqueeze", y, graph.add_constant(np.array([1]))), *states


def _projected(*given: Any) -> LSTM:
    """The layer with weights W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), W_hr (H, P)."""
    W, R, b_W, b_R, W_hr = given
    H, P = W_hr.shape
    layer = LSTM(W.shape[1], H, proj_size=P, dtype=W.dtype, rng=NO_WEIGHTS)
    matrices = (("weight_ih_l0", W), ("weight_hh_l0", R))
    weights = {name: array.swapaxes(1, 2).reshape(4 * H, -1) for name, array in matrices}
    biases = {"bias_ih_l0": b_W.reshape(4 * H), "bias_hh_l0": b_R.reshape(4 * H)}
    layer.load_state_dict(weights | biases | {"weight_hr_l0": W_hr.T})
    return layer


def function(name: str, real: str, opset: int) -> messages.Function:
    """The function of this name for the dtype `real`, float32 or float64, in the opset of its model."""
    equations = EQUATIONS.format(name=name, real=real, way=int(name == "lstm_reverse"))
    named = [
        each for each in ast.parse(equations).body if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    inputs, nodes, outputs = _parsed(named[0], itertools.count())
    opsets = [messages.OperatorSetId(domain="", version=opset)]
    return messages.Function(
        name=name, domain=DOMAIN, input=inputs, output=outputs, node=nodes, opset_import=opsets
    )


def _parsed(
    definition: ast.FunctionDef, numbers: Iterator[int]
) -> tuple[list[str], list[messages.Node], list[str]]:
    """The inputs, nodes and outputs of a definition; numbers make the names of values unique."""
    nodes: list[messages.Node] = []
    graphs: dict[str, messages.Graph] = {}
    outputs: list[str] = []

    def evaluated(expression: ast.expr, *targets: str) -> str:
        """Add the nodes of an expression, and return the name of its value."""
        match expression:
            case ast.Name(id=name):
                return name
            case ast.Call(func=ast.Name(id=operator)) if operator[0].isupper():
                inputs = list(map(evaluated, expression.args))
                attributes = {str(each.arg): attribute(each.value) for each in expression.keywords}
            case _:
                operator, inputs, attributes = "Constant", [], {"value": _array(expression)}
        targets = targets or (f"{operator}_{next(numbers)}",)
        nodes.append(build.node(operator, inputs, targets, **attributes))
        return targets[0]

    def attribute(expression: ast.expr) -> Any:
        return graphs[expression.id] if isinstance(expression, ast.Name) else ast.literal_eval(expression)

    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[target], value=value):
                evaluated(value, *(ast.unparse(each) for each in _elements(target)))
            case ast.FunctionDef(name=name):
                inputs, inner, results = _parsed(statement, numbers)
                values = [[messages.ValueInfo(name=each) for each in names] for names in (inputs, results)]
                graphs[name] = messages.Graph(name=name, node=inner, input=values[0], output=values[1])
            case ast.Return(value=ast.expr() as value):
                outputs = list(map(evaluated, _elements(value)))
    return [argument.arg for argument in definition.args.args], nodes, outputs


def _elements(expression: ast.expr) -> list[ast.expr]:
    return expression.elts if isinstance(expression, ast.Tuple) else [expression]


def _array(expression: ast.expr) -> AnyArray:
    """A literal as an int64 array, or a dtype called with a literal."""
    match expression:
        case ast.Call(func=ast.Name(id=dtype), args=[literal]):
            return np.array(ast.literal_eval(literal), dtype)
    return np.array(ast.literal_eval(expression), np.int64)

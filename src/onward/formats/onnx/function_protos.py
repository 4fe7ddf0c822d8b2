"""ONNX functions, in the domain `onward`, for what no operator expresses; each is written as its equations.

Other runtimes run the bodies of the functions; Onward runs its own layers, which preserves the bits. The
equations have Python's syntax: an operator is called with values, and its attributes are keyword arguments.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import build
from .messages import Function, Graph, Node, OperatorSetId, ValueInfo

DOMAIN, VERSION = "onward", 1

SILU = """
def silu(x):
    s = Sigmoid(x)
    y = Mul(x, s)
    return y
"""

AFFINE = """
def affine(x, alpha, beta):
    ax = Mul(alpha, x)
    y = Add(ax, beta)
    return y
"""

SCALED_TANH = """
def scaled_tanh(x, alpha, beta):
    bx = Mul(beta, x)
    t = Tanh(bx)
    y = Mul(alpha, t)
    return y
"""

# y (B, T, F) and lengths (B,) to (B, F): the step `length` of y with a zero step prepended
LAST = """
def last(y, lengths):
    pads = Constant(value_ints=[0, 1, 0, 0, 0, 0])
    steps = Pad(y, pads)
    index = Cast(lengths, to=7)
    axis = Constant(value_ints=[1])
    place = Unsqueeze(index, axis)
    h = GatherND(steps, place, batch_dims=1)
    return h
"""

# x (T, B, ...) to lengths (B,), all equal to T
STEPS = """
def steps(x):
    shape = Shape(x)
    zero = Constant(value_ints=[0])
    one = Constant(value_ints=[1])
    T = Gather(shape, zero)
    B = Gather(shape, one)
    all = Expand(T, B)
    lengths = Cast(all, to=6)
    return lengths
"""

# A recurrent node's final state (D, B, H), with the initial state instead of zeros in rows of no steps
FINAL_STATE = """
def final_state(state, initial, lengths):
    zero = Constant(value=int32(0))
    axis = Constant(value_ints=[1])
    has_steps = Greater(lengths, zero)
    rows = Unsqueeze(has_steps, axis)
    final = Where(rows, state, initial)
    return final
"""

# x (T, B, I), W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), with gates in the order i f g o, W_hr (H, P),
# lengths (B,), h0 (1, B, P) and c0 (1, B, H) to y (T, 1, B, P) and the final h and c. Past a row's length,
# the state does not change and y is 0.
LSTM = """
def {name}(x, W, R, b_W, b_R, W_hr, lengths, h0, c0):
    zero = Constant(value={real}(0.0))
    axis = Constant(value_ints=[1])
    four = Constant(value_ints=[1, 1, 1, 1])
    rows = Unsqueeze(lengths, axis)
    x_alone = Unsqueeze(x, axis)
    Wx = MatMul(x_alone, W)
    Wx_b = Add(Wx, b_W)
    sums = Add(Wx_b, b_R)
    first = Constant(value_int=0)
    step = Constant(value_int=1)
    shape = Shape(x)
    T = Gather(shape, first)
    times_64 = Range(first, T, step)
    times = Cast(times_64, to=6)

    def steps(h_before, c_before, sum, t):
        Rh = MatMul(h_before, R)
        gates = Add(sum, Rh)
        a_i, a_f, a_g, a_o = Split(gates, four, axis=0)
        i = Sigmoid(a_i)
        f = Sigmoid(a_f)
        g = Tanh(a_g)
        o = Sigmoid(a_o)
        fc = Mul(f, c_before)
        ig = Mul(i, g)
        c_t = Add(fc, ig)
        tanh_c = Tanh(c_t)
        unprojected = Mul(o, tanh_c)
        h_t = MatMul(unprojected, W_hr)
        valid = Less(t, rows)
        h = Where(valid, h_t, h_before)
        c = Where(valid, c_t, c_before)
        y_t = Where(valid, h_t, zero)
        return h, c, y_t

    h_n, c_n, y = Scan(
        h0, c0, sums, times, body=steps, num_scan_inputs=2,
        scan_input_directions=[{way}, {way}], scan_output_directions=[{way}],
    )
    return y, h_n, c_n
"""

EQUATIONS = {
    "silu": SILU, "affine": AFFINE, "scaled_tanh": SCALED_TANH, "last": LAST, "steps": STEPS,
    "final_state": FINAL_STATE,
}  # fmt: skip


def function(name: str, real: str, opset: int) -> Function:
    """The function of this name for the dtype `real`, float32 or float64, in the opset of its model."""
    lstm = LSTM.format(name=name, real=real, way=int(name == "lstm_reverse"))
    (definition,) = ast.parse(EQUATIONS.get(name, lstm)).body
    assert isinstance(definition, ast.FunctionDef)
    inputs, nodes, outputs = _parsed(definition)
    return Function(
        name=name,
        domain=DOMAIN,
        input=inputs,
        output=outputs,
        node=nodes,
        opset_import=[OperatorSetId(domain="", version=opset)],
    )


def _parsed(definition: ast.FunctionDef) -> tuple[list[str], list[Node], list[str]]:
    """The inputs, nodes and outputs of a definition."""
    nodes: list[Node] = []
    graphs: dict[str, Graph] = {}
    outputs: Sequence[str] = ()
    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[target], value=ast.Call(func=ast.Name(id=operator)) as call):
                attributes = {str(each.arg): _value(each.value, graphs) for each in call.keywords}
                nodes.append(build.node(operator, _names(*call.args), _names(target), **attributes))
            case ast.FunctionDef():
                inputs, inner, results = _parsed(statement)
                graphs[statement.name] = Graph(
                    name=statement.name,
                    node=inner,
                    input=[ValueInfo(name=name) for name in inputs],
                    output=[ValueInfo(name=name) for name in results],
                )
            case ast.Return(value=ast.expr() as value):
                outputs = _names(value)
    return [argument.arg for argument in definition.args.args], nodes, list(outputs)


def _names(*expressions: ast.expr) -> list[str]:
    """The names in expressions that are names or tuples of names."""
    parts = [part for each in expressions for part in (each.elts if isinstance(each, ast.Tuple) else [each])]
    return [ast.unparse(part) for part in parts]


def _value(expression: ast.expr, graphs: dict[str, Graph]) -> Any:
    """The value of an attribute: a literal, the name of a graph, or a dtype called with numbers."""
    match expression:
        case ast.Name(id=name):
            return graphs[name]
        case ast.Call(func=ast.Name(id=dtype), args=[numbers]):
            return np.array(ast.literal_eval(numbers), dtype)
    return ast.literal_eval(expression)

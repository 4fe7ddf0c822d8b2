"""Onward's own functions, in the domain `onward`, for what no operator of ONNX expresses.

Other runtimes run the bodies of the functions, which are their equations. Onward reads a call as an operation
of graphs and runs its own layers, which preserves the bits.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.cell import Cell
from ...core.syntax import parse
from ...errors import ArgumentError
from ...graph.node import AnyArray
from . import build, messages
from .messages import AttributeType as Kind

if TYPE_CHECKING:
    from .translate import Scope

DOMAIN, VERSION = "onward", 1
LITERALS = {"float32", "float64", "int32", "int64", "uint8"}
ACTIVATIONS = {"silu": "Swish", "affine": "Affine", "scaled_tanh": "ScaledTanh"}
OPERATIONS = {
    "steps": "Steps",
    "last": "LastStep",
    "final_state": "FinalState",
    "floor_mod": "Mod",
    "quantized_linear": "QuantizedMatMul",
    "quantized_convolution": "QuantizedConv",
    "rescale": "Rescale",
    "rescale_once": "RescaleOnce",
    "lookup": "Lookup",
    "fixed_reciprocal": "FixedReciprocal",
    "quantize_rows": "QuantizeRows",
    "quantize_rows_with_zero": "QuantizeRowsWithZero",
    "row_product": "RowProduct",
}

# The operators with numbers as attributes, which are float32. In float64, calls name the operator and have
# its attributes as JSON, unless float32 holds all digits.
EXACT = frozenset(
    "Attention BatchNormalization Celu Elu Gemm GroupNormalization HardSigmoid InstanceNormalization LRN "
    "LayerNormalization LeakyRelu RMSNormalization Selu Shrink ThresholdedRelu".split()
)

# The equations have Python's syntax: an operator or a function is called with values, and keyword arguments
# are its attributes. Literals are int64 constants. Keyword-only parameters are attributes of the function.
EQUATIONS = """
def silu(x):
    return Mul(x, Sigmoid(x))

def affine(x, alpha, beta):
    return Add(Mul(alpha, x), beta)

def scaled_tanh(x, alpha, beta):
    return Mul(alpha, Tanh(Mul(beta, x)))

# Mod of floats with the sign of y, which the operator has from opset 28 on
def floor_mod(x, y):
    remainder = Mod(x, y, fmod=1)
    differs = Less(Mul(Sign(remainder), Sign(y)), CastLike(0, y))
    return Where(differs, Add(remainder, y), remainder)

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

# int8 to uint8 around 128: products of two unsigned matrices saturate in no runtime
def unsigned(W):
    return Cast(Add(Cast(W, to=6), int32(128)), to=2)

# x (..., N, K) times columns (..., K, O), unsigned, times scale (..., 1, O). The largest magnitude of a row
# of x is 127 steps; sums are exact. Rows are scaled before columns: onnxruntime fuses the other order into an
# operator that has one scale for all rows.
def quantized_product(x, columns, scale):
    largest = ReduceMax(Abs(x), [-1])
    counts = Greater(largest, float32(1e-30))
    inverse = Where(counts, Div(float32(127), largest), float32(0))
    rows = Cast(Add(Round(Mul(x, inverse)), float32(128)), to=2)
    sums = MatMulInteger(rows, columns, uint8(128), uint8(128))
    row_scale = Where(counts, Div(largest, float32(127)), float32(0))
    return Mul(Mul(Cast(sums, to=1), row_scale), scale)

# x (..., K), int8 W (O, K), scale (O,) and bias (O,) to (..., O)
def quantized_linear(x, W, scale, bias):
    return Add(quantized_product(x, unsigned(Transpose(W, perm=[1, 0])), scale), bias)

# x (N, C, ...), int8 W (O, C / group, ...), scale (O,) and bias (O,) to (N, O, ...). The identity as filters
# copies each window into the K channels of a group.
def quantized_convolution(
    x, W, scale, bias,
    *, auto_pad: STRING, dilations: INTS, group: INT, kernel_shape: INTS, pads: INTS, strides: INTS
):
    kernel = Shape(W, start=1)
    K = ReduceProd(kernel, [0])
    groups = Div(Shape(x, start=1, end=2), Shape(W, start=1, end=2))
    identity = Reshape(EyeLike(ConstantOfShape(Concat(K, K, axis=0))), Concat(K, kernel, axis=0))
    times = Concat(groups, ConstantOfShape(Shape(kernel), value=int64([1])), axis=0)
    windows = Conv(
        x, Tile(identity, times), auto_pad=auto_pad, dilations=dilations, group=group,
        kernel_shape=kernel_shape, pads=pads, strides=strides
    )
    rows = Transpose(Reshape(windows, Concat([0], groups, K, [-1], axis=0)), perm=[0, 1, 3, 2])
    columns = Transpose(Reshape(W, Concat(groups, [-1], K, axis=0)), perm=[0, 2, 1])
    by_group = Concat(groups, [1, -1], axis=0)
    product = quantized_product(rows, unsigned(columns), Reshape(scale, by_group))
    y = Transpose(Add(product, Reshape(bias, by_group)), perm=[0, 1, 3, 2])
    return Reshape(y, Concat(Shape(x, end=1), Shape(W, end=1), Shape(windows, start=2), axis=0))

# a b / 2^31 of int64, rounded to nearest, ties up
def high_product(a, b):
    sum = Add(Mul(a, b), 1073741824)
    return Min(Div(Sub(sum, Mod(sum, 2147483648)), 2147483648), 2147483647)

# x multiplier / 2^31 2^shift, ties away from zero in the shift to the right, plus a zero point; all int32
def rescale(x, multiplier, shift, zero_point, low, high):
    bits = Cast(shift, to=7)
    left = Pow(2, Max(bits, 0))
    right = Pow(2, Max(Neg(bits), 0))
    product = high_product(Mul(Cast(x, to=7), left), Cast(multiplier, to=7))
    size = Div(Add(Mul(Abs(product), 2), right), Mul(right, 2))
    y = Add(Mul(size, Sign(product)), Cast(zero_point, to=7))
    return CastLike(Min(Max(y, Cast(low, to=7)), Cast(high, to=7)), zero_point)

# x multiplier / 2^(31 - shift) of int64, rounded to nearest, ties up, plus a zero point
def rescale_once(x, multiplier, shift, zero_point, low, high):
    wide = Cast(multiplier, to=7)
    n = Sub(31, Cast(shift, to=7))
    unit = Pow(2, Min(n, 16))
    rest = Mod(x, unit)
    first = floor_divide(Add(Mul(rest, wide), Pow(2, Sub(n, 1))), unit)
    sum = Add(Mul(Div(Sub(x, rest), unit), wide), first)
    y = Add(floor_divide(sum, Pow(2, Sub(n, Min(n, 16)))), Cast(zero_point, to=7))
    return CastLike(Min(Max(y, Cast(low, to=7)), Cast(high, to=7)), zero_point)

def floor_divide(x, unit):
    return Div(Sub(x, Mod(x, unit)), unit)

# table[x - low]; integers beyond the table take its first or last element
def lookup(x, table, low):
    place = Sub(Cast(x, to=7), Cast(low, to=7))
    return Gather(table, Min(Max(place, 0), Sub(Size(table), 1)))

# To nearest, ties away from zero
def rounded_away(x):
    size = Abs(x)
    whole = Floor(size)
    return Mul(Sign(x), Add(whole, Cast(GreaterOrEqual(Sub(size, whole), float32(0.5)), to=1)))

# x / scale of rows as int8 from -127 to 127, and the scales
def quantize_rows(x):
    largest = ReduceMax(Abs(x), [-1])
    safe = Where(Equal(largest, float32(0)), float32(127), largest)
    steps = Max(Min(Mul(x, Div(float32(127), safe)), float32(127)), float32(-127))
    return Cast(rounded_away(steps), to=3), Div(safe, float32(127))

# x / scale + zero point of rows as int8, the scales and the zero points
def quantize_rows_with_zero(x):
    low = Cast(Neg(Max(ReduceMax(Neg(x), [-1]), float32(0))), to=11)
    high = Cast(Max(ReduceMax(x, [-1]), float32(0)), to=11)
    is_zero = Equal(low, high)
    scale = Where(is_zero, float64(1), Div(Sub(high, low), float64(255)))
    from_low = Sub(float64(-128), Div(low, scale))
    from_high = Sub(float64(127), Div(high, scale))
    is_low = Less(Sub(float64(128), Div(low, scale)), Add(float64(127), Div(high, scale)))
    found = Max(Min(Where(is_low, from_low, from_high), float64(127)), float64(-128))
    zero = Where(is_zero, float64(0), Mul(Sign(found), Floor(Add(Abs(found), float64(0.5)))))
    single = Cast(scale, to=1)
    steps = Add(Mul(x, Div(float32(1), single)), Cast(zero, to=1))
    q = rounded_away(Max(Min(steps, float32(127)), float32(-128)))
    return Cast(q, to=3), single, Cast(zero, to=3)

# Rows before columns: onnxruntime fuses the other order into an operator of one scale.
def row_product(q, W, row_scale, zero, scale):
    totals = ReduceSum(Cast(W, to=6), [0], keepdims=0)
    sums = Sub(MatMulInteger(q, W), Mul(Cast(zero, to=6), totals))
    return Mul(Mul(Cast(sums, to=1), row_scale), scale)

# 2^31 / x as a multiplier of 31 bits behind the point and a shift, by Newton's method
def fixed_reciprocal(x):
    wide = Cast(x, to=7)
    digits = Ceil(Div(Log(Add(Cast(wide, to=11), float64(1))), Log(float64(2))))
    zeros = Sub(32, Cast(digits, to=7))
    half = Div(Mul(wide, Pow(2, zeros)), 2)
    start = Add(high_product(half, -1010580540), 1515870810)
    first = newton_step(start, half)
    y = newton_step(newton_step(first, half), half)
    return Cast(Min(Mul(y, 2), 2147483647), to=6), Cast(zeros, to=6)

def newton_step(y, half):
    return Add(y, Mul(high_product(y, Sub(536870912, high_product(half, y))), 4))
"""


def add(
    scope: Scope, node: messages.Node, version: int, inputs: list[str], attributes: Mapping[str, Any]
) -> Sequence[str] | None:
    """Add the operations of a call and return the outputs, or None to run the body of the function."""
    name, graph = node.op_type, scope.graph
    if version != VERSION:
        raise ArgumentError(f"this version of Onward reads version {VERSION} of {DOMAIN}, not {version}")
    if name in OPERATIONS:
        return graph.add_node(OPERATIONS[name], inputs, node.output, attributes, node.name)
    operation = attributes.get("operation")
    if isinstance(operation, str) and operation in EXACT:
        exact = _json(attributes, "attributes")
        return graph.add_node(operation, inputs, node.output, exact, node.name)
    weights = attributes.get("weights", [])
    first = 1 if name in ACTIVATIONS else len(inputs) - len(weights)
    constants = [graph.constants.get(value) for value in inputs[first:]]
    if any(constant is None for constant in constants):
        return None
    if name in ACTIVATIONS:
        numbers = [float(constant.item()) for constant in constants if constant is not None]
        parameters: dict[str, Any] = dict(zip(("alpha", "beta"), numbers, strict=False))
        return graph.add_all(ACTIVATIONS[name], inputs[:1], node.output, name=node.name, **parameters)
    if "layer" not in attributes:
        return None
    cell = _restored(_json(attributes, "layer"), dict(zip(weights, constants, strict=False)))
    reverse = bool(attributes.get("reverse"))
    y, *states = graph.add_all(
        "Recurrent", inputs[:first], len(node.output), name=node.name, cell=cell, reverse=reverse
    )
    return graph.add("Unsqueeze", y, graph.add_constant(np.array([1]))), *states


def _json(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the mapping that an attribute describes. Raises ArgumentError."""
    import json  # slow to import

    try:
        return dict(json.loads(attributes[name]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"the attribute {name} does not describe a mapping: {error}") from error


def _restored(description: dict[str, Any], weights: Mapping[str, Any]) -> Cell:
    """Return the cell of a call. Raises ArgumentError unless it has one layer and direction."""
    from .. import native  # slow to import, as are all layers

    try:
        cell = native.cell(description, weights)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"the attribute layer does not describe a layer: {error}") from error
    if cell.num_layers > 1 or cell.bidirectional:
        raise ArgumentError(f"it runs {cell!r}; expected a recurrent layer of one direction")
    return cell


def definitions(called: Iterable[str], defined: Mapping[str, str]) -> list[ast.FunctionDef]:
    """Return the definitions of functions and of those that they call.

    `defined` has the names of functions beside those of `EQUATIONS`, by their equations.
    """
    texts = [EQUATIONS, *(text.replace("function", name, 1) for text, name in defined.items())]
    parsed = [each for text in texts for each in parse(text)]
    named = {each.name: each for each in parsed if isinstance(each, ast.FunctionDef)}
    found: dict[str, ast.FunctionDef] = {}
    waiting = list(called)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = named[name]
            waiting += [operator for operator in operators(named[name]) if operator in named]
    return list(found.values())


def operators(definition: ast.FunctionDef) -> set[str]:
    """Return the names of the operators and functions that a definition calls."""
    calls = [each.func for each in ast.walk(definition) if isinstance(each, ast.Call)]
    return {each.id for each in calls if isinstance(each, ast.Name)}


def function(definition: ast.FunctionDef, opset: int) -> messages.Function:
    """Return the function of a definition, in the opset of its model."""
    inputs, nodes, outputs = _parsed(definition, itertools.count())
    versions = {"": opset, DOMAIN: VERSION}
    return messages.Function(
        name=definition.name,
        domain=DOMAIN,
        input=inputs,
        output=outputs,
        attribute=[argument.arg for argument in definition.args.kwonlyargs],
        node=nodes,
        opset_import=[messages.OperatorSetId(domain=domain, version=n) for domain, n in versions.items()],
    )


def _parsed(
    definition: ast.FunctionDef, numbers: Iterator[int]
) -> tuple[list[str], list[messages.Node], list[str]]:
    """The inputs, nodes and outputs of a definition; numbers make the names of values unique."""
    nodes: list[messages.Node] = []
    graphs: dict[str, messages.Graph] = {}
    outputs: list[str] = []
    options = {
        each.arg: Kind[each.annotation.id]
        for each in definition.args.kwonlyargs
        if isinstance(each.annotation, ast.Name)
    }

    def evaluated(expression: ast.expr, *targets: str) -> str:
        """Add the nodes of an expression, and return the name of its value."""
        match expression:
            case ast.Name(id=name):
                return name
            case ast.Call(func=ast.Name(id=operator)) if operator not in LITERALS:
                inputs = list(map(evaluated, expression.args))
                attributes = {str(each.arg): attribute(each.value) for each in expression.keywords}
            case _:
                operator, inputs, attributes = "Constant", [], {"value": _array(expression)}
        domain = "" if operator[0].isupper() else DOMAIN
        targets = targets or (f"{operator}_{next(numbers)}",)
        nodes.append(build.node(operator, inputs, targets, domain=domain, **attributes))
        return targets[0]

    def attribute(expression: ast.expr) -> Any:
        match expression:
            case ast.Name(id=name):
                return graphs.get(name) or build.Reference(name, options[name])
            case ast.Call():
                return _array(expression)
        return ast.literal_eval(expression)

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

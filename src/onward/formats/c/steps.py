"""Steps that move, select and compute elements, as loops in C. Each function is named after its step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...graph.plan.steps import Step, described
from ...graph.plan.view import View
from .code import Body, nest, nested, plus
from .library import TYPES, literal

Emit = Callable[..., None]
STEPS: dict[str, Emit] = {}  # what writes each kind of step


def step(write: Emit) -> Emit:
    """Register what writes the steps of a function's name."""
    STEPS[write.__name__.rstrip("_")] = write
    return write


UNARY = {
    "absolute": "absolute",
    "ceil": "rounded_up",
    "cosine": "cosine",
    "error_function": "error_function",
    "floor": "rounded_down",
    "log": "logarithm",
    "negative": "negative",
    "reciprocal": "reciprocal",
    "round": "rounded",
    "sign": "sign_of",
    "sine": "sine",
    "sqrt": "square_root",
}
ACTIVATIONS = {  # the function, and which of alpha and beta it takes
    "affine": ("affine", 2),
    "elu": ("elu", 2),
    "exponential": ("exponential", 0),
    "gelu": ("gelu", 0),
    "hard_sigmoid": ("hard_sigmoid", 2),
    "hard_swish": ("hard_swish", 2),
    "leaky_relu": ("leaky_relu", 1),
    "mish": ("mish", 0),
    "relu": ("relu", 0),
    "relu6": ("relu6", 0),
    "scaled_tanh": ("scaled_tanh", 2),
    "sigmoid": ("sigmoid", 0),
    "silu": ("silu", 0),
    "softplus": ("softplus", 0),
    "softsign": ("softsign", 0),
    "tanh": ("tangent", 0),
    "thresholded_relu": ("thresholded_relu", 1),
}
OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
COMPARISONS = {"equal": "==", "not_equal": "!=", "less": "<", "less_or_equal": "<="}


def activation(function: tuple[str, float, float], x: str) -> str:
    """Return the call of an activation."""
    name, *parameters = function
    called, count = ACTIVATIONS[name]
    return f"{called}({', '.join([x, *(literal(np.float32(p), 'float32') for p in parameters[:count])])})"


def combination(operation: str, a: str, b: str, dtype: str = "float32") -> str:
    """Return a binary operation on two elements; integers wrap."""
    is_float = dtype in ("float32", "float64")
    if operation in ("maximum", "minimum"):
        if dtype == "float32":
            return f"{'larger' if operation == 'maximum' else 'smaller'}({a}, {b})"
        sign = ">=" if operation == "maximum" else "<="
        is_nan = f" || {a} != {a}" if is_float else ""
        return f"({a} {sign} {b}{is_nan} ? {a} : {b})"
    kind = TYPES[dtype]
    if is_float:
        return f"{a} {OPERATORS[operation]} {b}"
    if operation == "divide":
        wrapped = f"{b} == -1 ? {combination('subtract', '0', a, dtype)} : " if dtype != "uint8" else ""
        return f"({b} == 0 ? 0 : {wrapped}({kind})({a} / {b}))"
    wide = "uint64_t" if dtype == "int64" else "uint32_t"
    return f"({kind})(({wide}){a} {OPERATORS[operation]} ({wide}){b})"


def stored(value: str, dtype: str = "float32") -> str:
    """Return a result as it is stored."""
    return f"FLUSHED({value})" if dtype == "float32" else value


@step
def copy(c: Body, x: View, y: View) -> None:
    """Moves: transposes, slices, concatenations, padding."""
    c.loops([x, y], lambda x, y: f"{y} = {x};")


@step
def activate(c: Body, function: Any, x: View, y: View) -> None:
    """Activation functions."""
    c.loops([x, y], lambda x, y: f"{y} = {stored(activation(function, x))};")


@step
def unary(c: Body, operation: str, x: View, y: View) -> None:
    """Functions of one number."""
    if x.dtype == "float64":
        raise ArgumentError(f"the step {operation} of float64 has no C yet")
    if x.dtype == "float32":
        return c.loops([x, y], lambda x, y: f"{y} = {stored(f'{UNARY[operation]}({x})')};")
    functions = {"absolute": "{0} < 0 ? {1} : {0}", "negative": "{1}", "sign": "({0} > 0) - ({0} < 0)"}

    def statement(x: str, y: str) -> str:
        negative = combination("subtract", "0", x, kind)
        return f"{y} = {functions[operation].format(x, negative)};"

    kind = x.dtype
    return c.loops([x, y], statement)


@step
def binary(c: Body, operation: str, a: View, b: View, y: View) -> None:
    """Arithmetic of two numbers, also of integers."""
    kind = y.dtype
    c.loops([a, b, y], lambda a, b, y: f"{y} = {stored(combination(operation, a, b, kind), kind)};")


@step
def fused(c: Body, operations: Sequence[tuple[str, Any, int, int]], *views: View) -> None:
    """Chains of elementwise operations in one loop."""

    def statement(*elements: str) -> list[str]:
        values, lines = list(elements[:-1]), []
        for place, (kind, function, a, b) in enumerate(operations):
            if kind == "unary":
                value = f"{UNARY[function]}({values[a]})"
            elif kind == "activate":
                value = activation(function, values[a])
            else:
                value = combination(function, values[a], values[b])
            is_last = place == len(operations) - 1
            lines.append(f"{elements[-1] if is_last else f'const float t{place}'} = {stored(value)};")
            values.append(f"t{place}")
        return lines

    c.loops(views, statement)


@step
def compare(c: Body, operation: str, a: View, b: View, y: View) -> None:
    """Comparisons."""
    c.loops([a, b, y], lambda a, b, y: f"{y} = {a} {COMPARISONS[operation]} {b};")


@step
def where(c: Body, condition: View, a: View, b: View, y: View) -> None:
    """Choices between two arrays."""
    c.loops([condition, a, b, y], lambda condition, a, b, y: f"{y} = {condition} ? {a} : {b};")


@step
def cast(c: Body, x: View, y: View) -> None:
    """Conversions between dtypes."""
    kind = TYPES[y.dtype]

    def converted(x_element: str) -> str:
        if y.dtype == "bool":
            return f"{x_element} != 0"
        if x.dtype in ("float32", "float64") and y.dtype not in ("float32", "float64"):
            wide = "int64_of" if y.dtype == "int64" else "int32_of"
            return f"({kind}){wide}({x_element})"
        return f"({kind}){x_element}"

    c.loops([x, y], lambda x, y: f"{y} = {converted(x)};")


@step
def fill_border(c: Body, x: View, y: View, low: Sequence[int], high: Sequence[int]) -> None:
    """The borders of padding."""
    rest = y
    for axis, (first, last) in enumerate(zip(low, high, strict=True)):
        for start, stop in ((0, first), (last, rest.shape[axis])):
            side = rest.sliced(axis, start, stop)
            if 0 not in side.shape:
                c.add("{")
                c.loops([x, side], lambda x, y: f"{y} = {x};")
                c.add("}")
        rest = rest.sliced(axis, first, last)


@step
def numbers(c: Body, values: Sequence[int], y: View) -> None:
    """Integers that are known."""
    table = c.module.constant(np.array(values, np.int64))
    c.add(f"memcpy({c.at(y)}, {table}, sizeof {table});")


@step
def range_(c: Body, first: int, by: int, y: View) -> None:
    """Ranges of integers."""
    n = math.prod(y.shape)
    c.add(f"int64_t *const y = {c.at(y)};", *nested([n], f"y[i] = {int(first)} + (int64_t)i * {int(by)};"))


def selected(
    c: Body, chosen: View, indices: View, other: View, statement: Callable[[str, str], str], names: str
) -> None:
    """Add loops over the elements of a view and those that indices select in another one."""
    shape = tuple(map(int, other.shape))
    if 0 in shape:
        return
    depth = int(indices.shape[-1])
    axes = list(zip(chosen.shape[:depth], chosen.strides[:depth], strict=True))
    sizes, at = nest(shape, indices.strides[:-1], chosen.strides[depth:], other.strides)
    last = int(indices.strides[-1])
    found = [
        f"{stride} * index_in(index[{at[0]}{f' + {place * last}' if place else ''}], {size})"
        for place, (size, stride) in enumerate(axes)
    ]
    kinds = TYPES[chosen.dtype], TYPES[other.dtype]
    constants = ("const ", "") if names == "ay" else ("", "const ")
    declared = [
        f"const {TYPES[indices.dtype]} *const index = {c.at(indices)};",
        f"{constants[0]}{kinds[0]} *const {names[0]} = {c.at(chosen)};",
        f"{constants[1]}{kinds[1]} *const {names[1]} = {c.at(other)};",
    ]
    place = " + ".join([*([at[1]] if at[1] != "0" else []), *found]) or "0"
    body = statement(f"{names[0]}[{place}]", f"{names[1]}[{at[2]}]")
    c.add(*declared, *nested(sizes, body))


@step
def take(c: Body, x: View, indices: View, y: View, name: str) -> None:
    """Elements at indices, such as those of embeddings; one out of range reads the nearest."""
    selected(c, x, indices, y, lambda x, y: f"{y} = {x};", "ay")


@step
def put(c: Body, operation: str | None, x: View, indices: View, y: View, name: str) -> None:
    """Writes at indices; one out of range writes to the nearest."""

    def statement(y_element: str, x_element: str) -> str:
        value = x_element if operation is None else combination(operation, y_element, x_element, y.dtype)
        return f"{y_element} = {value};"

    selected(c, y, indices, x, statement, "ya")


@step
def reduce(c: Body, operation: str, x: View, y: View) -> None:
    """Sums and maxima of axes."""
    n, step = int(x.shape[-1]), int(x.strides[-1])
    first = x.sliced(len(x.shape) - 1, 0, 1)
    called = "(float)sum_of" if operation == "sum" else "maximum_of"
    c.loops([first, y], lambda x, y: f"{y} = {called}(&{x}, {n}, {step});")


@step
def accumulate(c: Body, operation: str, x: View, y: View) -> None:
    """Running sums and products."""
    first, rest, kind = (v.sliced(0, 0, 1) for v in (x, y)), int(x.shape[0]) - 1, y.dtype
    c.add("{")
    c.loops(list(first), lambda x, y: f"{y} = {x};")
    c.add("}", "{")
    if rest:
        views = [y.sliced(0, 0, rest), x.sliced(0, 1, rest + 1), y.sliced(0, 1, rest + 1)]

        def statement(a: str, b: str, y: str) -> str:
            return f"{y} = {stored(combination(operation, a, b, kind), kind)};"

        c.loops(views, statement, in_order=True)
    c.add("}")


def rows_of(c: Body, call: str, x: View, y: View) -> None:
    """Add the call of a function for each row of x and y, which are contiguous."""
    n = int(x.shape[-1])
    rows = math.prod(map(int, x.shape[:-1]))
    row = f"{n} * i" if rows > 1 else 0
    c.add(
        f"const float *const x = {c.at(x)};",
        f"float *const y = {c.at(y)};",
        *nested([rows] if rows > 1 else [], call.format(x=plus("x", row), n=n, y=plus("y", row))),
    )


@step
def softmax(c: Body, logarithm: bool, x: View, y: View) -> None:
    """Softmax and its logarithm."""
    rows_of(c, f"softmax({{x}}, {{n}}, {int(bool(logarithm))}, {{y}});", x, y)


@step
def standardize(c: Body, epsilon: float, x: View, y: View) -> None:
    """Normalization of layers, groups and instances."""
    rows_of(c, f"standardize({{x}}, {{n}}, {literal(np.float32(epsilon), 'float32')}, {{y}});", x, y)


@step
def top(c: Body, largest: bool, nan_first: bool, x: View, values: View, indices: View) -> None:
    """The largest or smallest elements, and their indices."""
    if x.dtype != "float32":
        raise ArgumentError(f"the largest elements of {x.dtype} have no C yet")
    n, k = int(x.shape[-1]), int(values.shape[-1])
    rows = math.prod(map(int, x.shape[:-1]))
    options = f"{int(bool(largest))}, {int(bool(nan_first))}"
    call = f"top(x + {n} * i, {n}, {k}, {options}, values + {k} * i, indices + {k} * i);"
    c.add(
        f"const float *const x = {c.at(x)};",
        f"float *const values = {c.at(values)};",
        f"int64_t *const indices = {c.at(indices)};",
        *nested([rows], call),
    )


def write(c: Body, steps: Sequence[Step]) -> None:
    """Add steps as blocks. Raises ArgumentError if there is no C for one."""
    for each in steps:
        name, arguments = each
        text = described(each)
        if name not in STEPS:
            raise ArgumentError(f"the step {text} has no C yet")
        c.lines.append(f"    {{ /* {c.step}: {text} */")
        STEPS[name](c, *arguments)
        c.lines.append("    }")
        c.step += 1

"""Elementwise operators of real numbers: functions, arithmetic, comparisons, logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...graph.operations.expressions import reciprocal, sqrt, square, unary, where
from .registry import ANY, BOUNDS, FLOATS, Call, Value, activated, operator

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{"ABS": unary("Abs"), "CEIL": unary("Ceil"), "COS": unary("Cos"), "ELU": unary("Elu")},
    **{"EXP": unary("Exp"), "FLOOR": unary("Floor"), "HARD_SWISH": unary("HardSwish"), "LOG": unary("Log")},
    **{"LOGISTIC": unary("Sigmoid"), "NEG": unary("Neg"), "ROUND": unary("Round"), "SIGN": unary("Sign")},
    **{"SIN": unary("Sin"), "SQRT": sqrt, "SQUARE": square, "TANH": unary("Tanh")},
    "RSQRT": lambda x: reciprocal(sqrt(x)),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    **{"ADD": lambda a, b: a + b, "SUB": lambda a, b: a - b, "MUL": lambda a, b: a * b},
    "DIV": lambda a, b: a / b,
    "MAXIMUM": lambda a, b: a.apply("Max", b),
    "MINIMUM": lambda a, b: a.apply("Min", b),
    "POW": lambda a, b: a**b,
    "SQUARED_DIFFERENCE": lambda a, b: square(a - b),
    "FLOOR_DIV": lambda a, b: (a / b).apply("Floor") if a.dtype.kind == "f" else (a - a.apply("Mod", b)) / b,
    "FLOOR_MOD": lambda a, b: a.apply("Mod", b),
}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "EQUAL": lambda a, b: a.equals(b),
    "NOT_EQUAL": lambda a, b: ~a.equals(b),
    **{"LESS": lambda a, b: a < b, "LESS_EQUAL": lambda a, b: a <= b},
    **{"GREATER": lambda a, b: a > b, "GREATER_EQUAL": lambda a, b: a >= b},
}


FLOATS |= {name: lambda call, x, f=f: f(x) for name, f in FUNCTIONS.items()}
FLOATS |= {name: lambda call, x, name=name: activated(call, x, name) for name in BOUNDS}
FLOATS |= {name: lambda call, a, b, f=f: activated(call, f(a, b)) for name, f in BINARY.items()}
FLOATS |= {name: lambda call, a, b, f=f: f(a, b) for name, f in COMPARISONS.items()}
FLOATS |= {
    "ADD_N": lambda call, *terms: terms[0].apply("Sum", *terms[1:]),
    "GELU": lambda call, x: x.apply("Gelu", approximate="tanh" if call.options.approximate else "none"),
    "LEAKY_RELU": lambda call, x: x.apply("LeakyRelu", alpha=call.options.alpha),
    "PRELU": lambda call, x, slope: where(x < 0, x * slope, x),
}
ANY |= {
    "LOGICAL_AND": lambda call, a, b: a & b,
    "LOGICAL_OR": lambda call, a, b: a | b,
    "LOGICAL_NOT": lambda call, x: ~x,
    "BITWISE_XOR": lambda call, a, b: a.apply("BitwiseXor", b),
}


@operator(ANY, "SELECT SELECT_V2")
def select(call: Call, condition: Value, a: Value, b: Value) -> Any:
    """One or the other; a condition of rank 1 selects whole slices of the first axis."""
    rank = len(call.shape(1))
    if call.operator.kind == "SELECT" and len(call.shape(0)) == 1 and rank > 1:
        condition = condition.reshaped(-1, *[1] * (rank - 1))
    return where(condition, a, b)

"""Elementwise operations: arithmetic, comparisons, logic and activation functions."""

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View
from .integers import fuse
from .registry import Inputs, known, lowering, typed_view, view

BINARY = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
}
# Of booleans, the minimum is "and" and the maximum is "or".
LOGICAL = {"And": "minimum", "Or": "maximum"}
# The comparison, and whether it takes the operands in the opposite order.
COMPARISONS = {
    "Equal": ("equal", False),
    "Xor": ("not_equal", False),
    "Less": ("less", False),
    "LessOrEqual": ("less_or_equal", False),
    "Greater": ("less", True),
    "GreaterOrEqual": ("less_or_equal", True),
}
UNARY = {
    "Abs": "absolute",
    "Ceil": "ceil",
    "Cos": "cosine",
    "Erf": "error_function",
    "Floor": "floor",
    "Log": "log",
    "Neg": "negative",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sine",
    "Sqrt": "sqrt",
}


@lowering(*BINARY, *LOGICAL)
def binary(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if "axis" in node.attributes or "broadcast" in node.attributes:  # opset 6
        return None
    operation = (BINARY | LOGICAL)[node.operation]
    views = [operand for value in inputs if (operand := typed_view(b, value))]
    if len(views) < len(inputs) or (operation == "divide" and views[0].dtype not in ("float32", "float64")):
        return None
    if len(views) == 2:
        for value, x, other in zip(inputs, views, reversed(views), strict=True):
            if value is not None and value.used_once and (y := fuse(b, operation, x, other)):
                return [y]
    total = views[0]
    for other in views[1:]:
        total = b.binary(operation, total, other)
    return [total]


@lowering(*COMPARISONS)
def compare(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    A, B = (typed_view(b, value) for value in inputs)
    if "axis" in node.attributes or "broadcast" in node.attributes or A is None or B is None:
        return None
    operation, swapped = COMPARISONS[node.operation]
    return [b.compare(operation, B, A) if swapped else b.compare(operation, A, B)]


@lowering("Not")
def logical_not(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = typed_view(b, inputs[0])
    return x and [b.compare("equal", x, b.scalar(False, "bool"))]


@lowering("Pow")
def power(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, exponent = view(b, inputs[0]), known(inputs[1])
    if x is None or exponent is None or exponent.size != 1 or shapes[0] != x.shape:
        return None
    match float(exponent.item()):
        case 2.0 | 3.0 | 4.0:
            square = b.binary("multiply", x, x)
            factors = {2.0: [], 3.0: [x], 4.0: [square]}[float(exponent.item())]
            return [b.binary("multiply", square, factor) for factor in factors] or [square]
        case 0.5:
            return [b.map("unary", "sqrt", x)]
        case -1.0:
            return [b.map("unary", "reciprocal", x)]
    return None


@lowering(*UNARY)
def unary(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    return x and [b.map("unary", UNARY[node.operation], x)]


@lowering("Activation")
def activation(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """A function of `onward.Activation`; the attribute `function` holds the core's name for it."""
    x, value = view(b, inputs[0]), inputs[0]
    if x is None or value is None:
        return None
    if value.used_once and b.fuse(node.attributes["function"], x):
        return [x]
    return [b.map("activate", node.attributes["function"], x)]


@lowering("Exp")
def exponential(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    return x and [b.map("activate", ("exponential", 0.0, 0.0), x)]


@lowering("IsNaN")
def is_nan(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = typed_view(b, inputs[0])
    return x and [b.compare("not_equal", x, x)]


@lowering("PRelu")
def parametric_relu(
    b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]
) -> list[View] | None:
    """Multiply x by the slope where x < 0; a slope is aligned with the last axes."""
    x, slope = (view(b, value) for value in inputs)
    if x is None or slope is None or np.broadcast_shapes(x.shape, slope.shape) != x.shape:
        return None
    return [b.where(b.compare("less", x, b.scalar(0.0)), b.binary("multiply", x, slope), x)]


@lowering("Clip")
def clip(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    bounds = [known(value) for value in inputs[1:]] or [
        node.attributes.get("min"),
        node.attributes.get("max"),
    ]
    if x is None or any(value is not None and not value.known for value in inputs[1:]):
        return None
    for operation, bound in zip(("maximum", "minimum"), bounds, strict=False):
        if bound is not None:
            x = b.binary(operation, x, b.scalar(float(bound)))
    return [x]

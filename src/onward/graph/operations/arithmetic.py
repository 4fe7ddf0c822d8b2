"""Elementwise operations: arithmetic and activation functions."""

from typing import Any

from ..builder import Builder
from ..node import Node
from ..view import View
from .registry import Inputs, known, lowering, view

BINARY = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
}
UNARY = {"Abs": "absolute", "Log": "log", "Neg": "negative", "Reciprocal": "reciprocal", "Sqrt": "sqrt"}


@lowering(*BINARY)
def binary(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if "axis" in node.attributes or "broadcast" in node.attributes:  # opset 6
        return None
    views = [view(b, value) for value in inputs]
    if None in views:
        return None
    total: Any = views[0]
    for other in views[1:]:
        total = b.binary(BINARY[node.operation], total, other)  # type: ignore[arg-type]
    return [total]


@lowering("Pow")
def power(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, exponent = view(b, inputs[0]), known(inputs[1])
    if x is None or exponent is None or exponent.size != 1 or shapes[0] != x.shape:
        return None
    match float(exponent.item()):
        case 2.0:
            return [b.binary("multiply", x, x)]
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

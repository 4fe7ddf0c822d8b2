"""Recognize operations that exporters write in several nodes."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph
from ..node import Node
from .patterns import Match, Matcher, Pattern, occurs

Replace = Callable[[Matcher, Match], list[Node] | None]


class Idiom(NamedTuple):
    """Patterns that mean the same, and a function that returns the nodes that replace a match, or None."""

    patterns: Sequence[Pattern]
    replace: Replace


IDIOMS: list[Idiom] = []


def replace_idioms(graph: Graph) -> Graph:
    """Return the graph with the operations that its idioms mean."""
    operations, matcher = {node.operation for node in graph.nodes}, None
    for idiom in IDIOMS:
        patterns = [pattern for pattern in idiom.patterns if occurs(pattern, operations)]
        if patterns:
            matcher = matcher or Matcher(graph)
            replaced = [_replaced(matcher, idiom, patterns, node) for node in graph.nodes]
            if any(replaced):
                pairs = zip(graph.nodes, replaced, strict=True)
                nodes = [other for node, others in pairs for other in others or [node]]
                graph, matcher = graph.replaced(nodes=nodes).without_unused(), None
                operations = {node.operation for node in graph.nodes}
    return graph


def _replaced(matcher: Matcher, idiom: Idiom, patterns: Sequence[Pattern], node: Node) -> list[Node] | None:
    """Return the nodes that replace one, or None."""
    for pattern in patterns:
        found = matcher.match(pattern, node) if pattern[0] == node.operation else None
        nodes = None if found is None else idiom.replace(matcher, found)
        if nodes is not None:
            return nodes
    return None


def _idiom(*patterns: Pattern) -> Callable[[Replace], Replace]:
    def register(function: Replace) -> Replace:
        IDIOMS.append(Idiom(patterns, function))
        return function

    return register


def _one(match: Match, operation: str, *inputs: str, **attributes: Any) -> list[Node]:
    """Return the node of an operation that has the name and the output of the last node of a match."""
    last = match.nodes[0]
    return [Node(operation, inputs, last.outputs, attributes, last.name, last.source)]


def _number(matcher: Matcher, name: str) -> float | None:
    """Return the value of a constant of rank 0, or None."""
    array = matcher.constants.get(name)
    return None if array is None or array.ndim or array.dtype.kind != "f" else float(array)


ERF = ("Erf", [("Div", "x", math.sqrt(2)), ("Mul", "x", math.sqrt(0.5))])


CUBE = ("Add", "x", [("Mul", 0.044715, "x", "x", "x"), ("Mul", 0.044715, ("Pow", "x", 3.0))])
FACTOR = ("Add", 1.0, [("Mul", 0.044715, "x", "x"), ("Mul", 0.044715, ("Pow", "x", 2.0))])
SCALE = math.sqrt(2 / math.pi)
TANH = ("Tanh", [("Mul", SCALE, CUBE), ("Mul", SCALE, "x", FACTOR)])


RELU6 = ("Clip", ("Add", "x", 3.0), 0.0, 6.0)


def _activation(operation: str, *patterns: Pattern, **attributes: Any) -> None:
    """Register the patterns of an activation function of x."""
    _idiom(*patterns)(lambda matcher, match: _one(match, operation, match.values["x"], **attributes))


# x Phi(x) = x / 2 (1 + erf(x / sqrt(2)))
_activation(
    "Gelu",
    ("Mul", "x", 0.5, ("Add", 1.0, ERF)),
    ("Mul", "x", ("Add", 0.5, ("Mul", 0.5, ERF))),
    ("Div", ("Mul", "x", ("Add", 1.0, ERF)), 2.0),
)
# x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
_activation(
    "Gelu",
    ("Mul", "x", 0.5, ("Add", 1.0, TANH)),
    ("Mul", "x", ("Add", 0.5, ("Mul", 0.5, TANH))),
    approximate="tanh",
)
_activation("Swish", ("Mul", "x", ("Sigmoid", "x")))


@_idiom(("Mul", "x", ("Sigmoid", ("Mul", "x", "alpha"))))
def _swish(matcher: Matcher, match: Match) -> list[Node] | None:
    """x sigmoid(alpha x)"""
    alpha = _number(matcher, match.values["alpha"])
    return None if alpha is None else _one(match, "Swish", match.values["x"], alpha=alpha)


_activation("Mish", ("Mul", "x", ("Tanh", ("Softplus", "x"))))
# x min(max(x + 3, 0), 6) / 6
_activation(
    "HardSwish",
    ("Div", ("Mul", "x", RELU6), 6.0),
    ("Mul", "x", ("Div", RELU6, 6.0)),
    ("Mul", "x", 1 / 6, RELU6),
)


@_idiom(("Mul", "x", ("HardSigmoid", "x")))
def _hard_swish_of_sigmoid(matcher: Matcher, match: Match) -> list[Node] | None:
    """x max(0, min(1, x / 6 + 1 / 2))"""
    (gate,) = (node for node in match.nodes if node.operation == "HardSigmoid")
    alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
        return None
    return _one(match, "HardSwish", match.values["x"])


def _squared(x: Pattern) -> Pattern:
    return [("Mul", x, x), ("Pow", x, 2.0)]


def _inverse_root(variance: Pattern) -> Pattern:
    """The patterns of 1 / sqrt(variance + epsilon) as a factor."""
    shifted = ("Add", variance, "epsilon")
    root = ("Sqrt", shifted)
    return [("Reciprocal", root), ("Div", 1.0, root), ("Pow", shifted, -0.5)]


def _root(variance: Pattern) -> Pattern:
    shifted = ("Add", variance, "epsilon")
    return [("Sqrt", shifted), ("Pow", shifted, 0.5)]


MEAN = ("ReduceMean", "x", "axes")
CENTERED = ("Sub", "x", MEAN)
VARIANCE = ("ReduceMean", _squared(CENTERED), "axes")


@_idiom(("Div", CENTERED, _root(VARIANCE)), ("Mul", CENTERED, _inverse_root(VARIANCE)))
def _standardize(matcher: Matcher, match: Match) -> list[Node] | None:
    """(x - mean) / sqrt(variance + epsilon), without the scale and the bias of a normalization"""
    attributes = _axes_and_epsilon(matcher, match)
    return None if attributes is None else _one(match, "Standardize", match.values["x"], **attributes)


@_idiom(("Add", ("Mul", ("Standardize", "x"), "scale"), "bias"))
def _layer_normalization(matcher: Matcher, match: Match) -> list[Node] | None:
    """scale standardize(x) + bias over the last axis"""
    names, attributes = match.values, match.nodes[-1].attributes
    parameters = [matcher.constants.get(names[name]) for name in ("scale", "bias")]
    if attributes["axes"] != (-1,) or any(a is None or a.ndim != 1 for a in parameters):
        return None
    inputs = (names["x"], names["scale"], names["bias"])
    return _one(match, "LayerNormalization", *inputs, epsilon=attributes["epsilon"])


SLOPE = ("Mul", _inverse_root(VARIANCE), "scale")


@_idiom(("Add", ("Mul", "x", SLOPE), ("Sub", "bias", ("Mul", MEAN, SLOPE))))
def _normalization_of_tensorflow(matcher: Matcher, match: Match) -> list[Node] | None:
    """x s + (bias - mean s) with s = scale / sqrt(variance + epsilon)"""
    attributes, names = _axes_and_epsilon(matcher, match), match.values
    if attributes is None:
        return None
    last = match.nodes[0]
    prefix, name = last.outputs[0], (last.name, last.source)
    return [
        Node("Standardize", (names["x"],), (f"{prefix}/standardized",), attributes, *name),
        Node("Mul", (f"{prefix}/standardized", names["scale"]), (f"{prefix}/scaled",), {}, *name),
        Node("Add", (f"{prefix}/scaled", names["bias"]), last.outputs, {}, *name),
    ]


MEAN_SQUARE = ("ReduceMean", _squared("x"), "axes")


@_idiom(("Mul", ("Div", "x", _root(MEAN_SQUARE)), "scale"), ("Mul", "x", _inverse_root(MEAN_SQUARE), "scale"))
def _rms_normalization(matcher: Matcher, match: Match) -> list[Node] | None:
    """scale x / sqrt(mean of x^2 + epsilon) over the last axis"""
    attributes, scale = _axes_and_epsilon(matcher, match), matcher.constants.get(match.values["scale"])
    if attributes is None or attributes["axes"] != (-1,) or scale is None or scale.ndim != 1:
        return None
    epsilon = attributes["epsilon"]
    return _one(match, "RMSNormalization", match.values["x"], match.values["scale"], epsilon=epsilon)


def _axes_and_epsilon(matcher: Matcher, match: Match) -> dict[str, Any] | None:
    """Return the attributes of Standardize, or None if they are unknown or the means lose their axes."""
    axes = matcher.constants.get(match.values["axes"])
    epsilon = _number(matcher, match.values["epsilon"])
    means = [node.attributes for node in match.nodes if node.operation == "ReduceMean"]
    if axes is None or not axes.size or epsilon is None or not all(a.get("keepdims", 1) for a in means):
        return None
    return {"axes": tuple(np.ravel(axes).tolist()), "epsilon": epsilon}


@_idiom(("Add", ("Reshape", ("MatMul", "A", "B"), "shape"), "C"))
def _bias_after_reshape(matcher: Matcher, match: Match) -> list[Node] | None:
    """reshape(A B) + C as reshape(A B + C) if the last axis remains, as TensorFlow's Tensordot has it"""
    last, move, product = match.nodes
    names, constants = match.values, matcher.constants
    B, shape, C = (constants.get(names[name]) for name in ("B", "shape", "C"))
    if B is None or shape is None or C is None or B.ndim != 2 or not shape.size:
        return None
    if C.shape != B.shape[1:] or shape[-1] != len(C) or np.any(shape == 0):
        return None
    biased = f"{last.outputs[0]}/biased"
    return [
        Node("MatMul", (names["A"], names["B"], names["C"]), (biased,), {}, product.name, product.source),
        Node("Reshape", (biased, names["shape"]), last.outputs, {}, move.name, move.source),
    ]


@_idiom(("Add", ("MatMul", "A", "B"), "C"))
def _biased_product(matcher: Matcher, match: Match) -> list[Node]:
    """A B + C as one product, which starts its sums from C as a layer does"""
    product, names = match.nodes[-1], match.values
    inputs, outputs = (names["A"], names["B"], names["C"]), match.nodes[0].outputs
    return [Node("MatMul", inputs, outputs, {}, product.name, product.source)]

"""Operations that exporters write in several nodes, and batch norms that the weights before them include."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Graph
from ..node import AnyArray, Node
from ..patterns import Match, Matcher, Pattern, Replace, occurs
from .cells import GRU_STEP, GRU_STEP_RESET_BEFORE, LSTM_STEP, gru_step, gru_step_reset_before, lstm_step

IDIOMS: list[tuple[Sequence[Pattern], Replace]] = []  # in the order of their replacement


def idiom(*patterns: Pattern) -> Callable[[Replace], Replace]:
    """Register a function that replaces the matches of patterns."""

    def register(function: Replace) -> Replace:
        IDIOMS.append((patterns, function))
        return function

    return register


def replace_idioms(graph: Graph) -> Graph:
    """Return the graph with the matches of all idioms replaced."""
    matcher, is_changed = Matcher(graph), False
    for choices, replace in IDIOMS:
        patterns = [pattern for pattern in choices if occurs(pattern, matcher.operands)]
        last = {operation for operation, *_ in patterns}
        ends = [node for node in matcher.nodes if node.operation in last] if patterns else ()
        found = list(filter(None, [matcher.replaced(patterns, replace, node) for node in ends]))
        if found:
            matcher.replace(found)
            is_changed = True
    if not is_changed:
        return graph
    return graph.replaced(nodes=matcher.nodes, constants=matcher.constants).without_unused()


FLOATS = np.dtype(np.float32), np.dtype(np.float64)
WEIGHTED = [(name, "x", "W", *b) for name in ("Conv", "ConvTranspose", "Gemm") for b in ((), ("b",))]


@idiom(("BatchNormalization", WEIGHTED, "scale", "bias", "mean", "variance"))
def _batch_norm(match: Match) -> list[Node] | None:
    """factor (W x + b - mean) + bias as (factor W) x + (factor (b - mean) + bias)

    The sums are rounded differently, so that a graph of layers stays as it is: it has the bits of the layers.
    """
    norm, before = match.nodes
    found: list[Any] = [match.constant(name) for name in ("W", "scale", "bias", "mean", "variance")]
    b = match.constant("b") if match.values.get("b") else np.zeros(1, np.float32)
    is_scaled = any(before.attributes.get(name, 1) != 1 for name in ("alpha", "beta"))
    trains = len(norm.outputs) > 1 or norm.attributes.get("training_mode", 0) != 0
    if match.matcher.graph.of_layers or trains or is_scaled or b is None:
        return None
    floats = [a.astype(np.float64) for a in found if a is not None and a.dtype in FLOATS]
    if len(floats) < len(found):
        return None
    W, scale, bias, mean, variance = floats
    if b.size not in (1, scale.size):
        return None
    factor = scale / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    shift = factor * (b.astype(np.float64).ravel() - mean) + bias
    inputs = (match.values["x"], *(f"{norm.outputs[0]}/{name}" for name in ("weights", "bias")))
    arrays = (array.astype(found[0].dtype) for array in (_scaled(before, W, factor), shift))
    match.matcher.constants |= zip(inputs[1:], arrays, strict=True)
    return [before.with_inputs(*inputs).with_outputs(*norm.outputs)]


def _scaled(node: Node, W: AnyArray, factor: AnyArray) -> AnyArray:
    """Return the weights times the factors (M,) of the output channels."""
    if node.operation == "Gemm":
        return W * (factor[:, None] if node.attributes.get("transB") else factor)
    ones = (1,) * (W.ndim - 2)
    if node.operation == "Conv":
        return W * factor.reshape(-1, 1, *ones)
    groups = node.attributes.get("group", 1)  # W (C, M / group, *kernel)
    grouped = W.reshape(groups, -1, *W.shape[1:]) * factor.reshape(groups, 1, -1, *ones)
    return grouped.reshape(W.shape)


# before the sums and products of a step become other operations
idiom(LSTM_STEP)(lstm_step)
idiom(*GRU_STEP)(gru_step)
idiom(*GRU_STEP_RESET_BEFORE)(gru_step_reset_before)

ERF = ("Erf", [("Div", "x", math.sqrt(2)), ("Mul", "x", math.sqrt(0.5))])
CUBE = ("Add", "x", [("Mul", 0.044715, "x", "x", "x"), ("Mul", 0.044715, ("Pow", "x", 3.0))])
FACTOR = ("Add", 1.0, [("Mul", 0.044715, "x", "x"), ("Mul", 0.044715, ("Pow", "x", 2.0))])
SCALE = math.sqrt(2 / math.pi)
TANH = ("Tanh", [("Mul", SCALE, CUBE), ("Mul", SCALE, "x", FACTOR)])
RELU6 = ("Clip", ("Add", "x", 3.0), 0.0, 6.0)


def _activation(operation: str, *patterns: Pattern, **attributes: Any) -> None:
    """Register the patterns of an activation function of x."""
    idiom(*patterns)(lambda match: [match.node(operation, "x", **attributes)])


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


@idiom(("Mul", "x", ("Sigmoid", ("Mul", "x", "alpha"))))
def _swish(match: Match) -> list[Node] | None:
    """x sigmoid(alpha x)"""
    alpha = match.number("alpha")
    return None if alpha is None else [match.node("Swish", "x", alpha=alpha)]


_activation("Mish", ("Mul", "x", ("Tanh", ("Softplus", "x"))))
# x min(max(x + 3, 0), 6) / 6
_activation(
    "HardSwish",
    ("Div", ("Mul", "x", RELU6), 6.0),
    ("Mul", "x", ("Div", RELU6, 6.0)),
    ("Mul", "x", 1 / 6, RELU6),
)


@idiom(("Mul", "x", ("HardSigmoid", "x")))
def _hard_swish_of_sigmoid(match: Match) -> list[Node] | None:
    """x max(0, min(1, x / 6 + 1 / 2))"""
    (gate,) = (node for node in match.nodes if node.operation == "HardSigmoid")
    alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
    return None if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5 else [match.node("HardSwish", "x")]


def _squared(x: Pattern) -> Pattern:
    return [("Mul", x, x), ("Pow", x, 2.0)]


def _root(variance: Pattern) -> Pattern:
    shifted = ("Add", variance, "epsilon")
    return [("Sqrt", shifted), ("Pow", shifted, 0.5)]


def _inverse_root(variance: Pattern) -> Pattern:
    """The patterns of 1 / sqrt(variance + epsilon) as a factor."""
    shifted = ("Add", variance, "epsilon")
    root = ("Sqrt", shifted)
    return [("Reciprocal", root), ("Div", 1.0, root), ("Pow", shifted, -0.5)]


MEAN = ("ReduceMean", "x", "axes")
CENTERED = ("Sub", "x", MEAN)
VARIANCE = ("ReduceMean", _squared(CENTERED), "axes")
SLOPE = ("Mul", _inverse_root(VARIANCE), "scale")
MEAN_SQUARE = ("ReduceMean", _squared("x"), "axes")


@idiom(("Div", CENTERED, _root(VARIANCE)), ("Mul", CENTERED, _inverse_root(VARIANCE)))
def _standardize(match: Match) -> list[Node] | None:
    """(x - mean) / sqrt(variance + epsilon), without the scale and the bias of a normalization"""
    attributes = _axes_and_epsilon(match)
    return None if attributes is None else [match.node("Standardize", "x", **attributes)]


@idiom(("Add", ("Mul", ("Standardize", "x"), "scale"), "bias"))
def _layer_normalization(match: Match) -> list[Node] | None:
    """scale standardize(x) + bias over the last axis"""
    attributes = match.nodes[-1].attributes
    if attributes["axes"] != (-1,) or not _are_vectors(match, "scale", "bias"):
        return None
    return [match.node("LayerNormalization", "x", "scale", "bias", epsilon=attributes["epsilon"])]


@idiom(("Add", ("Mul", "x", SLOPE), ("Sub", "bias", ("Mul", MEAN, SLOPE))))
def _normalization_of_tensorflow(match: Match) -> list[Node] | None:
    """x s + (bias - mean s) with s = scale / sqrt(variance + epsilon)"""
    attributes = _axes_and_epsilon(match)
    if attributes is None:
        return None
    prefix = match.nodes[0].outputs[0]
    standardized, scaled = f"{prefix}/standardized", f"{prefix}/scaled"
    product, total = match.node("Mul", "scale"), match.node("Add", "bias")
    return [
        match.node("Standardize", "x", **attributes).with_outputs(standardized),
        product.with_inputs(standardized, *product.inputs).with_outputs(scaled),
        total.with_inputs(scaled, *total.inputs),
    ]


@idiom(("Mul", ("Div", "x", _root(MEAN_SQUARE)), "scale"), ("Mul", "x", _inverse_root(MEAN_SQUARE), "scale"))
def _rms_normalization(match: Match) -> list[Node] | None:
    """scale x / sqrt(mean of x^2 + epsilon) over the last axis"""
    attributes = _axes_and_epsilon(match)
    if attributes is None or attributes["axes"] != (-1,) or not _are_vectors(match, "scale"):
        return None
    return [match.node("RMSNormalization", "x", "scale", epsilon=attributes["epsilon"])]


def _are_vectors(match: Match, *names: str) -> bool:
    return all((array := match.constant(name)) is not None and array.ndim == 1 for name in names)


def _axes_and_epsilon(match: Match) -> dict[str, Any] | None:
    """Return the attributes of Standardize, or None if they are unknown or the means lose their axes."""
    axes, epsilon = match.constant("axes"), match.number("epsilon")
    means = [node.attributes for node in match.nodes if node.operation == "ReduceMean"]
    if axes is None or not axes.size or epsilon is None or not all(a.get("keepdims", 1) for a in means):
        return None
    return {"axes": tuple(np.ravel(axes).tolist()), "epsilon": epsilon}


@idiom(("Add", ("Reshape", ("MatMul", "A", "B"), "shape"), "C"))
def _bias_after_reshape(match: Match) -> list[Node] | None:
    """reshape(A B) + C as reshape(A B + C) if the last axis remains, as TensorFlow's Tensordot has it"""
    last, move, product = match.nodes
    B, shape, C = (match.constant(name) for name in ("B", "shape", "C"))
    if B is None or shape is None or C is None or B.ndim != 2 or not shape.size:
        return None
    if C.shape != B.shape[1:] or shape[-1] != len(C) or np.any(shape == 0):
        return None
    inputs, biased = (*product.inputs, match.values["C"]), f"{last.outputs[0]}/biased"
    return [
        product.with_inputs(*inputs).with_outputs(biased).with_attributes({}),
        move.with_inputs(biased, match.values["shape"]).with_outputs(*last.outputs).with_attributes({}),
    ]


@idiom(("Add", ("MatMul", "A", "B"), "C"))
def _biased_product(match: Match) -> list[Node] | None:
    """A B + C with constants B and C as one product, which starts its sums from C as a layer does"""
    last, product = match.nodes
    if match.constant("B") is None or match.constant("C") is None:
        return None
    return [product.with_inputs(*product.inputs, match.values["C"]).with_outputs(*last.outputs)]

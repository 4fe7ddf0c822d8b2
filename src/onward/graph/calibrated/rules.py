"""The rules by which nodes compute with integers of 8 bits, and the nodes that only move elements.

A rule tells for a node whether it `applies`, given the values that are integers so far, and then writes it:
it defines the outputs in their forms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..node import AnyArray, Node
from ..operations import OPERATIONS
from . import recurrent
from .forms import Form, Integers, matrix, steps_of, times

MOVABLE = {  # how many of their first inputs
    **dict.fromkeys("Transpose Reshape Squeeze Unsqueeze Flatten Slice Identity Gather Expand".split(), 1),
    **dict.fromkeys(["Concat", "Continue"], None),  # all inputs
}
# Functions of one number, which are tables of 256.
FUNCTIONS = (
    "Abs Celu Clip Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Relu Selu Sigmoid Sign Sin "
    "Softplus Softsign Sqrt Tanh ThresholdedRelu"
).split()


class Rule(NamedTuple):
    """When a node computes with integers, and how."""

    applies: Callable[[Any, Node, Collection[str]], bool]
    write: Callable[[Any, Node], None]


RULES: dict[str, Rule] = {}


def rule(names: str, applies: Callable[[Any, Node, Collection[str]], bool]) -> Callable[[Any], Any]:
    """Register what writes some operations."""

    def register(write: Callable[[Any, Node], None]) -> Any:
        RULES.update(dict.fromkeys(names.split(), Rule(applies, write)))
        return write

    return register


def is_movable(node: Node) -> bool:
    """Whether a node only moves elements."""
    return node.operation in MOVABLE


def moved_inputs(node: Node) -> Sequence[str]:
    """Return the inputs whose elements a node moves."""
    return node.inputs[: MOVABLE[node.operation]]


def takes_integers(q: Any, node: Node, integral: Collection[str]) -> bool:
    """Whether a node computes with integers, or moves such values, given those so far."""
    if is_movable(node):
        return any(name in integral for name in moved_inputs(node))
    known = RULES.get(node.operation)
    return known is not None and known.applies(q, node, integral)


# Products.


class Product(NamedTuple):
    """The weights of a product, with a row for each unit, and its bias."""

    rows: AnyArray
    bias: AnyArray


def _product_of(q: Any, node: Node) -> Product | None:
    """Return the weights of a product whose weights are constant float32, or None for other nodes."""
    x, name, start = (*node.inputs, "", "")[:3]
    plain, W, bias = _plain(node), q.constants.get(name), q.constants.get(start)
    attributes, is_conv = plain.attributes, plain.operation == "Conv"
    if node.operation == "OverWindows" and not is_conv:
        return None
    if W is None or W.dtype != np.float32 or not W.size or not q.is_real(x) or attributes.get("transA"):
        return None
    if (not is_conv and W.ndim != 2) or (start and bias is None):
        return None
    rows = W if is_conv or attributes.get("transB") else W.T
    bias = np.zeros(1, np.float32) if bias is None else bias
    if bias.size not in (1, len(rows)) or bias.ndim > 1:
        return None
    alpha, beta = (np.float32(attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    return Product(rows * alpha, np.broadcast_to(bias.ravel() * beta, len(rows)))


def _is_product(q: Any, node: Node, integral: Collection[str]) -> bool:
    return _product_of(q, node) is not None


def _result(q: Any, name: str) -> tuple[str, Form, tuple[int, int]]:
    """Return the value that a product writes, its own or that of a Relu or Clip which alone reads it.

    Returns its form and its limits, too.
    """
    readers = q.readers.get(name, [])
    if len(readers) == 1 and name not in q.source.outputs and readers[0].operation in ("Relu", "Clip"):
        (reader,) = readers
        low, high = (*(q.constants.get(n) for n in reader.inputs[1:]), None, None)[:2]
        is_known = all(not n or n in q.constants for n in reader.inputs[1:]) and reader.inputs[0] == name
        if is_known:
            name = reader.outputs[0]
            form = q.form(name)
            low = np.zeros(()) if reader.operation == "Relu" else low
            ends = [
                end if value is None else int(form.quantized(np.asarray(value)))
                for value, end in zip((low, high), form.limits, strict=True)
            ]
            return name, form, (ends[0], ends[1])
    form = q.form(name)
    return name, form, form.limits


@rule("MatMul Gemm", _is_product)
def product(q: Any, node: Node) -> None:
    """Exact sums of bytes, with a factor for each unit."""
    found = _product_of(q, node)
    assert found is not None
    x, form = q.integers(node.inputs[0]), q.form(node.inputs[0])
    _finish(q, node, *times(x, form, *found))


def _plain(node: Node) -> Node:
    """Return the node that runs over the windows of a stream, or the node itself."""
    plain: Node = node.attributes["node"] if node.operation == "OverWindows" else node
    return plain


@rule("Conv OverWindows", _is_product)
def conv(q: Any, node: Node) -> None:
    """Exact sums of windows of bytes, with a factor for each channel."""
    found = _product_of(q, node)
    assert found is not None
    x, form = q.integers(node.inputs[0]), q.form(node.inputs[0])
    filters, scales = matrix(found.rows)
    scales = scales * form.scale
    operands = x.number(filters, np.int8), x.number(form.zero_point, x.dtype), None
    start = x.number(steps_of(found.bias, scales), np.int32)
    operation, attributes = "ConvInteger", dict(node.attributes)
    if node.operation == "OverWindows":
        operation, attributes["node"] = "OverWindows", _plain(node).with_operation("ConvInteger")
    sums = x.apply(operation, *operands, start, dtype=np.dtype(np.int32), **attributes)
    _finish(q, node, sums, scales.reshape(-1, *[1] * (filters.ndim - 2)))


def _finish(q: Any, node: Node, sums: Any, scales: AnyArray) -> None:
    """Define the result of exact sums: real numbers if nothing reads integers."""
    if not q.is_read_as_integers(node.outputs[0]):
        q.define_real(node.outputs[0], sums.cast(np.float32) * sums.number(scales, np.float32))
        return
    name, to, limits = _result(q, node.outputs[0])
    q.define(name, to, sums.scaled(scales / to.scale, to, limits))


# Elementwise functions.


def _is_function(q: Any, node: Node, integral: Collection[str]) -> bool:
    others = node.inputs[1:]
    return node.inputs[0] in integral and all(not name or name in q.constants for name in others)


@rule(" ".join(FUNCTIONS), _is_function)
def function(q: Any, node: Node) -> None:
    """A table of all integers of 8 bits."""
    _write_table(q, node, 0)


def _write_table(q: Any, node: Node, place: int) -> None:
    """Write a function of the input at a place as a table."""
    name, form = node.inputs[place], q.form(node.inputs[place])
    low, high = form.limits
    others: list[Any] = [q.constants.get(each) for each in node.inputs]
    others[place] = form.real(np.arange(low, high + 1))
    (values, *_) = OPERATIONS[node.operation].run(others, node.attributes)
    to = q.form(node.outputs[0])
    q.define(node.outputs[0], to, q.integers(name).looked_up(to.quantized(values), low, np.int8))


# Arithmetic.

FINE = 1 << 7  # parts of a step of the result in which operands of a sum are added


def _are_integers(q: Any, node: Node, integral: Collection[str]) -> bool:
    return any(name in integral for name in node.inputs) and all(
        name in integral or (name in q.constants and q.constants[name].dtype == np.float32)
        for name in node.inputs
    )


def _scalar(q: Any, node: Node) -> int | None:
    """Return the place of the only input that is not one constant number, if the other one is."""
    sizes = [q.constants[name].size if name in q.constants else 0 for name in node.inputs]
    ranks = [q.constants[name].ndim if name in q.constants else 0 for name in node.inputs]
    return sizes.index(0) if sorted(sizes) == [0, 1] and max(ranks) <= 1 else None


@rule("Add", _are_integers)
def add(q: Any, node: Node) -> None:
    """Sums in finer steps than those of the result."""
    place = _scalar(q, node)
    if place is not None:
        return _write_table(q, node, place)
    name, to, limits = _result(q, node.outputs[0])
    fine = to.scale / FINE
    a, b = (_fine(q, each, fine) for each in node.inputs)
    q.define(name, to, (a + b).scaled(1 / FINE, to, limits))
    return None


def _fine(q: Any, name: str, scale: float) -> Any:
    """Return a value in int32 in steps of a scale."""
    if name in q.constants:
        steps = np.rint(q.constants[name].astype(np.float64) / scale)
        return Integers(q, q.cast(np.clip(steps, -(2**30), 2**30), np.int32), np.dtype(np.int32))
    form = q.form(name)
    low, high = form.limits
    steps = np.rint(form.real(np.arange(low, high + 1)).astype(np.float64) / scale)
    return q.integers(name).looked_up(np.clip(steps, -(2**30), 2**30), low, np.int32)


GATES = ("HardSigmoid", "Sigmoid", "Tanh")


def _is_gated(q: Any, node: Node, integral: Collection[str]) -> bool:
    """Whether a value is multiplied by a constant, or by numbers from -1 to 1.

    Squares of bytes, from which norms are made, would be too coarse.
    """
    makers = (q.makers.get(name) for name in node.inputs)
    is_gate = any(maker is not None and maker.operation in GATES for maker in makers)
    is_constant = any(name in q.constants for name in node.inputs)
    return (is_gate or is_constant) and _are_integers(q, node, integral)


@rule("Mul", _is_gated)
def multiply(q: Any, node: Node) -> None:
    """Exact products of bytes."""
    place = _scalar(q, node)
    if place is not None:
        return _write_table(q, node, place)
    forms = [q.form(name) for name in node.inputs]
    for place, name in enumerate(node.inputs):
        if name in q.constants:
            x = q.constants[name]
            forms[place] = Form.of(min(0.0, float(x.min())), max(0.0, float(x.max())))
    a, b = (
        q.integers(name, form).centered(form.zero_point)
        for name, form in zip(node.inputs, forms, strict=True)
    )
    name, to, limits = _result(q, node.outputs[0])
    q.define(name, to, (a * b).scaled(forms[0].scale * forms[1].scale / to.scale, to, limits))
    return None


# Means.


def _count(q: Any, node: Node) -> int | None:
    """Return how many elements a mean of a channel has, or None if that differs from block to block."""
    sizes = q.ranges.shape(node.inputs[0])[2:]
    return None if None in sizes else int(np.prod(sizes))


def _is_mean(q: Any, node: Node, integral: Collection[str]) -> bool:
    return node.inputs[0] in integral and _count(q, node) is not None


@rule("GlobalAveragePool", _is_mean)
def mean(q: Any, node: Node) -> None:
    """Sums of bytes, and one factor."""
    x, form, count = q.integers(node.inputs[0]), q.form(node.inputs[0]), _count(q, node)
    axes = list(range(2, len(q.ranges.shape(node.inputs[0]))))
    sums = x.cast(np.int32).reduce("ReduceSum", axes, True) - form.zero_point * count
    to = q.form(node.outputs[0])
    q.define(node.outputs[0], to, sums.scaled(form.scale / (to.scale * count), to))


@rule("Recurrent", recurrent.applies)
def layer(q: Any, node: Node) -> None:
    """LSTM, GRU and RNN."""
    recurrent.write(q, node)

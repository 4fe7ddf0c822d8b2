"""Rules that replace single nodes: movement, ONNX's recurrent nodes, and products of dequantized arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..node import AnyArray, Node, Operand, Signature
from ..operations import OPERATIONS
from ..operations.arguments import as_integers
from .sizes import holds_integers

if TYPE_CHECKING:
    from .simplify import Simplifier

# Returns the value that the first output of a node equals, what replaces the node, or None to keep it.
Rewrite = Callable[["Simplifier", Node], "str | Node | Iterable[Node] | None"]
REWRITES: dict[str, Rewrite] = {}  # by operation
UNBOUNDED = 2**31 - 1  # an end of a slice that lies beyond each axis


def rewrite(*operations: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function that replaces nodes of these operations."""

    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(operations, function))
        return function

    return register


@rewrite("Identity", "Dropout", "Cast", "Concat", "Split", "Pad")
def _unchanged(s: Simplifier, node: Node) -> str | None:
    """Drop a node that returns its first input as it is."""
    same, (x, *others) = False, node.inputs
    match node.operation:
        case "Identity":
            same = True
        case "Dropout":  # unless it trains or its mask is used
            trains = s.constants.get(others[1], True) if others[1:] and others[1] else False
            same = not np.any(trains) and sum(map(bool, node.outputs)) <= 1
        case "Cast" if x in s.wide and node.attributes.get("to") == np.int64:
            return s.wide[x]
        case "Cast" if node.attributes.get("to") == np.int64 and holds_integers(s, x):
            same = True
        case "Cast":  # a value that has been cast to the dtype
            before = s.makers.get(x)
            same = before is not None and (before.operation, before.attributes) == ("Cast", node.attributes)
        case "Concat":
            same = not others
        case "Split":
            same = len(node.outputs) == 1 and not any(others)
        case "Pad":
            widths = _integers(s, node, 1)
            same = widths is not None and not any(widths)
    return x if same else None


@rewrite("Slice")
def _slice(s: Simplifier, node: Node) -> str | Node | None:
    """Drop the axes that a slice keeps as they are."""
    starts, ends, axes, steps = (_integers(s, node, place) for place in range(1, 5))
    is_known = all(s.constants.get(name) is not None for name in node.inputs[1:] if name)
    if not starts or not ends or not is_known:
        return None
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    parts = list(zip(starts, ends, axes, steps, strict=True))
    kept = [part for part in parts if part[0] or part[1] < UNBOUNDED or part[3] != 1]
    if not kept or len(kept) == len(parts):
        return None if kept else node.inputs[0]
    names = [f"{node.outputs[0]}/{what}" for what in ("starts", "ends", "axes", "steps")]
    numbers = zip(names, zip(*kept, strict=True), strict=True)
    return node.with_inputs(node.inputs[0], *(s.constant(name, np.array(n)) for name, n in numbers))


@rewrite("Squeeze", "Unsqueeze")
def _squeeze(s: Simplifier, node: Node) -> str | None:
    """Squeeze and Unsqueeze of the same axes undo each other."""
    before, axes = s.makers.get(node.inputs[0]), _integers(s, node, 1)
    if before is None or {before.operation, node.operation} != {"Squeeze", "Unsqueeze"} or axes is None:
        return None
    return before.inputs[0] if axes == _integers(s, before, 1) else None


@rewrite("Transpose")
def _transpose(s: Simplifier, node: Node) -> str | Node | None:
    """Merge two permutations into one, and drop a permutation that moves nothing."""
    (x,), perm, before = node.inputs, node.attributes.get("perm"), s.makers.get(node.inputs[0])
    if perm is None:
        return None
    if before is not None and before.operation == "Transpose":
        inner = before.attributes.get("perm")
        if inner is not None and len(inner) == len(perm):
            (x,), perm = before.inputs, [inner[axis] for axis in perm]
    is_still = list(perm) == list(range(len(perm)))
    return x if is_still else node.with_inputs(x).with_attributes({"perm": perm})


@rewrite("Reshape")
def _reshape(s: Simplifier, node: Node) -> Node | None:
    """The second of two shapes decides, unless it copies sizes of the first."""
    before, shape = s.makers.get(node.inputs[0]), _integers(s, node, 1)
    if before is None or before.operation not in ("Reshape", "Flatten") or not shape or 0 in shape:
        return None
    return node.with_inputs(before.inputs[0], node.inputs[1])


@rewrite("Add", "Sub", "Mul", "Div")
def _neutral(s: Simplifier, node: Node) -> str | None:
    """x * 1, x / 1 and x - 0 are x, bit by bit; x + 0 is not if x is -0."""
    places = (1, 0) if node.operation in ("Add", "Mul") else (1,)
    for place in places if len(node.inputs) == 2 else ():
        array = s.constants.get(node.inputs[place])
        if array is not None and array.ndim == 0 and _is_neutral(node.operation, array):
            return node.inputs[1 - place]
    return None


def _is_neutral(operation: str, number: AnyArray) -> bool:
    if operation in ("Mul", "Div"):
        return bool(number == 1)
    is_float, is_negative = number.dtype.kind == "f", bool(np.signbit(number.astype(np.float64)))
    return bool(number == 0) and (not is_float or is_negative == (operation == "Add"))


def _integers(s: Simplifier, node: Node, place: int) -> list[int] | None:
    """Return the numbers of a constant input of a node, or None."""
    array = s.constants.get(node.inputs[place]) if len(node.inputs) > place else None
    return None if array is None else as_integers(array)


LENGTHS, STATES = 4, (5, 6)  # inputs of ONNX's recurrent operators


@rewrite("Range")
def _range(s: Simplifier, node: Node) -> Sequence[Node] | Node:
    """Count in integers, which may be sizes, where a graph casts all of them to floats before."""
    integers = []
    for name in node.inputs:
        array, maker = s.constants.get(name), s.makers.get(name)
        if array is not None and array.dtype.kind == "f" and (array == np.trunc(array)).all():
            integers.append(s.constant(f"{name}/int64", array.astype(np.int64)))
            dtype = array.dtype
        elif maker is not None and maker.operation == "Cast" and holds_integers(s, maker.inputs[0]):
            integers.append(maker.inputs[0])
            dtype = maker.attributes["to"]
        else:
            return node
    if all(name in s.constants for name in node.inputs):
        return node
    output = f"{node.outputs[0]}/int64"
    counted = Node("Range", tuple(integers), (output,), {}, node.name)
    return counted, Node("Cast", (output,), node.outputs, {"to": dtype}, node.name)


@rewrite("RNN", "GRU", "LSTM")
def _recurrent(s: Simplifier, node: Node) -> Sequence[Node]:
    """A node of ONNX with constant weights becomes what it is composed of, among them a layer."""
    W, R = (s.constants.get(name) for name in node.inputs[1:3])
    if W is None or R is None:
        return [node]
    known: list[Operand | None] = []
    for place, name in enumerate(node.inputs):
        shape: tuple[int, ...] = (1, 1, W.shape[2])  # of one step and one row
        if place == LENGTHS:
            shape = (1,)
        elif place in STATES:
            shape = (1, len(R), R.shape[2]) if node.attributes.get("layout") else (len(R), 1, R.shape[2])
        unknown = Signature(shape, np.dtype(np.int32) if place == LENGTHS else W.dtype)
        known.append((s.constants.get(name, unknown) if place in (1, 2, 3, 7) else unknown) if name else None)
    expand = OPERATIONS[node.operation].expand
    expansion = expand and W.dtype in (np.float32, np.float64) and expand(node, known)
    if not expansion:
        return [node]
    s.add_all(expansion)
    return []


@rewrite("Conv", "Gemm", "MatMul")
def _quantized_product(s: Simplifier, node: Node) -> Iterator[Node]:
    """A product of two dequantized arrays becomes an integer product, which is then scaled."""
    operands = _integer_operands(s, node)
    if operands is None:
        yield node
        return
    (x, W, q), is_conv, bias = operands, node.operation == "Conv", (*node.inputs, "")[2]
    name, output = (node.name, node.source or node.operation), node.outputs[0]
    sums, floats, scaled = f"{output}/sums", f"{output}/floats", f"{output}/scaled"
    transposed = bool(node.attributes.get("transB"))
    matrix = s.constant(f"{output}/matrix", np.ascontiguousarray(q.T)) if transposed else W.name
    operation, options = ("ConvInteger", node.attributes) if is_conv else ("MatMulInteger", {})
    yield Node(operation, (x.name, matrix, x.zero_point, W.zero_point), (sums,), options, *name)
    yield Node("Cast", (sums,), (floats,), {"to": np.dtype(np.float32)}, *name)
    per_unit = [-1] + [1] * (q.ndim - 2) if is_conv else [-1]
    scale = (x.scale.reshape(()) * W.scale).reshape([] if W.scale.size == 1 else per_unit)
    product = scaled if bias else output
    yield Node("Mul", (floats, s.constant(f"{output}/scale", scale)), (product,), {}, *name)
    if bias and is_conv:
        shape = s.constant(f"{output}/shape", np.array(per_unit))
        s.add(Node("Reshape", (bias, shape), (f"{output}/bias",), {}, *name))
        bias = f"{output}/bias"
    if bias:
        yield Node("Add", (product, bias), (output,), {}, *name)


def _integer_operands(s: Simplifier, node: Node) -> tuple[_Quantized, _Quantized, AnyArray] | None:
    """Return the operands of a plain product of dequantized arrays, the second one constant, or None."""
    a, x, W = node.attributes, *(_quantized(s, name) for name in node.inputs[:2])
    is_plain = a.get("alpha", 1) == a.get("beta", 1) == a.get("group", 1) == 1 and not a.get("transA")
    if x is None or W is None or x.scale.size != 1 or not is_plain:
        return None
    q, is_conv = s.constants.get(W.name), node.operation == "Conv"
    if q is None or (not is_conv and q.ndim != 2):
        return None
    units_axis = 0 if is_conv or a.get("transB") else 1
    return (x, W, q) if W.scale.size == 1 or W.axis % q.ndim == units_axis else None


class _Quantized(NamedTuple):
    """The bytes that an array was dequantized from: the names of the bytes and of their zero point."""

    name: str
    scale: AnyArray
    zero_point: str
    axis: int


def _quantized(s: Simplifier, name: str) -> _Quantized | None:
    """Return the bytes from which DequantizeLinear made a value; None if it did not."""
    node = s.dequantized.get(name) or s.makers.get(name)
    if node is None or node.operation != "DequantizeLinear" or len(node.inputs) < 3:
        return None
    scale, zero_point = (s.constants.get(other) for other in node.inputs[1:])
    is_plain = not node.attributes.get("block_size") and not node.attributes.get("output_dtype")
    if scale is None or scale.dtype != np.float32 or zero_point is None or not is_plain:
        return None
    if zero_point.dtype not in (np.int8, np.uint8) or zero_point.size != scale.size or scale.ndim > 1:
        return None
    return _Quantized(node.inputs[0], scale, node.inputs[2], node.attributes.get("axis", 1))

"""Simplify a graph once, before any plan: fold constants, and recognize idioms of exporters."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .cells import replace_cells
from .graph import Graph, bodies
from .idioms import replace_idioms
from .node import AnyArray, Node
from .operations import OPERATIONS
from .operations.recurrent import new_layer
from .operations.registry import Value

MAX_FOLDED = 1 << 24  # bytes of an array that is computed from constants
UNBOUNDED = 2**31 - 1  # an end of a slice that lies beyond each axis
MAX_COMPARED = 64  # elements of constants that are compared by value


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    simplifier = _Simplifier(graph)
    for node in graph.nodes:
        simplifier.add(node)
    simplified = simplifier.finish()
    replace_cells(simplified)
    replace_idioms(simplified)
    return simplified


class _Simplifier:
    """Copies a graph node by node, in its simpler form."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}  # of values that equal others
        self.makers: dict[str, Node] = {}
        self.earlier: dict[Any, Node] = {}  # the pure nodes, by what they compute
        self.dequantized: dict[str, Node] = {}  # the nodes that made constants from quantized ones

    def add(self, node: Node) -> None:
        node = replace(node, inputs=tuple(self.names.get(name, name) for name in node.inputs))
        operation = OPERATIONS[node.operation]
        if node.operation == "If" and node.inputs[0] in self.constants:
            self._inline(node)
        elif any(bodies(node)):
            self._append(self._with_constants(node))
        elif operation.is_pure and all(not name or name in self.constants for name in node.inputs):
            results = self._folded(node)
            if results is None:
                self._append(node)
            else:
                self.constants |= zip(node.outputs, results, strict=False)
                if node.operation == "DequantizeLinear":
                    self.dequantized[node.outputs[0]] = node
        else:
            for simpler in REWRITES.get(node.operation, lambda *_: [node])(self, node):
                self._append(simpler)

    def _append(self, node: Node) -> None:
        """Append a node, unless an earlier one computes the same."""
        key = self._meaning(node)
        earlier = None if key is None else self.earlier.setdefault(key, node)
        if earlier is not None and earlier is not node:
            known = dict(zip(node.outputs, earlier.outputs, strict=False))
            if all(known.get(name) for name in node.outputs if name):
                self.names |= known
                return
        self.nodes.append(node)
        self.makers |= dict.fromkeys(node.outputs, node)

    def _meaning(self, node: Node) -> Any:
        """Return a key that is equal for nodes that compute the same, or None for a node that is not pure."""
        if not OPERATIONS[node.operation].is_pure or any(bodies(node)):
            return None
        attributes = sorted(node.attributes.items())
        if not all(_is_plain(value) for _, value in attributes):
            return None
        return node.operation, tuple(map(self._content, node.inputs)), repr(attributes)

    def _content(self, name: str) -> Any:
        """Return a key that is equal for equal small constants, or the name of another value."""
        array = self.constants.get(name)
        if array is None or array.size > MAX_COMPARED or array.dtype.hasobject:
            return name
        return array.dtype.str, array.shape, array.tobytes()

    def _inline(self, node: Node) -> None:
        """Replace an If with a constant condition by the nodes of its branch."""
        expand = OPERATIONS["If"].expand
        condition = self.constants[node.inputs[0]]
        known = Value(condition.shape, condition.dtype, condition)
        expansion = expand and expand(node, [known, *[None] * (len(node.inputs) - 1)])
        assert expansion is not None  # its condition is known
        self.constants |= expansion.constants
        for inner in expansion.nodes:
            self.add(inner)

    def alias(self, name: str, other: str) -> None:
        """Let a value stand for another one that equals it."""
        self.names[name] = other

    def constant(self, name: str, array: AnyArray) -> str:
        self.constants[name] = array
        return name

    def _folded(self, node: Node) -> list[Any] | None:
        """Compute a node whose inputs are constants, unless its outputs are large or it raises an error."""
        operation = OPERATIONS[node.operation]
        arrays = [self.constants.get(name) for name in node.inputs]
        given = sum(a.nbytes for a in arrays if a is not None)
        try:
            signatures = (operation.signatures(arrays, node.attributes) if operation.has_rule else None) or ()
            if _bytes(signatures) > max(MAX_FOLDED, 2 * given):
                return None
            return [np.asarray(result) for result in operation.compute(arrays, node.attributes)]
        except Exception:  # the error belongs to the call, which names the node
            return None

    def _with_constants(self, node: Node) -> Node:
        """Give the bodies of a node the constants that they use, and simplify the bodies."""
        outer = [self.constants.get(name) for name in node.inputs]
        captured = node.attributes.get("captured", len(node.inputs) - 1)
        first = len(node.inputs) - captured
        kept = [place for place in range(len(node.inputs)) if place < first or outer[place] is None]
        attributes = dict(node.attributes)
        for name, body in node.attributes.items():
            if isinstance(body, Graph):
                own = len(body.inputs) - captured
                inner = replace(body, constants=dict(body.constants))
                for declared, array in zip(body.inputs[own:], outer[first:], strict=True):
                    if array is not None:
                        inner.constants[declared.name] = array
                inner.inputs = [d for d in body.inputs if d.name not in inner.constants]
                attributes[name] = simplify(inner)
        if "captured" in attributes:
            attributes["captured"] = sum(place >= first for place in kept)
        return replace(node, inputs=tuple(node.inputs[place] for place in kept), attributes=attributes)

    def finish(self) -> Graph:
        """Return the simplified graph without unused nodes and constants."""
        outputs = tuple(self.names.get(name, name) for name in self.source.outputs)
        simplified = replace(self.source, nodes=self.nodes, outputs=outputs, constants=self.constants)
        simplified.remove_unused()
        return simplified


def _is_plain(value: Any) -> bool:
    """Return whether an attribute equals another one exactly if their representations are equal."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | np.dtype | type)


def _bytes(signatures: Any) -> int:
    return sum(math.prod(s.shape) * s.dtype.itemsize for s in signatures)


Rewrite = Callable[[_Simplifier, Node], Iterator[Node]]
REWRITES: dict[str, Rewrite] = {}


def rewrite(*operations: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function that replaces a node of these operations by other nodes."""

    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(operations, function))
        return function

    return register


@rewrite("Identity")
def _identity(s: _Simplifier, node: Node) -> Iterator[Node]:
    s.alias(node.outputs[0], node.inputs[0])
    yield from ()


@rewrite("Dropout")
def _dropout(s: _Simplifier, node: Node) -> Iterator[Node]:
    """Dropout changes nothing, unless it trains or its mask is used."""
    if len(node.inputs) > 2 or len(list(filter(None, node.outputs))) > 1:
        yield node
    else:
        s.alias(node.outputs[0], node.inputs[0])


@rewrite("Conv", "Gemm", "MatMul")
def _quantized_product(s: _Simplifier, node: Node) -> Iterator[Node]:
    """A product of two dequantized arrays becomes an integer product, which is then scaled."""
    a, x, W = node.attributes, *(_quantized(s, name) for name in node.inputs[:2])
    is_conv, transposed = node.operation == "Conv", bool(a.get("transB"))
    is_plain = a.get("alpha", 1) == 1 and a.get("beta", 1) == 1 and not a.get("transA")
    if x is None or W is None or x.scale.size != 1 or not is_plain or a.get("group", 1) != 1:
        yield node
        return
    q = s.constants.get(W.name)
    units_axis = 0 if is_conv or transposed else 1
    if q is None or (not is_conv and q.ndim != 2) or (W.scale.size != 1 and W.axis % q.ndim != units_axis):
        yield node
        return
    name, output = (node.name, node.source or node.operation), node.outputs[0]
    sums, floats, scaled = f"{output}/sums", f"{output}/floats", f"{output}/scaled"
    matrix = s.constant(f"{output}/matrix", np.ascontiguousarray(q.T)) if transposed else W.name
    operation, options = ("ConvInteger", a) if is_conv else ("MatMulInteger", {})
    yield Node(operation, (x.name, matrix, x.zero_point, W.zero_point), (sums,), options, *name)
    yield Node("Cast", (sums,), (floats,), {"to": np.dtype(np.float32)}, *name)
    per_unit = [-1] + [1] * (q.ndim - 2) if is_conv else [-1]
    scale = (x.scale.reshape(()) * W.scale).reshape([] if W.scale.size == 1 else per_unit)
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    product = scaled if bias else output
    yield Node("Mul", (floats, s.constant(f"{output}/scale", scale)), (product,), {}, *name)
    if bias:
        if is_conv:
            shape = s.constant(f"{output}/shape", np.array(per_unit))
            bias, reshaped = f"{output}/bias", Node("Reshape", (bias, shape), (f"{output}/bias",), {}, *name)
            s.add(reshaped)
        yield Node("Add", (product, bias), (output,), {}, *name)


class _Quantized(NamedTuple):
    """The bytes that an array was dequantized from: the names of the bytes and of their zero point."""

    name: str
    scale: AnyArray
    zero_point: str
    axis: int


def _quantized(s: _Simplifier, name: str) -> _Quantized | None:
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


@rewrite("Squeeze", "Unsqueeze")
def _squeeze(s: _Simplifier, node: Node) -> Iterator[Node]:
    """Squeeze and Unsqueeze of the same axes undo each other."""
    before, axes = s.makers.get(node.inputs[0]), _integers(s, node, 1)
    if (
        before is not None
        and {before.operation, node.operation} == {"Squeeze", "Unsqueeze"}
        and axes is not None
        and axes == _integers(s, before, 1)
    ):
        s.alias(node.outputs[0], before.inputs[0])
    else:
        yield node


@rewrite("Transpose")
def _transpose(s: _Simplifier, node: Node) -> Iterator[Node]:
    """Two permutations are one; the one that moves nothing is none."""
    (x,), perm, before = node.inputs, node.attributes.get("perm"), s.makers.get(node.inputs[0])
    if perm is not None and before is not None and before.operation == "Transpose":
        inner = before.attributes.get("perm")
        if inner is not None and len(inner) == len(perm):
            (x,), perm = before.inputs, [inner[axis] for axis in perm]
    if perm is not None and list(perm) == list(range(len(perm))):
        s.alias(node.outputs[0], x)
    else:
        yield replace(node, inputs=(x,), attributes={} if perm is None else {"perm": perm})


@rewrite("Reshape")
def _reshape(s: _Simplifier, node: Node) -> Iterator[Node]:
    """The second of two shapes decides, unless it copies sizes of the first."""
    before, shape = s.makers.get(node.inputs[0]), _integers(s, node, 1)
    if before is not None and before.operation in ("Reshape", "Flatten") and shape and 0 not in shape:
        node = replace(node, inputs=(before.inputs[0], node.inputs[1]))
    yield node


@rewrite("Cast")
def _cast(s: _Simplifier, node: Node) -> Iterator[Node]:
    """A value that has been cast to a dtype has it."""
    before = s.makers.get(node.inputs[0])
    if before is not None and before.operation == "Cast" and before.attributes == node.attributes:
        s.alias(node.outputs[0], node.inputs[0])
    else:
        yield node


@rewrite("Concat", "Split")
def _one_part(s: _Simplifier, node: Node) -> Iterator[Node]:
    """The concatenation of one array is the array, and so is its only part."""
    is_one = len(node.inputs) == 1 if node.operation == "Concat" else len(node.outputs) == 1
    if is_one and not (node.operation == "Split" and any(node.inputs[1:])):
        s.alias(node.outputs[0], node.inputs[0])
    else:
        yield node


@rewrite("Slice")
def _slice(s: _Simplifier, node: Node) -> Iterator[Node]:
    """A slice of everything is the array."""
    starts, ends, steps = _integers(s, node, 1), _integers(s, node, 2), _integers(s, node, 4)
    forward = steps is not None and set(steps) == {1} if any(node.inputs[4:]) else True
    if starts and ends and forward and set(starts) == {0} and min(ends) >= UNBOUNDED:
        s.alias(node.outputs[0], node.inputs[0])
    else:
        yield node


@rewrite("Pad")
def _pad(s: _Simplifier, node: Node) -> Iterator[Node]:
    """Padding by nothing changes nothing."""
    widths = _integers(s, node, 1)
    if widths is not None and not any(widths):
        s.alias(node.outputs[0], node.inputs[0])
    else:
        yield node


@rewrite("Add", "Sub", "Mul", "Div")
def _neutral(s: _Simplifier, node: Node) -> Iterator[Node]:
    """x * 1, x / 1 and x - 0 are x, bit by bit; x + 0 is not if x is -0."""
    places = (1, 0) if node.operation in ("Add", "Mul") else (1,)
    for place in places if len(node.inputs) == 2 else ():
        array = s.constants.get(node.inputs[place])
        if array is not None and array.ndim == 0 and _is_neutral(node.operation, array):
            s.alias(node.outputs[0], node.inputs[1 - place])
            return
    yield node


def _is_neutral(operation: str, number: AnyArray) -> bool:
    if operation in ("Mul", "Div"):
        return bool(number == 1)
    is_float, is_negative = number.dtype.kind == "f", bool(np.signbit(number.astype(np.float64)))
    return bool(number == 0) and (not is_float or is_negative == (operation == "Add"))


def _integers(s: _Simplifier, node: Node, place: int) -> list[int] | None:
    """Return the numbers of a constant input of a node, or None."""
    array = s.constants.get(node.inputs[place]) if len(node.inputs) > place else None
    return None if array is None else [int(number) for number in np.ravel(array)]


@rewrite("RNN", "GRU", "LSTM")
def _recurrent(s: _Simplifier, node: Node) -> Iterator[Node]:
    """A node of ONNX with constant weights becomes a layer, and movement between the layouts."""
    X, W, R, B, lengths, h, c, P = (*node.inputs, *[""] * 8)[:8]
    weights = [s.constants.get(name) for name in (W, R, B, P)]
    if any(array is None for array, name in zip(weights, (W, R, B, P), strict=True) if name):
        yield node
        return
    if any(array is not None and array.dtype not in (np.float32, np.float64) for array in weights):
        yield node
        return
    try:
        layer = new_layer(node.operation, node.attributes, *weights)
    except Exception:  # the error belongs to the call, which names the node
        yield node
        return
    prefix, name = next(filter(None, node.outputs)), (node.name, node.source or node.operation)
    batch_first, D = node.attributes.get("layout") == 1, 1 + layer.bidirectional
    given = [X, h, c][: 1 + len(layer.state_names)]
    if batch_first:
        for place, value in enumerate(given):
            if value:
                given[place] = f"{prefix}/input_{place}"
                yield Node("Transpose", (value,), (given[place],), {"perm": [1, 0, 2]}, *name)
    inputs = (given[0], lengths, *given[1:])
    outputs = [f"{prefix}/output_{place}" for place in range(len(given))]
    attributes = {"layer": layer, "reverse": node.attributes.get("direction") == "reverse"}
    yield Node("Recurrent", inputs, tuple(outputs), attributes, *name)
    wanted = (*node.outputs, "", "")[: len(outputs)]
    if wanted[0]:
        yield from _directions(s, prefix, outputs[0], wanted[0], D, batch_first, name)
    for value, output in zip(outputs[1:], wanted[1:], strict=True):
        if output:
            yield from _state(s, prefix, value, output, lengths, batch_first, name)


def _directions(
    s: _Simplifier, prefix: str, y: str, output: str, D: int, batch_first: bool, name: tuple[str, str]
) -> Iterator[Node]:
    """y (T, B, D*H) to Y (T, D, B, H), or (B, T, D, H)."""
    if D == 1:
        axis = s.constant(f"{prefix}/axis", np.array([2 if batch_first else 1]))
        if batch_first:
            yield Node("Transpose", (y,), (f"{prefix}/y",), {"perm": [1, 0, 2]}, *name)
            y = f"{prefix}/y"
        yield Node("Unsqueeze", (y, axis), (output,), {}, *name)
        return
    shape = s.constant(f"{prefix}/shape", np.array([0, 0, D, -1]))
    yield Node("Reshape", (y, shape), (f"{prefix}/y",), {}, *name)
    perm = [1, 0, 2, 3] if batch_first else [0, 2, 1, 3]
    yield Node("Transpose", (f"{prefix}/y",), (output,), {"perm": perm}, *name)


def _state(
    s: _Simplifier,
    prefix: str,
    value: str,
    output: str,
    lengths: str,
    batch_first: bool,
    name: tuple[str, str],
) -> Iterator[Node]:
    """The final state (D, B, H), or (B, D, H); 0 in rows of no steps, as in onnxruntime."""
    if lengths:
        zero = s.constant(f"{prefix}/zero", np.zeros((), np.float32))
        yield Node("FinalState", (value, zero, lengths), (f"{output}/masked",), {}, *name)
        value = f"{output}/masked"
    if batch_first:
        yield Node("Transpose", (value,), (output,), {"perm": [1, 0, 2]}, *name)
    else:
        s.alias(output, value)

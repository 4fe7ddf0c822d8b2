"""Simplify a graph once, before any plan: fold constants, and recognize idioms of exporters."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .graph import Graph, bodies
from .memory import size_of
from .node import AnyArray, Node
from .operations import OPERATIONS
from .operations.recurrent import new_layer

MAX_FOLDED = 1 << 24  # bytes of arrays that are computed from constants, unless the constants are large


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    simplifier = _Simplifier(graph)
    for node in graph.nodes:
        simplifier.add(node)
    simplified = simplifier.finish()
    for pattern in PATTERNS:
        _replace(simplified, pattern)
    return simplified


class _Simplifier:
    """Copies a graph node by node, in its simpler form."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}  # of values that equal others
        self.makers: dict[str, Node] = {}
        # of the bytes that may still be folded; int8 weights become float32
        self.limit = max(MAX_FOLDED, 8 * sum(array.nbytes for array in graph.constants.values()))
        self.dequantized: dict[str, Node] = {}  # the nodes that made constants from quantized ones

    def add(self, node: Node) -> None:
        node = replace(node, inputs=tuple(self.names.get(name, name) for name in node.inputs))
        operation = OPERATIONS[node.operation]
        if any(bodies(node)):
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
            for simpler in self._rewritten(node):
                self._append(simpler)

    def _rewritten(self, node: Node) -> list[Node]:
        try:
            return list(REWRITES[node.operation](self, node))
        except Exception:  # no rule, or a malformed node; its error belongs to the call, which names the node
            return [node]

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        self.makers |= dict.fromkeys(node.outputs, node)

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
            if size_of(signatures) > min(self.limit, max(MAX_FOLDED, 2 * given)):
                return None
            results = [np.asarray(result) for result in operation.compute(arrays, node.attributes)]
            self.limit -= sum(array.nbytes for array in results)
            return results
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
        nodes = used_nodes(self.nodes, outputs)
        needed = {*outputs, *(name for node in nodes for name in node.inputs)}
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return replace(self.source, nodes=nodes, outputs=outputs, constants=constants)


def used_nodes(nodes: list[Node], outputs: Sequence[str]) -> list[Node]:
    """Return the nodes that the outputs depend on, without the outputs that nothing uses."""
    needed, used = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            used.append(replace(node, outputs=tuple(name if name in needed else "" for name in node.outputs)))
            needed.update(node.inputs)
    return used[::-1]


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


@rewrite("QGemm")
def _quantized_gemm(s: _Simplifier, node: Node) -> Iterator[Node]:
    A, a_scale, a_zero, B, b_scale, b_zero, C, y_scale, y_zero = (*node.inputs, "", "", "")[:9]
    W, bias, A_factor, W_factor = (s.constants.get(name) for name in (B, C, a_scale, b_scale))
    has_unknown_bias = bool(C) and bias is None
    if W is None or A_factor is None or W_factor is None or has_unknown_bias or node.attributes.get("transA"):
        yield node
        return
    name, output = (node.name, node.source or node.operation), node.outputs[0]
    scale = np.asarray(np.float32(node.attributes.get("alpha", 1)) * A_factor.reshape(()) * W_factor)
    matrix = np.ascontiguousarray(W.T) if node.attributes.get("transB") else W
    floats = output if not y_scale else f"{output}/floats"
    product = f"{output}/product" if C else floats
    inputs = (A, s.constant(f"{output}/matrix", matrix), a_zero, b_zero)
    yield Node("MatMulInteger", inputs, (f"{output}/sums",), {}, *name)
    yield Node("Cast", (f"{output}/sums",), (f"{output}/cast",), {"to": np.dtype(np.float32)}, *name)
    factor = s.constant(f"{output}/scale", scale.reshape(()) if scale.size == 1 else scale)
    yield Node("Mul", (f"{output}/cast", factor), (product,), {}, *name)
    if bias is not None:
        scaled = s.constant(f"{output}/bias", bias.astype(np.float32) * scale)
        yield Node("Add", (product, scaled), (floats,), {}, *name)
    if y_scale:
        yield Node("QuantizeLinear", (floats, y_scale, y_zero), (output,), {}, *name)


# The operations of onnxruntime that dequantize their inputs, compute and quantize, and the number of inputs.
QUANTIZED_FUNCTIONS = {
    **{"QLinearAdd": ("Add", 2), "QLinearMul": ("Mul", 2), "QLinearSigmoid": ("Sigmoid", 1)},
    **{"QLinearLeakyRelu": ("LeakyRelu", 1), "QLinearAveragePool": ("AveragePool", 1)},
    "QLinearSoftmax": ("Softmax", 1),
}


@rewrite(*QUANTIZED_FUNCTIONS)
def _quantized_function(s: _Simplifier, node: Node) -> Iterator[Node]:
    operation, count = QUANTIZED_FUNCTIONS[node.operation]
    y_scale, y_zero = (*node.inputs[3 * count :], "")[:2]
    joins_axes = node.attributes.get("opset", 13) < 13
    if not y_zero or node.attributes.get("channels_last") or joins_axes:
        yield node
        return
    name, output, inputs = (node.name, node.source or node.operation), node.outputs[0], []
    for place in range(count):
        inputs.append(f"{output}/input_{place}")
        s.add(Node("DequantizeLinear", node.inputs[3 * place : 3 * place + 3], (inputs[-1],), {}, *name))
    own = ("channels_last", "opset")
    attributes = {key: value for key, value in node.attributes.items() if key not in own}
    s.add(Node(operation, tuple(inputs), (f"{output}/floats",), attributes, *name))
    yield Node("QuantizeLinear", (f"{output}/floats", y_scale, y_zero), (output,), {}, *name)


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


@rewrite("Squeeze")
def _squeeze(s: _Simplifier, node: Node) -> Iterator[Node]:
    """Squeeze undoes Unsqueeze."""
    before = s.makers.get(node.inputs[0])
    axes = s.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if before is not None and before.operation == "Unsqueeze" and axes is not None:
        added = s.constants.get(before.inputs[1])
        if added is not None and np.array_equal(np.ravel(axes), np.ravel(added)):
            s.alias(node.outputs[0], before.inputs[0])
            return
    yield node


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


Pattern = Callable[[Graph, dict[str, Node], Counter[str], Node], Node | None]
PATTERNS: list[Pattern] = []


def pattern(function: Pattern) -> Pattern:
    """Register a function that returns the node that replaces another one and nodes before it, or None."""
    PATTERNS.append(function)
    return function


def _replace(graph: Graph, pattern: Pattern) -> None:
    """Replace each match of a pattern; nodes that nothing uses any more disappear."""
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    uses = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
    nodes = [pattern(graph, makers, uses, node) or node for node in graph.nodes]
    graph.nodes = used_nodes(nodes, graph.outputs)


@pattern
def _join_bias(graph: Graph, makers: dict[str, Node], uses: Counter[str], node: Node) -> Node | None:
    """A B + C as one product, which starts its sums from C as a layer does."""
    if node.operation != "Add" or len(node.inputs) != 2:
        return None
    for name, other in (node.inputs, node.inputs[::-1]):
        product = makers.get(name)
        if (
            product is not None
            and product.operation == "MatMul"
            and uses[name] == 1
            and len(product.inputs) == 2
        ):
            return Node("MatMul", (*product.inputs, other), node.outputs, {}, product.name, product.source)
    return None

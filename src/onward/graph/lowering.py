"""Operations as steps of the core, one function for each, for inputs and outputs of float32.

A function takes the builder, the node, its inputs and its outputs' shapes, and returns the views of the
outputs, or None for a node that the core cannot run; that runs in NumPy.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .builder import Builder
from .node import Node
from .view import View


class Value(NamedTuple):
    """A value while its graph is traced: an example of it, whether it is the same in every call of the
    signature, and where its numbers are; None where they are in no space of the plan."""

    array: Any
    known: bool
    view: View | None
    used_once: bool = False


Inputs = Sequence[Value | None]
Lowering = Callable[[Builder, Node, Inputs, list[tuple[int, ...]]], list[View] | None]
LOWERINGS: dict[str, Lowering] = {}

BINARY = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
}
UNARY = {"Abs": "absolute", "Log": "log", "Neg": "negative", "Reciprocal": "reciprocal", "Sqrt": "sqrt"}
# What an output's numbers are follows from where the input's are.
MOVEMENT = {
    *(
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Gather",
        "Expand",
        "Tile",
    ),
    *("Identity", "Dropout", "DepthToSpace", "SpaceToDepth"),
}


def lowering(*operations: str) -> Callable[[Lowering], Lowering]:
    """Registers the function that lowers some operations."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(operations, function))
        return function

    return register


def known(value: Value | None) -> Any:
    """The array of a value that is the same in every call, else None."""
    return value.array if value is not None and value.known else None


def view(b: Builder, value: Value | None) -> View | None:
    """Where the numbers of a value are, a constant's too."""
    if value is None or value.array.dtype != np.float32:
        return None
    return b.constant(value.array) if value.known else value.view


@lowering(*MOVEMENT)
def movement(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Views where strides can say which numbers an output has, else a copy by a table of offsets."""
    x, *others = inputs
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    moved = node.run(x.view.offsets(), *(known(other) for other in others))
    views = []
    for offsets in moved[: len(shapes)]:
        found = View.at(x.view.space, offsets)
        if found is None:
            found = b.new(*offsets.shape)
            table = offsets.ravel() - x.view.offset
            b.add("gather", x.view, table.tolist(), found)
        views.append(found)
    return views


@lowering("Cast")
def cast(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """From float32 to float32, the only dtype of a lowered output."""
    x = view(b, inputs[0])
    return x and [x]


@lowering("Concat")
def concat(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    parts = [view(b, value) for value in inputs]
    axis = node.attributes["axis"] % len(shapes[0])
    y, start = b.new(*shapes[0]), 0
    for part in parts:
        if part is None:
            return None
        size = part.shape[axis]
        b.add("copy", part, y.sliced(axis, start, start + size))
        start += size
    return [y]


@lowering("Pad")
def pad(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, *others = inputs
    if node.attributes.get("mode", "constant") != "constant":
        return movement(b, node, inputs, shapes)
    if x is None or x.view is None or any(o is not None and not o.known for o in others):
        return None
    # Where each number of the output comes from; the padding is the only -1.
    places = np.arange(x.array.size, dtype=np.float64).reshape(x.array.shape) + 1
    constant = np.zeros((), np.float64)
    parameters = [known(other) for other in others]
    value = node.attributes.get("value", 0.0)
    if len(parameters) > 1 and parameters[1] is not None:
        value = float(parameters[1])
        parameters[1] = constant
    elif value:
        return None
    (moved,) = node.run(places, *parameters)
    inside = np.argwhere(moved > 0)
    if not len(inside):
        return None
    low, high = inside.min(0), inside.max(0) + 1
    cropped = moved[tuple(map(slice, low, high))].astype(np.int64) - 1
    from_view = View.at(x.view.space, x.view.offsets().ravel()[cropped])
    if from_view is None:
        return None
    y = b.new(*shapes[0])
    b.add("fill", value, y)
    inner = y
    for axis, (start, stop) in enumerate(zip(low, high, strict=True)):
        inner = inner.sliced(axis, int(start), int(stop))
    b.add("copy", from_view, inner)
    return [y]


@lowering(*BINARY)
def binary(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    if "axis" in node.attributes or "broadcast" in node.attributes:  # of opset 6
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
    """A function of `onward.Activation`, as the core names it in the attribute `function`."""
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


# ---- Products -------------------------------------------------------------------------------------------------------


def product(b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None) -> View:
    """x (.., K) W^T + b with W (O, K), as (.., O)."""
    leading = x.shape[:-1]
    y = b.new_rows(math.prod(leading), len(W))
    bias = None if bias is None else np.ascontiguousarray(bias)
    b.add("product", np.ascontiguousarray(W), bias, x, len(leading), None, y)
    return _split_rows(y, leading)


def _split_rows(y: View, leading: tuple[int, ...]) -> View:
    """y (rows, O), whose rows are evenly apart, with the rows split into axes."""
    strides, stride = [], y.strides[0]
    for size in reversed(leading):
        strides.append(stride)
        stride *= size
    return y._replace(shape=(*leading, y.shape[1]), strides=(*reversed(strides), y.strides[1]))


@lowering("MatMul")
def matmul(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """A B, or A B + C."""
    A, B = view(b, inputs[0]), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    if A is None or B is None or B.array.dtype != np.float32:
        return None
    W = known(B)
    if W is not None and W.ndim == 2 and inputs[0] is not None and inputs[0].array.ndim >= 1:
        if bias is None or (bias.known and bias.array.shape == W.shape[1:]):
            return [product(b, A, W.T, known(bias))]
        y = product(b, A, W.T, None)
    else:
        other = view(b, B)
        if other is None or len(A.shape) < 2 or len(other.shape) < 2:
            return None
        y = b.new(*np.broadcast_shapes(A.shape[:-2], other.shape[:-2]), A.shape[-2], other.shape[-1])
        b.add("matmul", A, other, y)
    if bias is None:
        return [y]
    C = view(b, bias)
    return C and [b.binary("add", y, C)]


@lowering("Gemm")
def gemm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """alpha A B + beta C."""
    A, W, attributes = view(b, inputs[0]), known(inputs[1]), node.attributes
    bias = inputs[2] if len(inputs) > 2 else None
    if A is None or W is None or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
        return None
    A = A.permuted(1, 0) if attributes.get("transA") else A
    W = W if attributes.get("transB") else W.T
    if bias is None or (bias.known and bias.array.shape == (len(W),)):
        return [product(b, A, W, known(bias))]
    C = view(b, bias)
    return C and [b.binary("add", product(b, A, W, None), C)]


@lowering("Conv")
def conv(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """X (N, C, *in) with W (M, C / groups, *kernel); channels are last inside."""
    x, W, bias = view(b, inputs[0]), known(inputs[1]), None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = known(inputs[2])
        if bias is None:
            return None
    if x is None or W is None or not 3 <= W.ndim <= 4:
        return None
    groups, kernel = node.attributes.get("group", 1), W.shape[2:]
    axes = len(kernel)
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    if pads is None:
        return None
    N, C, M, out = x.shape[0], x.shape[1], W.shape[0], shapes[0][2:]
    last = padded(b, x.permuted(0, *range(2, 2 + axes), 1), pads, 0.0)  # (N, *in, C)
    if groups == C and M == C and groups > 1:
        y = _depthwise(b, last, W, bias, strides, dilations, out)
    else:
        y = b.new_rows(N * math.prod(out), M)
        for group in range(groups):
            own = slice(group * M // groups, (group + 1) * M // groups)
            part = last.sliced(axes + 1, group * C // groups, (group + 1) * C // groups)
            rows = windows(part, kernel, strides, dilations, out)
            weights = np.ascontiguousarray(np.moveaxis(W[own], 1, -1).reshape(M // groups, -1))
            target = y if groups == 1 else b.new_rows(y.shape[0], M // groups)
            own_bias = None if bias is None else np.ascontiguousarray(bias[own])
            b.add("product", weights, own_bias, rows, 1 + axes, None, target)
            if groups > 1:
                b.add("copy", target, y.sliced(1, own.start, own.stop))
        y = _split_rows(y, (N, *out))
    return [y.permuted(0, axes + 1, *range(1, axes + 1))]


def window(
    node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[list[int], list[int], list[tuple[int, int]] | None]:
    """Strides, dilations, and the padding on both sides of each axis; None if a side would be cropped."""
    n = len(kernel)
    strides = list(node.attributes.get("strides") or [1] * n)
    dilations = list(node.attributes.get("dilations") or [1] * n)
    mode, pads = node.attributes.get("auto_pad", "NOTSET"), list(node.attributes.get("pads") or [0] * 2 * n)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if mode == "SAME_UPPER" else (more, less))
        return strides, dilations, sides
    if mode == "VALID":
        pads = [0] * 2 * n
    if min(pads) < 0:
        return strides, dilations, None
    return strides, dilations, list(zip(pads[:n], pads[n:], strict=True))


def padded(b: Builder, x: View, pads: list[tuple[int, int]], value: float) -> View:
    """x (N, *in, C) with a border around the middle axes."""
    if not any(map(any, pads)):
        return x
    N, *sizes, C = x.shape
    whole = b.new(N, *(size + sum(side) for size, side in zip(sizes, pads, strict=True)), C)
    b.add("fill", value, whole)
    inner = whole
    for axis, (size, (before, _)) in enumerate(zip(sizes, pads, strict=True), start=1):
        inner = inner.sliced(axis, before, before + size)
    b.add("copy", x, inner)
    return whole


def windows(
    x: View, kernel: Sequence[int], strides: list[int], dilations: list[int], out: Sequence[int]
) -> View:
    """x (N, *in, C) as (N, *out, *kernel, C), each window in place."""
    N, n = x.shape[0], len(kernel)
    places = tuple(x.strides[1 + axis] * strides[axis] for axis in range(n))
    taps = tuple(x.strides[1 + axis] * dilations[axis] for axis in range(n))
    shape = (N, *out, *kernel, x.shape[-1])
    return View(x.space, x.offset, shape, (x.strides[0], *places, *taps, x.strides[-1]))


def _depthwise(
    b: Builder,
    x: View,
    W: NDArray[Any],
    bias: NDArray[Any] | None,
    strides: list[int],
    dilations: list[int],
    out: Sequence[int],
) -> View:
    """A kernel for each channel: y (N, *out, C) sums the taps in their order."""
    kernel, n = W.shape[2:], len(out)
    y = b.new(x.shape[0], *out, x.shape[-1])
    if bias is None:
        b.add("fill", 0.0, y)
    else:
        b.add("copy", b.constant(bias.reshape([1] * (n + 1) + [-1])), y)
    all_windows = windows(x, kernel, strides, dilations, out)
    for tap in np.ndindex(*kernel):
        part = all_windows
        for axis, place in enumerate(tap):
            part = part.sliced(1 + n + axis, place, place + 1)
        part = part._replace(
            shape=(*part.shape[: 1 + n], x.shape[-1]), strides=(*part.strides[: 1 + n], x.strides[-1])
        )
        weights = np.ascontiguousarray(W[(slice(None), 0, *tap)]).reshape([1] * (n + 1) + [-1])
        b.add("multiply_add", part, b.constant(weights), y)
    return y


# ---- Pooling, reductions and norms ----------------------------------------------------------------------------------


@lowering("MaxPool", "AveragePool")
def pool(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, kernel = view(b, inputs[0]), tuple(node.attributes["kernel_shape"])
    if (
        x is None
        or len(shapes) != 1
        or node.attributes.get("ceil_mode")
        or node.attributes.get("storage_order")
    ):
        return None
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    is_maximum, n, out = node.operation == "MaxPool", len(kernel), shapes[0][2:]
    if pads is None or (
        not is_maximum and any(map(any, pads)) and not node.attributes.get("count_include_pad")
    ):
        return None
    last = padded(b, x.permuted(0, *range(2, 2 + n), 1), pads, -np.inf if is_maximum else 0.0)
    all_windows = windows(last, kernel, strides, dilations, out)
    total = None
    for tap in np.ndindex(*kernel):
        part = all_windows
        for axis, place in enumerate(tap):
            part = part.sliced(1 + n + axis, place, place + 1)
        part = part._replace(
            shape=(*part.shape[: 1 + n], x.shape[1]), strides=(*part.strides[: 1 + n], last.strides[-1])
        )
        if total is None:
            total = part
        else:
            total = b.binary("maximum" if is_maximum else "add", total, part)
    assert total is not None
    total = b.binary("add", total, b.scalar(0.0))  # of -0 and 0, either may have come first
    if not is_maximum:
        total = b.binary("divide", total, b.scalar(math.prod(kernel)))
    return [total.permuted(0, n + 1, *range(1, n + 1))]


def _reduced(b: Builder, operation: str, x: View, axes: Sequence[int]) -> View:
    """Along some axes, which stay with size 1."""
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    ordered = x.permuted(*rest, *axes)
    kept = tuple(x.shape[axis] for axis in rest)
    y = b.reduce(operation, b.reshaped(ordered, *kept, math.prod(x.shape[axis] for axis in axes)))
    return y.reshaped(*(1 if axis in axes else size for axis, size in enumerate(x.shape)))  # type: ignore[return-value]


def _mean(b: Builder, x: View, axes: Sequence[int]) -> View:
    count = math.prod(x.shape[axis] for axis in axes)
    return b.binary("divide", _reduced(b, "sum", x, axes), b.scalar(count))


def _reduced_axes(node: Node, inputs: Inputs, rank: int) -> list[int] | None:
    """The axes of a reduction, from an attribute or from a known input; None if they are not known."""
    axes = node.attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = known(inputs[1])
        if axes is None:
            return None
    if axes is None or not len(axes):
        return None if node.attributes.get("noop_with_empty_axes") else list(range(rank))
    return sorted(int(axis) % rank for axis in axes)


@lowering("ReduceMean", "ReduceSum", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool")
def reduction(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None:
        return None
    pooling = node.operation.startswith("Global")
    axes = list(range(2, len(x.shape))) if pooling else _reduced_axes(node, inputs, len(x.shape))
    if not axes:
        return None
    if node.operation in ("ReduceMean", "GlobalAveragePool"):
        y = _mean(b, x, axes)
    else:
        y = _reduced(b, "sum" if node.operation == "ReduceSum" else "maximum", x, axes)
    return [y.reshaped(*shapes[0])]  # type: ignore[list-item]


@lowering("Softmax", "LogSoftmax")
def softmax(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axis = view(b, inputs[0]), node.attributes.get("axis")
    if x is None or axis is None:  # the default axis depends on the opset
        return None
    axis %= len(x.shape)
    if node.attributes["joins_axes"] and axis != len(x.shape) - 1:
        return None
    shifted = b.binary("subtract", x, _reduced(b, "maximum", x, [axis]))
    powers = b.map("activate", ("exponential", 0.0, 0.0), shifted)
    total = _reduced(b, "sum", powers, [axis])
    if node.operation == "Softmax":
        return [b.binary("divide", powers, total)]
    return [b.binary("subtract", shifted, b.map("unary", "log", total))]


def _standardized(b: Builder, x: View, axes: Sequence[int], epsilon: float) -> View:
    """(x - mean) / sqrt(variance + epsilon)"""
    centered = b.binary("subtract", x, _mean(b, x, axes))
    variance = _mean(b, b.binary("multiply", centered, centered), axes)
    deviation = b.map("unary", "sqrt", b.binary("add", variance, b.scalar(epsilon)))
    return b.binary("divide", centered, deviation)


def _affine(b: Builder, x: View, scale: Any, bias: Any, shape: Sequence[int]) -> View:
    if scale is not None:
        x = b.binary("multiply", x, b.constant(np.reshape(scale, shape)))
    return x if bias is None else b.binary("add", x, b.constant(np.reshape(bias, shape)))


@lowering("LayerNormalization")
def layer_norm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or len(shapes) != 1 or any(v is not None and not v.known for v in inputs[1:]):
        return None
    first = node.attributes.get("axis", -1) % len(x.shape)
    scale, bias = (*map(known, inputs[1:]), None)[:2]
    y = _standardized(b, x, range(first, len(x.shape)), node.attributes.get("epsilon", 1e-5))
    return [_affine(b, y, scale, bias, np.shape(scale))]


@lowering("InstanceNormalization")
def instance_norm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or any(v is None or not v.known for v in inputs[1:]):
        return None
    per_channel = [-1, *[1] * (len(x.shape) - 2)]
    y = _standardized(b, x, range(2, len(x.shape)), node.attributes.get("epsilon", 1e-5))
    return [_affine(b, y, known(inputs[1]), known(inputs[2]), per_channel)]


@lowering("BatchNormalization")
def batch_norm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, parameters = view(b, inputs[0]), [known(value) for value in inputs[1:]]
    trained = node.attributes.get("training_mode") or not node.attributes.get("spatial", 1)
    if x is None or len(shapes) != 1 or trained or any(p is None for p in parameters):
        return None
    per_channel = [-1, *[1] * (len(x.shape) - 2)]
    scale, bias, mean, variance = (np.asarray(p, np.float32).reshape(per_channel) for p in parameters)
    deviation = np.sqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5)))
    centered = b.binary("subtract", x, b.constant(mean))
    return [_affine(b, b.binary("divide", centered, b.constant(deviation)), scale, bias, per_channel)]


# ---- Recurrent layers -----------------------------------------------------------------------------------------------


@lowering("RNN", "GRU", "LSTM")
def recurrent(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """X (T, B, I) to Y (T, D, B, H), Y_h (D, B, H) and Y_c, or with the batch first."""
    X, W, R, bias, lengths, h, c, P = (*inputs, *[None] * 8)[:8]
    x = view(b, X)
    weights = [known(value) for value in (W, R, bias, P)]
    if x is None or node.layer is None or any(v and not v.known for v in (W, R, bias, lengths, P)):
        return None
    found = node.layer(*weights)
    if found is None:
        return None
    layer, reverse, batch_first = found
    states = [view(b, value) for value in (h, c)]
    if any(value is not None and v is None for value, v in zip((h, c), states, strict=True)):
        return None
    if batch_first:
        x, states = x.permuted(1, 0, 2), [v and v.permuted(1, 0, 2) for v in states]
    T, B, _ = x.shape
    if lengths is not None and (lengths.array != T).any():
        return None
    D, H = 1 + layer.bidirectional, layer.hidden_size
    if x.strides[2] != 1 and x.shape[2] > 1:
        x = b.contiguous(x)
    y, h_n = b.new(T, B, D * H), b.new(D, B, H)
    c_n = b.new(D, B, H) if layer.has_c else None
    states = [v and b.contiguous(v) for v in states]
    out = y
    if reverse:
        x, out = x.reversed(0), y.reversed(0)
    c0 = states[1] if layer.has_c else None
    b.add("recurrent", layer._kernel, x, states[0], c0, out, h_n, c_n)
    split = View(y.space, y.offset, (T, B, D, H), (B * D * H, D * H, H, 1))
    finals = [h_n, *([c_n] if c_n else [])]
    if batch_first:
        return [split.permuted(1, 0, 2, 3), *(v.permuted(1, 0, 2) for v in finals)]
    return [split.permuted(0, 2, 1, 3), *finals]

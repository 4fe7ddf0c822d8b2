"""Operations along axes: reductions, running sums, the largest elements, softmax and the normalizations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View
from .registry import Inputs, known, lowering, view


def _reduced(b: Builder, operation: str, x: View, axes: Sequence[int]) -> View:
    """Reduce some axes to size 1."""
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    ordered = x.permuted(*rest, *axes)
    kept = tuple(x.shape[axis] for axis in rest)
    y = b.reduce(operation, b.reshaped(ordered, *kept, math.prod(x.shape[axis] for axis in axes)))
    return y.reshaped(*(1 if axis in axes else size for axis, size in enumerate(x.shape)))  # type: ignore[return-value]


def _mean(b: Builder, x: View, axes: Sequence[int]) -> View:
    count = math.prod(x.shape[axis] for axis in axes)
    return b.binary("divide", _reduced(b, "sum", x, axes), b.scalar(count))


def _reduced_axes(node: Node, inputs: Inputs, rank: int) -> list[int] | None:
    """Return the axes of a reduction, from its attribute or input; None if they are unknown."""
    axes = node.attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = known(inputs[1])
        if axes is None:
            return None
    if axes is None or not len(axes):
        return None if node.attributes.get("noop_with_empty_axes") else list(range(rank))
    return sorted(int(axis) % rank for axis in axes)


# The function before the sum or maximum, the reduction, and the function after it.
REDUCTIONS: dict[str, tuple[str | None, str, str | None]] = {
    "GlobalMaxPool": (None, "maximum", None),
    "ReduceL1": ("absolute", "sum", None),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceLogSum": (None, "sum", "log"),
    "ReduceMax": (None, "maximum", None),
    "ReduceMin": ("negative", "maximum", "negative"),
    "ReduceSum": (None, "sum", None),
    "ReduceSumSquare": ("square", "sum", None),
}


@lowering(*REDUCTIONS, "ReduceMean", "GlobalAveragePool")
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
        before, operation, after = REDUCTIONS[node.operation]
        if before == "square":
            x = b.binary("multiply", x, x)
        elif before:
            x = b.map("unary", before, x)
        y = _reduced(b, operation, x, axes)
        y = b.map("unary", after, y) if after else y
    return [y.reshaped(*shapes[0])]  # type: ignore[list-item]


@lowering("CumSum")
def running_sum(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Sum up along an axis, from the end if `reverse`, without the element itself if `exclusive`."""
    x, at = view(b, inputs[0]), known(inputs[1])
    if x is None or at is None:
        return None
    axis = int(at.item()) % len(x.shape)
    y = b.new(*x.shape)
    order = (axis, *(other for other in range(len(x.shape)) if other != axis))
    source, target = x.permuted(*order), y.permuted(*order)
    if node.attributes.get("reverse"):
        source, target = source.reversed(0), target.reversed(0)
    if node.attributes.get("exclusive"):
        b.fill(0.0, target.sliced(0, 0, 1))
        n = x.shape[axis]
        source, target = source.sliced(0, 0, n - 1), target.sliced(0, 1, n)
    if source.shape[0]:
        b.add("accumulate", source, target)
    return [y]


@lowering("ArgMax", "ArgMin")
def extreme(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or node.attributes.get("select_last_index"):
        return None
    axis = node.attributes.get("axis", 0) % len(x.shape)
    _, indices = _top(b, x, axis, 1, node.operation == "ArgMax")
    return [b.reshaped(indices, *shapes[0])]


@lowering("TopK")
def top(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, k = view(b, inputs[0]), known(inputs[1]) if len(inputs) > 1 else np.array(node.attributes["k"])
    if x is None or k is None:
        return None
    axis = node.attributes.get("axis", -1) % len(x.shape)
    return list(_top(b, x, axis, int(k.item()), bool(node.attributes.get("largest", 1))))


def _top(b: Builder, x: View, axis: int, k: int, largest: bool) -> tuple[View, View]:
    """Return the k largest or smallest elements along an axis, in order, and their indices."""
    axes = (*(other for other in range(len(x.shape)) if other != axis), axis)
    rows = b.contiguous(x.permuted(*axes))
    values, indices = b.new(*rows.shape[:-1], k), b.new(*rows.shape[:-1], k, dtype="int64")
    b.add("top", largest, rows, values, indices)
    back = np.argsort(axes)
    return values.permuted(*back), indices.permuted(*back)


@lowering("Softmax", "LogSoftmax")
def softmax(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axis = view(b, inputs[0]), node.attributes.get("axis")
    if x is None or axis is None:  # the default axis depends on the opset
        return None
    axis %= len(x.shape)
    if node.attributes["joins_axes"] and axis != len(x.shape) - 1:
        return None
    return [b.rows("softmax", node.operation == "LogSoftmax", x, [axis])]


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
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), x, range(first, len(x.shape)))
    return [_affine(b, y, scale, bias, np.shape(scale))]


@lowering("InstanceNormalization")
def instance_norm(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x = view(b, inputs[0])
    if x is None or any(v is None or not v.known for v in inputs[1:]):
        return None
    per_channel = [-1, *[1] * (len(x.shape) - 2)]
    y = b.rows("standardize", node.attributes.get("epsilon", 1e-5), x, range(2, len(x.shape)))
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

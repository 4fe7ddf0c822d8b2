"""Recognize loops over the steps of a gated delta rule, which the core runs as one step of the same bits."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core import budget
from ..node import Node
from ..patterns import Matcher, Pattern
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_axis
from .control import SCAN_OUTPUTS, loop_inputs
from .registry import OPERATIONS_OF_ELEMENT, Inputs
from .value import view

# S' = S decay + k (beta (v - (k S) decay))^T and y = q S', where k, v and q are vectors for each row and head
DECAY, KEY_ROW = ("Unsqueeze", "decay", "matrix"), ("Unsqueeze", "k", "row")
RECALLED = ("Mul", ("MatMul", KEY_ROW, "S"), DECAY)
ADDED = ("Mul", ("Sub", ("Unsqueeze", "v", "row"), RECALLED), ("Unsqueeze", "beta", "matrix"))
AFTER = ("Add", ("Mul", "S", DECAY), ("Mul", ("Unsqueeze", "k", "column"), ADDED))
READ = ("Squeeze", ("MatMul", ("Unsqueeze", "q", "row"), "after"), "row")
READS = {4: READ, 5: ("Squeeze", READ, "first")}  # by the axes of S; the first of five has one element
AXES = {"row": [-2], "column": [-1], "matrix": [-2, -1], "first": [0]}
VECTORS, NUMBERS = ("q", "k", "v"), ("decay", "beta")


def as_delta_rule(b: Builder, node: Node, count: Any, values: Inputs) -> list[View] | None:
    """Return the views of the state and the outputs of a loop of so many iterations, or None."""
    body = node.attributes["body"]
    states, _, outer = loop_inputs(values, node.captured)
    state = view(b, states[0]) if len(states) == 1 else None
    written = [node.attributes.get(name) or () for name in SCAN_OUTPUTS]
    if state is None or len(state.shape) not in READS or len(body.outputs) != 3 or any(map(any, written)):
        return None
    matcher, (_, after, y) = Matcher(body), body.outputs
    names = _names(matcher, AFTER, after) | _names(matcher, READS[len(state.shape)], y)
    if (names.get("S"), names.get("after")) != (body.inputs[2].name, after):
        return None
    inner = [declared.name for declared in body.inputs]
    sequences = dict(zip(inner[len(inner) - len(outer) :], outer, strict=True))
    arrays = {}
    for name in (*VECTORS, *NUMBERS):
        gather = matcher.makers.get(names[name])
        if gather is None or gather.operation != "Gather" or gather.inputs[1] != inner[0]:
            return None
        x = view(b, sequences.get(gather.inputs[0]))
        if x is None or len(x.shape) != (4 if name in VECTORS else 3):
            return None
        axis = as_axis(gather.attributes.get("axis", 0), len(x.shape))
        first, *rest = (other for other in range(len(x.shape)) if other != axis)
        arrays[name] = x.permuted(first, axis, *rest)
    return _steps(b, state, arrays, count) if _fit(state, arrays, count) else None


def _names(matcher: Matcher, pattern: Pattern, value: str) -> dict[str, str]:
    """Return what the names of a pattern stand for, or nothing unless it matches with the axes of `AXES`."""
    found = matcher.find(pattern, value)
    if found is None:
        return {}
    axes = {name: found.constant(name) for name in found.values.keys() & AXES.keys()}
    is_same = all(array is not None and array.tolist() == AXES[name] for name, array in axes.items())
    return found.values if is_same else {}


def _fit(state: View, arrays: Mapping[str, View], count: Any) -> bool:
    """Whether the arrays (batch, T, heads, ...) and the state have the sizes of a delta rule."""
    (B, T, H, K), V = arrays["k"].shape, arrays["v"].shape[3]
    rows = B, T, H
    expected = {"q": (*rows, K), "v": (*rows, V), "decay": rows, "beta": rows}
    if any(arrays[name].shape != shape for name, shape in expected.items()):
        return False
    return bool(T == count and state.shape == (*[1] * (len(state.shape) - 4), B, H, K, V))


def _steps(b: Builder, state: View, arrays: Mapping[str, View], count: Any) -> list[View]:
    """Add the step of the core."""
    B, _, H, K = arrays["k"].shape
    V = arrays["v"].shape[3]
    vectors = [x if x.strides[3] == 1 else b.contiguous(x) for x in map(arrays.__getitem__, VECTORS)]
    numbers = [x.with_axes((*x.shape, 1), (*x.strides, 1)) for x in map(arrays.__getitem__, NUMBERS)]
    before, after = (b.reshaped(x, B, H, K, V) for x in (state, b.new(*state.shape)))
    y = b.new(count, B, H, V)
    b.count(count * (budget.STEP + 3 * OPERATIONS_OF_ELEMENT * math.prod(state.shape)))
    b.add(
        "linear_attention",
        np.float32(1),
        *vectors,
        b.contiguous(before),
        *numbers,
        y.permuted(1, 0, 2, 3),
        after,
    )
    return [after.reshaped(*state.shape), y]  # type: ignore[list-item]  # after is contiguous

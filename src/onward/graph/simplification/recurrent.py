"""Write ONNX's recurrent nodes as layers of Onward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..node import Node
from ..operations.recurrent import new_layer
from .registry import rewrite

if TYPE_CHECKING:
    from .simplify import Simplifier


@rewrite("RNN", "GRU", "LSTM")
def _recurrent(s: Simplifier, node: Node) -> Iterator[Node]:
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
    s: Simplifier, prefix: str, y: str, output: str, D: int, batch_first: bool, name: tuple[str, str]
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
    s: Simplifier,
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

"""Write ONNX's recurrent nodes as layers of Onward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
    weights: list[Any] = [s.constants.get(name) for name in (W, R, B, P)]
    if any(array is None for array, name in zip(weights, (W, R, B, P), strict=True) if name) or any(
        array is not None and array.dtype not in (np.float32, np.float64) for array in weights
    ):
        yield node
        return
    layer = new_layer(node.operation, node.attributes, *weights)  # if it raises, the node stays
    prefix, name = next(filter(None, node.outputs)), (node.name, node.source or node.operation)
    batch_first, D = node.attributes.get("layout") == 1, 1 + layer.bidirectional
    given = [X, h, c][: 1 + len(layer.state_names)]
    swapped = {"perm": [1, 0, 2]}
    for place, value in enumerate(given):
        if batch_first and value:
            given[place] = f"{prefix}/input_{place}"
            yield Node("Transpose", (value,), (given[place],), swapped, *name)
    y, *states = outputs = [f"{prefix}/output_{place}" for place in range(len(given))]
    attributes = {"layer": layer, "reverse": node.attributes.get("direction") == "reverse"}
    yield Node("Recurrent", (given[0], lengths, *given[1:]), tuple(outputs), attributes, *name)
    Y, *final = (*node.outputs, "", "")[: len(outputs)]
    if Y and D == 1:  # y (T, B, H) to Y (T, 1, B, H), or (B, T, 1, H)
        if batch_first:
            yield Node("Transpose", (y,), (f"{prefix}/y",), swapped, *name)
            y = f"{prefix}/y"
        axis = s.constant(f"{prefix}/axis", np.array([2 if batch_first else 1]))
        yield Node("Unsqueeze", (y, axis), (Y,), {}, *name)
    elif Y:  # y (T, B, D*H) to Y (T, D, B, H), or (B, T, D, H)
        shape = s.constant(f"{prefix}/shape", np.array([0, 0, D, -1]))
        yield Node("Reshape", (y, shape), (f"{prefix}/y",), {}, *name)
        perm = [1, 0, 2, 3] if batch_first else [0, 2, 1, 3]
        yield Node("Transpose", (f"{prefix}/y",), (Y,), {"perm": perm}, *name)
    for value, output in zip(states, final, strict=True):  # (D, B, H), or (B, D, H)
        if output and lengths:  # 0 in rows of no steps, as in onnxruntime
            zero = s.constant(f"{prefix}/zero", np.zeros((), np.float32))
            yield Node("FinalState", (value, zero, lengths), (f"{output}/masked",), {}, *name)
            value = f"{output}/masked"
        if output and batch_first:
            yield Node("Transpose", (value,), (output,), swapped, *name)
        elif output:
            s.alias(output, value)

"""Compute sizes in int64, as Shape gives them, where a graph casts them to int32 and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..node import Node

if TYPE_CHECKING:
    from .simplify import Simplifier

MOVING = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape")  # their other inputs are no sizes


def keep_wide(s: Simplifier, node: Node) -> None:
    """Compute sizes of int32 also in int64, for a cast to it; other casts hide which sizes they are."""
    if node.operation == "Cast" and node.inputs and node.outputs:
        before = s.makers.get(node.inputs[0])
        if before is not None and before.operation == "Shape" and node.attributes.get("to") == np.int32:
            s.wide[node.outputs[0]] = node.inputs[0]
    if not s.wide or node.operation not in (*MOVING, "Concat") or s.wide.keys().isdisjoint(node.inputs):
        return
    if len(node.outputs) != 1:  # the error belongs to the call
        return
    count = len(node.inputs) if node.operation == "Concat" else 1
    sizes = [_wide(s, name) for name in node.inputs[:count]]
    if None not in sizes:
        output = f"{node.outputs[0]}/int64"
        inputs = (*filter(None, sizes), *node.inputs[count:])
        s.add(Node(node.operation, inputs, (output,), node.attributes, node.name))
        s.wide[node.outputs[0]] = s.names.get(output, output)


def _wide(s: Simplifier, name: str) -> str | None:
    """Return the name of sizes in int64, or None for values that are no sizes."""
    array = s.constants.get(name)
    if array is None:
        return s.wide.get(name)
    return s.constant(f"{name}/int64", array.astype(np.int64)) if array.dtype == np.int32 else None

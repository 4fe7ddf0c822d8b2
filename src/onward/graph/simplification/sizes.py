"""Find values that hold integers of 64 bits, and compute sizes in int64 where a graph casts them to int32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..node import Node

if TYPE_CHECKING:
    from .simplify import Simplifier

MOVING = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape")  # their other inputs are no sizes

JOINING = ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Concat", "Neg", "Abs")


def keep_integers(s: Simplifier, node: Node) -> None:
    """Note whether the outputs hold integers of 64 bits: sizes, and what is computed from them."""
    operation, inputs = node.operation, node.inputs
    if operation == "ConstantOfShape":
        is_integer = getattr(node.attributes.get("value"), "dtype", None) == np.int64
    elif operation in (*MOVING, "Transpose", "Expand", *JOINING):
        read = inputs if operation in JOINING else inputs[:1]
        is_integer = bool(read) and all(holds_integers(s, name) for name in read)
    else:
        is_integer = operation in ("Shape", "Size")
    if is_integer:
        s.integers.update(node.outputs)


def holds_integers(s: Simplifier, name: str) -> bool:
    """Whether a value is known to hold integers of 64 bits."""
    array = s.constants.get(name)
    return name in s.integers if array is None else array.dtype == np.int64


def keep_wide(s: Simplifier, node: Node) -> None:
    """Compute sizes of int32 also in int64, for a cast to it; other casts hide which sizes they are."""
    if len(node.outputs) != 1:  # the error belongs to the call
        return
    (output,) = node.outputs
    if node.operation == "Shape":
        s.wide[output] = output
        return
    is_cast = node.operation == "Cast" and node.attributes.get("to") == np.int32
    if not is_cast and node.operation not in (*MOVING, "Concat"):
        return
    moved = node.inputs if node.operation == "Concat" else node.inputs[:1]
    if s.wide.keys().isdisjoint(moved):
        return
    sizes = tuple(filter(None, (_wide(s, name) for name in moved)))
    if is_cast:
        s.wide[output] = sizes[0]
    elif sizes == moved:
        s.wide[output] = output
    elif len(sizes) == len(moved):
        name = f"{output}/int64"
        inputs = *sizes, *node.inputs[len(moved) :]
        s.add(Node(node.operation, inputs, (name,), node.attributes, node.name))
        s.wide[output] = s.names.get(name, name)


def _wide(s: Simplifier, name: str) -> str | None:
    """Return the name of sizes in int64, or None for values that are no sizes."""
    array = s.constants.get(name)
    if array is None:
        return s.wide.get(name)
    if array.dtype == np.int32:
        return s.constant(f"{name}/int64", array.astype(np.int64))
    return name if array.dtype == np.int64 else None

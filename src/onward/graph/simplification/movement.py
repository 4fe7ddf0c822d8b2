"""Remove nodes that change nothing, and join nodes that only move elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..node import AnyArray, Node
from .registry import rewrite

if TYPE_CHECKING:
    from .simplify import Simplifier

UNBOUNDED = 2**31 - 1  # an end of a slice that lies beyond each axis


@rewrite("Identity")
def _identity(s: Simplifier, node: Node) -> str:
    return node.inputs[0]


@rewrite("Dropout")
def _dropout(s: Simplifier, node: Node) -> str | None:
    """Dropout changes nothing, unless it trains or its mask is used."""
    is_kept = len(node.inputs) > 2 or len(list(filter(None, node.outputs))) > 1
    return None if is_kept else node.inputs[0]


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
    return x if is_still else node._replace(inputs=(x,), attributes={"perm": perm})


@rewrite("Reshape")
def _reshape(s: Simplifier, node: Node) -> Node | None:
    """The second of two shapes decides, unless it copies sizes of the first."""
    before, shape = s.makers.get(node.inputs[0]), _integers(s, node, 1)
    if before is None or before.operation not in ("Reshape", "Flatten") or not shape or 0 in shape:
        return None
    return node._replace(inputs=(before.inputs[0], node.inputs[1]))


@rewrite("Cast")
def _cast(s: Simplifier, node: Node) -> str | None:
    """A value that has been cast to a dtype has it."""
    before = s.makers.get(node.inputs[0])
    is_cast = before is not None and before.operation == "Cast" and before.attributes == node.attributes
    return node.inputs[0] if is_cast else None


@rewrite("Concat", "Split")
def _one_part(s: Simplifier, node: Node) -> str | None:
    """The concatenation of one array is the array, and so is its only part."""
    is_one = len(node.inputs) == 1 if node.operation == "Concat" else len(node.outputs) == 1
    return node.inputs[0] if is_one and not any(node.inputs[1:]) else None


@rewrite("Slice")
def _slice(s: Simplifier, node: Node) -> str | None:
    """A slice of everything is the array."""
    starts, ends, steps = _integers(s, node, 1), _integers(s, node, 2), _integers(s, node, 4)
    forward = steps is not None and set(steps) == {1} if any(node.inputs[4:]) else True
    is_whole = starts and ends and forward and set(starts) == {0} and min(ends) >= UNBOUNDED
    return node.inputs[0] if is_whole else None


@rewrite("Pad")
def _pad(s: Simplifier, node: Node) -> str | None:
    """Padding by nothing changes nothing."""
    widths = _integers(s, node, 1)
    return None if widths is None or any(widths) else node.inputs[0]


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
    return None if array is None else [int(number) for number in np.ravel(array)]

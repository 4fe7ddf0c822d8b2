"""The rule of Reshape over time: steps become several or fewer, and rows join them or leave them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..node import Node
from ..size import is_symbolic
from .registry import over_time


def _ratio(size: Any, other: Any) -> int:
    """Return a size divided by another one; 0 if the quotient is not an integer."""
    found = size // other
    return found if type(found) is int and found * other == size else 0


def _moved(time: Any, x: str, axis: int, place: int) -> str:
    """Move an axis to another place."""
    order = list(range(len(time.shape(x))))
    order.insert(place, order.pop(axis))
    return str(time.add("Transpose", x, perm=order))


def _without_rows(time: Any, x: str, place: int, rows: Sequence[int]) -> tuple[str, Any]:
    """Separate the rows from the time axis, and return the value and its timing."""
    axis, timing, shape = time.axis(x), time.timing(x).split(place), time.shape(x)
    split = time.add("Reshape", x, time.constant(np.array([*[0] * axis, -1, *rows, *shape[axis + 1 :]])))
    return str(time.define_new(_moved(time, split, axis, place), timing)), timing


def _joined_steps(time: Any, node: Node, x: str, count: int, rest: Sequence[int]) -> tuple[str, Any]:
    """Join each `count` steps to one with the sizes `rest`, and return the value and its timing."""
    x = time.windows(node.with_inputs(x), x, count, count, 0, 0, 0)
    timing = time.timing(x)
    time.upsampled(x, x, count, 0)
    return str(time.add("Reshape", x, time.constant(np.array([*[0] * timing.axis, -1, *rest])))), timing


@over_time("Reshape")
def _(time: Any, node: Node) -> None:
    """Join time with other axes, or split it; sizes of the whole sequence become those of any block."""
    (x, *_), (output,) = node.inputs, node.outputs
    axis, place = time.axis(x), time.axis_of_output(node)
    if axis is None or place is None:
        time.unchanged(node)
        return
    before, after, timing = time.shape(x), time.shape(output), time.timing(x)
    pairs = enumerate(zip(before, after, strict=False))
    kept = next(i for i, (a, b) in pairs if a != b or i in (axis, place))
    sizes = time.constant(np.array([*[0] * kept, *after[kept:place], -1, *after[place + 1 :]]))
    leaving, joining = math.prod(after[axis:place]), math.prod(before[place:axis])  # rows
    several, few = _ratio(after[place], before[axis]), _ratio(before[axis] * joining, after[place] * leaving)
    changes = (leaving, joining, few) != (1, 1, 1) and kept == min(axis, place) and few > 0
    if kept == axis == place and several > 1:  # each step becomes several
        joined = time.add("Reshape", x, sizes)
        time.define(output, joined, time.timing(time.upsampled(x, joined, several, 0)))
    elif changes and leaving == timing.rows and not is_symbolic([joining]):
        if leaving > 1:
            x, timing = _without_rows(time, x, place, after[axis:place])
        if few > 1:
            x, timing = _joined_steps(time, node, x, few, after[place + 1 :])
        if joining > 1:
            x, timing = _moved(time, x, axis, place), timing.merged(place, joining)
        time.define(output, time.add("Reshape", x, sizes), timing.at(place))
    else:
        fixed = Node("Reshape", (x, sizes), node.outputs, {}, node.name, node.source)
        time.unchanged(node if time.accepts(node, place) else fixed)

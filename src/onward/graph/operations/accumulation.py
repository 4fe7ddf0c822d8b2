"""Cumulative sums and products, in the order of the indices."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ..node import AnyArray, Node
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_axis
from .registry import Inputs, Known, along_time, known, like_first, lowering, operation, over_time, view


def _combines(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    x, axis = inputs
    return [[as_axis(int(axis.item()), len(x.shape))], ()]  # type: ignore[union-attr]  # neither is optional


def _define(name: str, function: Callable[..., Any], first: int) -> None:
    @operation(name, signature=like_first, widens=True, combines=_combines)
    def compute(x: AnyArray, axis: AnyArray, *, exclusive: int = 0, reverse: int = 0) -> Any:
        """Each element covers itself and those before it, or those after it if `reverse`; itself is left out
        if `exclusive`."""
        place = as_axis(int(axis.item()), x.ndim)
        x = np.flip(x, place) if reverse else x
        y = function(x, place, dtype=x.dtype)
        if exclusive:
            shifted = np.full_like(y, first)
            later, earlier = ((slice(None),) * place + (part,) for part in (slice(1, None), slice(-1)))
            shifted[later] = y[earlier]
            y = shifted
        return np.flip(y, place) if reverse else y


_define("CumSum", np.cumsum, 0)
_define("CumProd", np.cumprod, 1)


@lowering("CumSum")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, place = view(b, inputs[0]), known(inputs[1])
    if x is None or place is None:
        return None
    axis = as_axis(int(place.item()), len(x.shape))
    y = b.new(*x.shape)
    order = (axis, *(other for other in range(len(x.shape)) if other != axis))
    source, target = x.permuted(*order), y.permuted(*order)
    if node.attributes.get("reverse"):
        source, target = source.reversed(0), target.reversed(0)
    if node.attributes.get("exclusive"):
        b.add("copy", b.scalar(0.0, target.dtype), target.sliced(0, 0, 1))
        n = x.shape[axis]
        source, target = source.sliced(0, 0, n - 1), target.sliced(0, 1, n)
    if source.shape[0]:
        b.add("accumulate", source, target)
    return [y]


@over_time("CumSum", "CumProd")
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the last element, an axis without elements before the first."""
    if node.attributes.get("reverse") or node.attributes.get("exclusive"):
        time.refuse(node, "its sum starts at the last step, or leaves out the present one")
    sizes = list(time.shape(node.inputs[0]))
    sizes[axis] = 0
    before = time.carry(node, np.zeros(sizes, time.dtype(node.inputs[0])), axis)
    joined = time.add("Concat", before, node.inputs[0], axis=axis)
    sums = time.add(node.operation, joined, node.inputs[1])
    time.keep(before, time.slice(sums, axis, -1))
    y, _ = time.add_all("Skip", (before, sums), 2, axis=axis)
    time.define(node.outputs[0], y, time.timing(node.inputs[0]))

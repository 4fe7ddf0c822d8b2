"""The steps of products: a loop that multiplies the elements along an axis in their order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Graph
from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder, inverse
from ..plan.view import View
from .arguments import as_axis
from .reductions import NUMBERS, axis_first, cum_prod, reduced_axes
from .registry import Inputs, lowering
from .value import Value, known, typed_view


@lowering("ReduceProd")
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, axes = typed_view(b, inputs[0]), (*inputs, None)[1]
    if x is None or x.dtype == "bool" or (axes is not None and not axes.known):
        return None
    rank = len(x.shape)
    reduced = reduced_axes(known(axes), rank, node.attributes.get("noop_with_empty_axes", 0))
    rest = [axis for axis in range(rank) if axis not in reduced]
    kept, count = [x.shape[axis] for axis in rest], math.prod(x.shape[axis] for axis in reduced)
    found = _products(b, b.reshaped(x.permuted(*reduced, *rest), count, *kept))
    return found and [b.reshaped(found[0], *shapes[0])]


@cum_prod.steps(NUMBERS, views=(0,))
def _(b: Builder, x: View, axis: AnyArray, *, exclusive: int = 0, reverse: int = 0) -> View | None:
    order = axis_first(as_axis(int(axis.item()), len(x.shape)), len(x.shape))
    steps = x.permuted(*order)
    found = _products(b, steps.reversed(0) if reverse else steps, bool(exclusive))
    if found is None:
        return None
    y: View = found[1].reversed(0) if reverse else found[1]
    return y.permuted(*inverse(order))


def _products(b: Builder, steps: View, excludes: bool = False) -> list[Any] | None:
    """Return the views of the product of all steps and of those up to each one, which it may exclude.

    Returns None if the core cannot compute them.
    """
    body = Graph()
    i, again, before, x = (body.add_input(name) for name in ("i", "again", "before", "x"))
    after = body.add("Mul", before, body.add("Gather", x, i, axis=0))
    body.outputs = again, after, before if excludes else after
    graph = Graph(constants={"axis": np.array(0)})
    count = graph.add("Gather", graph.add("Shape", "x"), "axis")
    graph.outputs = graph.add_all("Loop", [count, "", "one", "x"], 2, body=body, captured=1)
    one = b.new(*steps.shape[1:], dtype=steps.dtype)
    b.add("copy", b.scalar(1, steps.dtype), one)
    values = {
        name: Value(Signature(each.shape, np.dtype(each.dtype)), each)
        for name, each in (("one", one), ("x", steps))
    }
    found = b.add_nodes(graph, values, 1)
    views = [typed_view(b, value) for value in found or ()]
    return views if views and None not in views else None

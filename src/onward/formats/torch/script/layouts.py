"""How the elements of tensors lie in memory, which decides whether reshape returns a view or a copy.

As in PyTorch, elementwise operators keep the order of the axes of their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any

from ....core import budget
from ....graph.node import REFUSALS, Node, Signature
from ....graph.operations import OPERATIONS
from ....graph.operations.registry import elementwise
from ....graph.plan.strided import Strided
from ....graph.plan.view import View
from ....graph.size import are_same
from ..aten.registry import INT64, Tensor
from .recording import Recording

Layout = Callable[[], View | None]  # None: it is not known


def copies(graph: Recording, x: Tensor, value: str, all_out_of_order: bool) -> Callable[[], bool | None]:
    """Return a function that tells whether a value, the elements of a tensor in C order, is a copy."""
    before = _now(graph, x)

    def is_copy() -> bool | None:
        view, known = before(), graph.known(value)
        if view is None or known is None:
            return None
        if view.is_contiguous():
            return False
        with _deciding(graph):  # the strides of axes of size 1 do not matter
            here, after = ([1 if n == 1 else n for n in x] for x in (view.shape, Signature.of(known).shape))
            view = view.with_axes(here, view.strides)
            return not _is_in_order(view) and (all_out_of_order or view.reshaped(*after) is None)

    return is_copy


def _is_in_order(view: View) -> bool:
    """Whether a view is contiguous for the sizes that decide."""
    expected: Any = 1
    for size, stride in zip(view.shape[::-1], view.strides[::-1], strict=True):
        if size != 1 and stride != expected:
            return False
        expected = expected * size
    return True


def _now(graph: Recording, x: Tensor) -> Layout:
    """Return the layout of the present value of a tensor; later writes may replace the value."""
    name, layout = x.name, x.layout
    if layout is not None:
        return layout

    def in_order() -> View | None:
        known = graph.known(name)
        return None if known is None else View.contiguous(0, 0, Signature.of(known).shape)

    return in_order


def moved(graph: Recording, x: Tensor, value: str) -> Layout | None:
    """Return the layout of a value that nodes moved out of a tensor, or None if it is in C order."""
    start, before = x.name, _now(graph, x)
    if value == start:
        return x.layout

    @cache
    def layout() -> View | None:
        view = before()
        nodes: list[tuple[Node, int]] = []
        name = value
        while name != start:
            if (node := graph.makers.get(name)) is None or not OPERATIONS[node.operation].moves:
                return None
            nodes.append((node, node.outputs.index(name)))
            name = node.inputs[0]
        for node, place in reversed(nodes):
            view = view and _after(graph, node, place, view)
        return view

    return layout


def _after(graph: Recording, node: Node, place: int, view: View) -> View | None:
    """Return the layout of the output of a node."""
    budget.spend(50 * budget.STEP)
    others = [graph.known(name) if name else None for name in node.inputs[1:]]
    if any(isinstance(other, Signature) for other in others):
        return None
    with suppress(*REFUSALS), _deciding(graph):
        found = Strided(view, INT64).moved(OPERATIONS[node.operation].function, others, node.attributes)
        return None if found is None else found[place]
    return None


def like(graph: Recording, tensors: Sequence[Tensor], value: str) -> Layout | None:
    """Return the layout of a new value computed from tensors, or None if it is in C order."""
    maker, known = graph.makers.get(value), graph.known(value)
    is_same = any(value == x.name for x in tensors)
    if not is_same and (maker is None or OPERATIONS[maker.operation].combines is not elementwise):
        return None
    if known is None or all(x.layout is None for x in tensors):
        return None
    shape = Signature.of(known).shape
    whole = [view for x in tensors if x.rank == len(shape) and ((view := _now(graph, x)()) is not None)]
    # the first input that is not broadcast decides
    first = next(
        (view for view in whole if all(map(are_same, view.shape, shape))), whole[0] if whole else None
    )
    if first is None:
        return unknown
    order = _order(graph, first)
    if order == sorted(order):
        return None
    dense = View.contiguous(0, 0, tuple(shape[axis] for axis in order))
    view = dense.permuted(*map(order.index, range(len(order))))
    return lambda: view


def unknown() -> None:
    """Return None, the layout of a tensor whose layout is not known."""


def _order(graph: Recording, view: View) -> list[int]:
    """Return the order of the axes in memory."""
    order: list[int] = []
    with graph.axes.separate():
        for axis, stride in enumerate(view.strides):
            place = next((i for i, other in enumerate(order) if view.strides[other] < stride), len(order))
            order.insert(place, axis)
    return order


def _deciding(graph: Recording) -> AbstractContextManager[Any]:
    """Let the sizes decide: by guards, or as they do for most sizes if the graph holds for all."""
    return graph.axes.separate() if graph.axes.is_general else nullcontext()

"""Operations of graphs over one block of a sequence: they join a block with what earlier blocks left.

The number of steps that they keep follows from the shapes, so that a plan of the core fixes it.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature, with_size
from ..plan.builder import Builder
from ..plan.view import View
from .movement import joined
from .registry import OPERATIONS, Inputs, operation
from .value import Value, typed_view

# The steps of one output: the inputs that it joins, along an axis, and the first and last step that it takes.
Steps = tuple[tuple[int, ...], int, int, int]


def _define(name: str, take: Callable[..., list[Steps]]) -> None:
    """Define an operation whose outputs are steps of joined inputs, which `take` returns for their shapes."""

    def taken(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Steps]:
        return take(*(x.shape for x in inputs), **attributes)

    def signature(*inputs: Operand, **attributes: Any) -> list[Signature]:
        return [
            with_size(inputs[joined[-1]], axis, stop - start)
            for joined, axis, start, stop in taken(inputs, attributes)
        ]

    @functools.wraps(take)
    def compute(*inputs: AnyArray, **attributes: Any) -> tuple[AnyArray, ...]:
        return tuple(
            np.concatenate([inputs[i] for i in joined], axis)[(slice(None),) * axis + (slice(start, stop),)]
            for joined, axis, start, stop in taken(inputs, attributes)
        )

    def combines(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
        axes = {i: [axis] for joined, axis, *_ in taken(inputs, node.attributes) for i in joined}
        return [axes.get(i, ()) for i in range(len(inputs))]  # along all others, they only move elements

    defined = operation(name, signature=signature, combines=combines)(compute)
    defined.lowers_empty = True

    @defined.lowering
    def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
        outputs = taken(inputs, node.attributes)
        axes = {joined: axis for joined, axis, *_ in outputs}  # once, if several outputs are parts of it
        arrays: dict[Any, Any] = {i: _joined(b, [inputs[k] for k in i], axis) for i, axis in axes.items()}
        if None in arrays.values():
            return None
        return [arrays[joined].sliced(axis, start, stop) for joined, axis, start, stop in outputs]


def _continue(
    before: tuple[int, ...], x: tuple[int, ...], *, axis: int, span: int, stride: int
) -> list[Steps]:
    """Return the steps of the complete windows of `before` and x, and the steps that later windows need."""
    steps = before[axis] + x[axis]
    n = max(0, (steps - span) // stride + 1)
    return [((0, 1), axis, 0, (n - 1) * stride + span if n else 0), ((0, 1), axis, n * stride, steps)]


def _skip(count: tuple[int, ...], x: tuple[int, ...], *, axis: int) -> list[Steps]:
    """Drop as many first steps of x as `count` has, and return the steps of `count` that remain."""
    skipped = min(count[axis], x[axis])
    return [((1,), axis, skipped, x[axis]), ((0,), axis, 0, count[axis] - skipped)]


def _align(*pairs: tuple[int, ...], axes: Sequence[int], are_equal: bool) -> list[Steps]:
    """Return the steps that all of several sequences have, and the steps of each that the others lack.

    The inputs are (steps held back before, new steps) of each sequence. If `are_equal`, no step may remain.
    """
    totals = [pairs[2 * i][axis] + pairs[2 * i + 1][axis] for i, axis in enumerate(axes)]
    n = min(totals)
    if are_equal and n < max(totals):
        raise _unequal(totals)
    joined = [((2 * i, 2 * i + 1), axis) for i, axis in enumerate(axes)]
    return [
        *((*each, 0, n) for each in joined),
        *((*each, n, total) for each, total in zip(joined, totals, strict=True)),
    ]


def _broadcast_rest(*parts: tuple[int, ...], axes: Sequence[int]) -> list[Steps]:
    """Return the steps that remain of several sequences, of which those of one step are repeated.

    The inputs are (first steps, at most two of those that were returned before; steps held back before; new
    steps) of each sequence.
    """
    lengths = [sum(x[axis] for x in parts[3 * i : 3 * i + 3]) for i, axis in enumerate(axes)]
    start, n = parts[0][axes[0]], next((length for length in lengths if length != 1), 1)
    if any(length not in (1, n) for length in lengths):
        raise _unequal([length - start for length in lengths])
    return [
        ((3 * i + 1, 3 * i + 2), axis, 0, n - start)
        if length == n
        else ((3 * i, 3 * i + 1, 3 * i + 2) * max(1, int(n)), axis, start, n)
        for i, (axis, length) in enumerate(zip(axes, lengths, strict=True))
    ]


def _unequal(steps: Sequence[int]) -> ShapeError:
    return ShapeError(
        f"its inputs have {', '.join(map(str, steps))} steps left at the end, but need equally many: "
        "the model does not take a sequence of this length"
    )


_define("Continue", _continue)
_define("Skip", _skip)
_define("Align", _align)
_define("BroadcastRest", _broadcast_rest)


def _joined(b: Builder, values: Sequence[Value | None], axis: int) -> View | None:
    """Return the concatenation of values."""
    parts = [value for value in values if value is not None and 0 not in value.shape] or values[-1:]
    views = [x for value in parts if (x := typed_view(b, value)) is not None]
    if len(views) < len(parts):
        return None
    return views[0] if len(views) == 1 else joined(b, *views, axis=axis)


def _windows_signature(
    x: Operand, *others: Operand | None, node: Node, axis: int, span: int
) -> Sequence[Signature]:
    steps = x.shape[axis]
    found = OPERATIONS[node.operation].signatures(
        [with_size(x, axis, max(steps, span)), *others], node.attributes
    )
    assert found is not None
    return [with_size(y, axis, 0) for y in found] if steps < span else found


@operation("OverWindows", signature=_windows_signature)
def over_windows(
    x: AnyArray, *others: AnyArray | None, node: Node, axis: int, span: int
) -> tuple[AnyArray, ...]:
    """Run a node whose windows cover `span` steps of x; without as many steps, its outputs have none."""
    if x.shape[axis] < span:
        return tuple(np.zeros(*y) for y in _windows_signature(x, *others, node=node, axis=axis, span=span))
    return OPERATIONS[node.operation].compute([x, *others], node.attributes)


@over_windows.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    inner: Node = node.attributes["node"]
    lower = OPERATIONS[inner.operation].lower
    return lower(b, inner, inputs, shapes) if lower else None


@over_windows.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    inner = node.attributes["node"]
    first, *others = OPERATIONS[inner.operation].combines(inner, inputs)  # type: ignore[misc]  # windows have a rule
    return [{*first, node.attributes["axis"]}, *others]

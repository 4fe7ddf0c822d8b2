"""Operations of graphs over one block of a sequence: they join a block with what earlier blocks left.

The number of steps that they keep follows from the shapes, so that a plan of the core fixes it.
"""

from collections.abc import Collection, Sequence

import numpy as np

from ..node import AnyArray, Node, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .registry import OPERATIONS, Inputs, Known, Value, operation, typed_view


def _resized(x: Known, axis: int, size: int) -> Signature:
    return Signature((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


def _part(x: AnyArray, axis: int, start: int, stop: int) -> AnyArray:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def complete_windows(steps: int, span: int, stride: int) -> int:
    """Return the number of windows of `span` steps, `stride` apart, that fit into some steps."""
    return max(0, (steps - span) // stride + 1)


def _continue_signature(before: Known, x: Known, *, axis: int, span: int, stride: int) -> list[Signature]:
    steps = before.shape[axis] + x.shape[axis]
    n = complete_windows(steps, span, stride)
    return [
        _resized(x, axis, (n - 1) * stride + span if n else 0),
        _resized(x, axis, steps - n * stride),
    ]


@operation("Continue", signature=_continue_signature)
def continue_(
    before: AnyArray, x: AnyArray, *, axis: int, span: int, stride: int
) -> tuple[AnyArray, AnyArray]:
    """Return the steps of the complete windows of `before` and x, and the steps that later windows need."""
    windows, rest = _continue_signature(before, x, axis=axis, span=span, stride=stride)
    joined = np.concatenate([before, x], axis)
    total = joined.shape[axis]
    return (
        _part(joined, axis, 0, windows.shape[axis]),
        _part(joined, axis, total - rest.shape[axis], total),
    )


@continue_.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    axis = node.attributes["axis"]
    joined = _joined(b, inputs, axis)
    if joined is None:
        return None
    total = joined.shape[axis]
    windows, rest = (shape[axis] for shape in shapes)
    return [joined.sliced(axis, 0, windows), joined.sliced(axis, total - rest, total)]


def _joined(b: Builder, inputs: Sequence[Value | None], axis: int) -> View | None:
    """Return the concatenation of the inputs that are not empty."""
    values = [value for value in inputs if value is not None and 0 not in value.shape]
    views = [typed_view(b, value) for value in values]
    if not views or None in views:
        return None
    if len(views) == 1:
        return views[0]
    sizes = list(values[0].shape)
    sizes[axis] = sum(value.shape[axis] for value in values)
    whole, start = b.new(*sizes, dtype=values[0].dtype.name), 0
    for view in views:
        assert view is not None
        b.add("copy", view, whole.sliced(axis, start, start + view.shape[axis]))
        start += view.shape[axis]
    return whole


def _skip_signature(count: Known, x: Known, *, axis: int) -> list[Signature]:
    skipped = min(count.shape[axis], x.shape[axis])
    return [
        _resized(x, axis, x.shape[axis] - skipped),
        _resized(count, axis, count.shape[axis] - skipped),
    ]


@operation("Skip", signature=_skip_signature)
def skip(count: AnyArray, x: AnyArray, *, axis: int) -> tuple[AnyArray, AnyArray]:
    """Leave out as many steps of x as `count` has, and return `count` without as many."""
    y, rest = _skip_signature(count, x, axis=axis)
    size = x.shape[axis]
    return _part(x, axis, size - y.shape[axis], size), _part(count, axis, 0, rest.shape[axis])


@skip.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    axis, (rest, x) = node.attributes["axis"], (typed_view(b, value) for value in inputs)
    if x is None or rest is None:
        return None
    size = x.shape[axis]
    return [x.sliced(axis, size - shapes[0][axis], size), rest.sliced(axis, 0, shapes[1][axis])]


def _align_signature(*pairs: Known, axes: Sequence[int]) -> list[Signature]:
    held, xs = pairs[::2], pairs[1::2]
    totals = [h.shape[axis] + x.shape[axis] for h, x, axis in zip(held, xs, axes, strict=True)]
    n = min(totals)
    return [
        *(_resized(x, axis, n) for x, axis in zip(xs, axes, strict=True)),
        *(_resized(x, axis, total - n) for x, axis, total in zip(xs, axes, totals, strict=True)),
    ]


@operation("Align", signature=_align_signature)
def align(*pairs: AnyArray, axes: Sequence[int]) -> tuple[AnyArray, ...]:
    """Return the steps that all of several sequences have, and the steps of each that the others lack.

    The inputs are (steps held back before, new steps) of each sequence.
    """
    joined = [np.concatenate(pairs[2 * i : 2 * i + 2], axis) for i, axis in enumerate(axes)]
    n = min(x.shape[axis] for x, axis in zip(joined, axes, strict=True))
    return (
        *(_part(x, axis, 0, n) for x, axis in zip(joined, axes, strict=True)),
        *(_part(x, axis, n, x.shape[axis]) for x, axis in zip(joined, axes, strict=True)),
    )


@align.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    axes, views = node.attributes["axes"], []
    for i, axis in enumerate(axes):
        pair = inputs[2 * i : 2 * i + 2]
        view = _joined(b, pair, axis) or typed_view(b, pair[1])  # neither has steps
        if view is None:
            return None
        views.append(view)
    n = shapes[0][axes[0]]
    return [
        *(view.sliced(axis, 0, n) for view, axis in zip(views, axes, strict=True)),
        *(view.sliced(axis, n, view.shape[axis]) for view, axis in zip(views, axes, strict=True)),
    ]


def _windows_signature(
    x: Known, *others: Known | None, node: Node, axis: int, span: int
) -> Sequence[Signature]:
    steps = x.shape[axis]
    found = OPERATIONS[node.operation].signatures(
        [_resized(x, axis, max(steps, span)), *others], node.attributes
    )
    assert found is not None
    return [_resized(y, axis, 0) for y in found] if steps < span else found


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


for _name in ("Continue", "Skip", "Align"):
    OPERATIONS[_name].lowers_empty = True


# The axes that blocks differ in are those over time; along all others, the operations only move elements.
for _name in ("Continue", "Skip"):

    @OPERATIONS[_name].combining
    def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
        return [[node.attributes["axis"]]]


@align.combining
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    return [[axis] for axis in node.attributes["axes"] for _ in range(2)]


@over_windows.combining
def _(node: Node, inputs: Sequence[Known | None]) -> Sequence[Collection[int]]:
    inner = node.attributes["node"]
    first, *others = OPERATIONS[inner.operation].combines(inner, inputs)  # type: ignore[misc]  # windows have a rule
    return [{*first, node.attributes["axis"]}, *others]

"""Recurrent layers over sequences in which only the steps of a mask count."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .compositions import composed
from .recurrent import carry_states, keep_states
from .registry import operation

INT64 = np.dtype(np.int64)


def _steps_signature(mask: Operand | View, *, directions: int) -> list[Signature]:
    T, B = mask.shape
    return [Signature(shape, INT64) for shape in ((T, B), (B,), (T, B, directions))]


@operation("MaskedSteps", signature=_steps_signature, combines=lambda node, inputs: [(0, 1)])
def masked_steps(mask: AnyArray, *, directions: int) -> tuple[AnyArray, ...]:
    """How a layer runs over the steps at which a mask (T, B) is True, in one direction or in both.

    Returns the places of the inputs in (T * B) rows, those that count first, the number of these for each
    row, and the places (T, B, D) of the outputs in ((T + 1) * B * D) rows. A masked step repeats the output
    of the step before it in its direction; before the first one, that of an additional last step.
    """
    (T, B), count, total = mask.shape, np.cumsum(mask, axis=0), mask.sum(0)
    order = np.argsort(~mask, axis=0, kind="stable") * B + np.arange(B)
    after = count - mask  # in reverse, the step before a masked one is the next one in time
    steps = [np.where(count > 0, count - 1, T), np.where(after < total, after, T)][:directions]
    return order, total, (np.stack(steps, 2) * B + np.arange(B)[:, None]) * directions + np.arange(directions)


@masked_steps.steps(["bool"])
def _(b: Builder, mask: View, *, directions: int) -> list[View]:
    order, lengths, sources = (
        b.new(*y.shape, dtype="int64") for y in _steps_signature(mask, directions=directions)
    )
    b.add("masked_steps", mask, order, lengths, sources)
    return [order, lengths, sources]


@composed("MaskedRecurrent", combines=lambda node, inputs: [(0, 2), (0,), (0, 2)])
def masked_recurrent(x: Any, mask: Any, last: Any = None, *states: Any, cell: Any) -> Iterator[Any]:
    """Run a cell over the steps of x (T, B, I) at which a mask (T, B) is True, as Recurrent does.

    A masked step keeps the state. Its output repeats that of the step before it in the direction of the
    cell: before the first one `last` (1, B, P), by default zeros.
    """
    if mask.shape != x.shape[:2]:
        raise ShapeError(f"x has shape {x.shape}, but its mask {mask.shape}; expected {x.shape[:2]}")
    outputs = 1 + len(cell.state_names)
    if isinstance(mask.known, np.ndarray) and mask.known.all():
        yield from x.apply_all("Recurrent", None, *states, outputs=outputs, cell=cell)
        return
    order, lengths, sources = mask.apply_all("MaskedSteps", outputs=3, directions=cell.sizes.D)
    rows = x.apply("Flatten", axis=2).apply("Gather", order)
    y, *final = rows.apply_all("Recurrent", lengths, *states, outputs=outputs, cell=cell)
    y = y.apply("Pad", [0, 0, 0, 1, 0, 0]) if last is None else y.apply("Concat", last, axis=0)
    yield y.apply("Reshape", [-1, cell.sizes.P]).apply("Gather", sources).apply("Reshape", [0, 0, -1])
    yield from final


@masked_recurrent.over_time
def _(time: Any, node: Node) -> None:
    """Carry the states and the last output."""
    cell, x, mask = node.attributes["cell"], *node.inputs[:2]
    if cell.bidirectional:
        time.refuse(node, "its reverse direction starts at the last step of the sequence")
    if time.axis(x) != 0 or time.axis(mask) != 0:
        time.refuse(node, "its steps are not those of the time axis")
    last, *states = (*node.inputs[2:], "", "", "")[: 1 + len(cell.state_names)]
    B, names = time.shape(x)[1], [*cell.state_names, "last"]
    shapes = *cell.state_shapes(B), (1, B, cell.sizes.P)
    *carried, last = carry_states(time, node, names, [*states, last], shapes, cell.dtype)
    y, *finals = time.add_all("MaskedRecurrent", (x, mask, last, *carried), 1 + len(carried), cell=cell)
    time.define(node.outputs[0], y, time.timing(x))
    time.keep(last, time.slice(time.add("Concat", last, y, axis=0), 0, -1))
    keep_states(time, node, carried, finals)

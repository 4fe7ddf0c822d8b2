"""Recurrent layers over sequences in which only the steps of a mask count."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Expansion, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View, name_of
from .indexing import gathered
from .recurrent import add_recurrent, carry_states, keep_states, recurrent, weights_of_unit
from .registry import Inputs, operation
from .value import typed_view


def _signature(
    x: Operand, mask: Operand, last: Operand | None = None, *states: Operand | None, cell: Any
) -> list[Signature]:
    if mask.shape != x.shape[:2]:
        raise ShapeError(f"x has shape {x.shape}, but its mask {mask.shape}; expected {x.shape[:2]}")
    found = recurrent.signatures([x, None, *states], {"cell": cell})
    assert found is not None
    return list(found)


@operation("MaskedRecurrent", signature=_signature, combines=lambda node, inputs: [(0, 2), (0,), (0, 2)])
def masked_recurrent(
    x: AnyArray, mask: AnyArray, last: AnyArray | None = None, *states: AnyArray | None, cell: Any
) -> tuple[AnyArray, ...]:
    """Run a cell over the steps of x (T, B, I) at which a mask (T, B) is True, as Recurrent does.

    A masked step keeps the state. Its output repeats that of the step before it in the direction of the
    cell: before the first one `last` (1, B, P), by default zeros.
    """
    order = np.argsort(~mask, axis=0, kind="stable")
    packed = x[order, np.arange(x.shape[1])]
    y, *final = recurrent.compute([packed, mask.sum(0), *states], {"cell": cell})
    count = np.cumsum(mask, axis=0)
    halves = [unpacked(y[:, :, : cell.sizes.P], count - 1, last)]
    if cell.bidirectional:  # the step before a masked one in reverse is the next one in time
        halves.append(unpacked(y[:, :, cell.sizes.P :], count - mask, None, count[-1]))
    return np.concatenate(halves, axis=2) if cell.bidirectional else halves[0], *final


def unpacked(y: AnyArray, places: AnyArray, last: AnyArray | None, total: AnyArray | None = None) -> AnyArray:
    """Return the outputs at the places of their steps; outside of the sequence, `last` or zeros."""
    absent = places < 0 if total is None else places >= total
    steps: AnyArray = y[places.clip(0, len(y) - 1), np.arange(y.shape[1])]
    if absent.any():
        steps[absent] = 0 if last is None else np.broadcast_to(last, steps.shape)[absent]
    return steps


@masked_recurrent.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, mask, last, *initial = (typed_view(b, value) for value in (*inputs, None)[: max(3, len(inputs))])
    cell, (T, B, _) = node.attributes["cell"], shapes[0]
    given = zip(inputs[2:], (last, *initial), strict=False)
    if x is None or mask is None or not b.computes(cell.dtype) or T == 0:
        return None
    if any(value is not None and v is None for value, v in given):
        return None
    if any(v is not None and v.dtype != name_of(cell.dtype) for v in (x, last, *initial)):
        return None
    D, P = cell.sizes.D, cell.sizes.P
    order, sources = b.new(T, B, dtype="int64"), b.new(T, B, D, dtype="int64")
    lengths = b.new(B, dtype="int64")
    b.add("masked_steps", mask, order, lengths, sources)
    packed = gathered(b, b.reshaped(x, T * B, x.shape[2]), order, 0, str(node))
    steps, *final = (b.new(*shape, dtype=x.dtype) for shape in ((T + 1, B, D * P), *shapes[1:]))
    before = steps.sliced(0, T, T + 1)  # what masked steps repeat before the first one that counts
    b.add("copy", b.scalar(0, x.dtype) if last is None else last, before)
    add_recurrent(b, node, packed, initial, steps.sliced(0, 0, T), final, lengths)
    y = gathered(b, b.reshaped(steps, (T + 1) * B * D, P), sources, 0, str(node))
    return [b.reshaped(y, T, B, D * P), *final]


@masked_recurrent.expanding
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
    """Without masked steps, it is a Recurrent."""
    mask = inputs[1]
    if not isinstance(mask, np.ndarray) or not mask.all():
        return None
    x, _, _, *states = (*node.inputs, "")
    attributes = {"cell": node.attributes["cell"]}
    plain = (x, "", *(state for state in states if state))
    return Expansion([Node("Recurrent", plain, node.outputs, attributes, node.name, node.source)], {})


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


masked_recurrent.reading(weights_of_unit)

"""How a graph over one block runs the rows of a pool: which axes hold them, and whether they run together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.declared import as_declared
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows, likely_axes
from ..graph.over_time.streamed import MAX_PROGRAMS, Streamed
from ..graph.plan.planner import Planner

# Rows that run together, whose values stay in the caches: of 2,000 streams of Silero 6, each takes 16.7
# microseconds in blocks of 64, and 18.2 in a single one.
ROWS_AT_ONCE = 64

# The axes of rows and steps of an array of a call, how many it has, and its rate; -1: none, or any number.
Port = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rows:
    """How a graph runs the rows of a pool: together, or one after the other if the graph ties them together.

    The axes are those of the inputs, carries first, and of the other outputs that hold the rows. None is an
    axis before the others, which the graph does not have: each row of an input goes without it, and each
    stream gets the output. Those of the outputs may be unknown before the first call.
    """

    planner: Planner
    axes: Sequence[int | None]
    output_axes: Sequence[int | None] | None
    are_together: bool


class Part(NamedTuple):
    """The outputs and the next carries of streams that run together, and the places of their ids."""

    places: Any  # a slice or an array
    outputs: Sequence[AnyArray]
    carries: Sequence[AnyArray] = ()


def declared_rows(streamed: Streamed) -> Rows | None:
    """Return how rows run, unless the file leaves more sizes open than that of the batch."""
    declared = [d.axes for d in streamed.inputs]
    if any(axes is None or sum(isinstance(axis, str) for axis in axes) > 1 for axes in declared):
        return None
    one = [tuple(1 if isinstance(axis, str) else axis for axis in axes or ()) for axes in declared]
    return rows_for(streamed, one)


def rows_for(streamed: Streamed, shapes: Sequence[tuple[int, ...]]) -> Rows:
    """Return how rows run for inputs of these shapes, for one row."""
    shapes = [*(initial.shape for initial in streamed.initial), *shapes]
    declared = [d.axes or shape for d, shape in zip(streamed.graph.inputs, shapes, strict=True)]
    names = Counter(axis for axes in declared for axis in {*axes} if isinstance(axis, str) and axis)
    return together(streamed, shapes, [likely_axes(axes, names) for axes in declared]) or apart(
        streamed, [next(iter(likely_axes(d.axes or (), names)), None) for d in streamed.inputs]
    )


def together(streamed: Streamed, shapes: Any, choices: Sequence[Sequence[int]]) -> Rows | None:
    """Return how rows run together, if they can; `choices` are the possible axes of each input."""
    count = len(streamed.carries)
    if streamed.layers is not None:
        axes = [each[0] for each in choices]
        return Rows(streamed.planner, axes, [each.batch for each in streamed.outputs], True)
    try:
        graph, axes, outputs = by_rows(streamed.graph, count, shapes, choices)
    except ArgumentError:
        return None
    return Rows(Planner(graph, max_programs=MAX_PROGRAMS), axes, outputs[count:], True)


def apart(streamed: Streamed, axes: Sequence[int | None]) -> Rows:
    """Return how rows run one after the other, whose inputs have the rows on these axes."""
    outputs = None if streamed.last is None else [each.batch for each in streamed.outputs]
    return Rows(streamed.planner, [*[None] * len(streamed.carries), *axes], outputs, False)


def axes_of(outputs: Sequence[AnyArray], axes: Sequence[int | None]) -> list[int | None]:
    """Return the axis of each output that holds the row: that of the first input if possible."""
    places = [axis for axis in axes[:1] if axis is not None]
    found = [(y.shape, [*places, *range(y.ndim)] if places else []) for y in outputs]
    return [next((i for i in candidates if shape[i : i + 1] == (1,)), None) for shape, candidates in found]


def port(rows: int | None, time: int | None = None, axes: int = -1, rate: int = 1) -> Port:
    return -1 if rows is None else rows, -1 if time is None else time, axes, rate


def checked(declared: Any, block: AnyArray, axis: int | None, n: int) -> AnyArray:
    """Return an input with n rows in the declared dtype. Raises ShapeError, DtypeError."""
    place, axes = axis or 0, declared.axes
    if axes is not None:  # the file may declare one row
        axes = (*axes[:place], "", *axes[place if axis is None else place + 1 :])
        declared = declared.with_axes(*axes)
    if block.ndim <= place or block.shape[place] != n:
        sizes = [n if i == place else size or "any" for i, size in enumerate(axes or ())]
        shape = f": pass ({', '.join(map(str, sizes))})" if axes else ""
        raise ShapeError(
            f"{declared.name} has shape {block.shape}, but needs {n} rows on axis {place}, as ids{shape}"
        )
    checked: AnyArray = as_declared(declared, block)
    return checked


def taken(block: AnyArray, places: Any, axis: int | None) -> Any:
    """Return the rows of an input at some places."""
    if axis is None:
        return block[places][0]
    if isinstance(places, slice):
        return block[(*(slice(None),) * axis, places)]
    return np.take(block, places, axis)


def separated(parts: Sequence[Part], i: int, axis: int | None, n: int) -> list[AnyArray]:
    """Return each of the n rows of an output of all parts, in the order of the ids."""
    found: list[Any] = [None] * n
    for part in parts:
        y, places = part.outputs[i], np.arange(n)[part.places]
        rows = np.broadcast_to(y, (len(places), *y.shape)) if axis is None else np.moveaxis(y, axis, 0)
        for place, row in zip(places, rows, strict=False):  # without ids, there may be a row all the same
            found[place] = row.copy()
    return found


def joined(parts: Sequence[Part], i: int, axis: int | None, n: int) -> AnyArray:
    """Return the n rows of an output of all parts, in the order of the ids."""
    found = [part.outputs[i] for part in parts]
    if axis is None:  # every row of a part has this output
        counts = [len(range(n)[p.places]) if isinstance(p.places, slice) else len(p.places) for p in parts]
        found = [np.repeat(y[None], count, 0) for y, count in zip(found, counts, strict=True)]
    if len(found) == 1 and n:
        return found[0]
    y: AnyArray = np.concatenate(found, axis or 0)
    if not n:
        y = np.take(y, [], axis or 0)
    elif not isinstance(parts[0].places, slice):
        y = np.take(y, np.argsort(np.concatenate([part.places for part in parts])), axis or 0)
    return y

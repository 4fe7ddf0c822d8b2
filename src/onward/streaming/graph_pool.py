"""`GraphPool` and `SequencePool`: sequences that run through one whole model, addressed by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.calls import Change
from ..errors import ArgumentError, ShapeError
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows
from ..graph.over_time.streamed import MAX_PROGRAMS, Carry, Streamed
from ..graph.plan.planner import Planner
from .pool import Pool, States, checked_ids
from .rows import (
    ROWS_AT_ONCE,
    Part,
    Port,
    Rows,
    apart,
    axes_of,
    checked,
    declared_rows,
    joined,
    port,
    rows_for,
    separated,
    taken,
    together,
)
from .state import Ids


class GraphPool(Pool):
    """Streams of one whole model, addressed by id: y = pool.step(ids, x) runs one block of each in ids.

    A step runs streams whose carries have the same lengths together, unless the model combines the rows of a
    batch: then each stream runs on its own. The outputs of each stream are bitwise the same as on its own. A
    call that raises changes no stream; calls from several threads take effect one after the other.

    Raises ArgumentError for duplicate ids and ids of closed streams.
    """

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        super().__init__(streamed, capacity, max_capacity)
        self._count = len(streamed.carries)
        self.rows: Rows | None = None  # how the rows run, which may be unknown before the first step
        rows = streamed.pool_rows(at_end=False) or self._declared_rows()
        if rows is not None:
            self._set_rows(rows)

    @property
    def input_axes(self) -> Sequence[int | None] | None:
        """The axis of each input of `step` that holds the rows, or None for one that the model lacks.

        They are unknown before the first step if the file does not declare the shapes of the inputs.
        """
        return None if self.rows is None else self.rows.axes[self._count :]

    @property
    def output_axes(self) -> Sequence[int | None] | None:
        """The axis of each output that holds the rows, which may be unknown before the first step."""
        return None if self.rows is None else self.rows.output_axes

    @property
    def runs_together(self) -> bool:
        """Whether the rows run together, rather than one after the other."""
        return self.rows is None or self.rows.are_together

    def _declared_rows(self) -> Rows | None:
        return declared_rows(self._model)

    def _set_rows(self, rows: Rows) -> None:
        """Set how the rows run; the core runs them alone if they run together."""
        self.rows = rows
        self._set_rows_of_carries(rows)
        if rows.are_together and rows.output_axes is not None:
            self._set_calls(rows.planner.ready, *self._ports(rows), ROWS_AT_ONCE)

    def _set_rows_of_carries(self, rows: Rows) -> None:
        axes = rows.axes[: self._count]
        self._set_axes([-1 if axis is None else axis for axis in axes])

    def _ports(self, rows: Rows) -> tuple[list[Port], list[Port], bool]:
        """Return the ports of the inputs and the outputs, and whether their rows come first in a call."""
        axes = rows.axes[self._count :], rows.output_axes or ()
        inputs, outputs = ([port(axis) for axis in each] for each in axes)
        return inputs, outputs, False

    def step(self, ids: ArrayLike, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        """Run one block of some streams; the inputs have a row for each id, in the layout of the model.

        Returns the outputs in the same layout. An input without an axis of size 1 or of an open size, and an
        output without rows, get the rows as their first axis. Raises SignatureError, ShapeError, DtypeError,
        ArgumentError.
        """
        found = None if inputs else self._step(ids, *args)
        if found is not None:
            return found

        def compute() -> Change[Any]:
            numbers = self._indices(checked_ids(ids))
            blocks = zip(self._model.in_order(args, inputs), self._model.inputs, strict=True)
            rows, parts = self._run(numbers, [arrays.as_array(block, d.name) for block, d in blocks])
            axes = rows.output_axes or ()
            return self._change(
                [joined(parts, i, axis, len(numbers)) for i, axis in enumerate(axes)], numbers, parts
            )

        return self._lock.run(compute)

    def finish(self, ids: ArrayLike) -> Any:
        """Raise ArgumentError: no call of a model with named carries leaves steps for the end."""
        names = ", ".join(carry.name for carry in self._model.carries)
        raise ArgumentError(
            "finish() returns the last steps of a sequence, but the carries of this model are "
            f"named ({names}): each call returns all its steps"
        )

    def _run(self, ids: Ids, blocks: list[AnyArray]) -> tuple[Rows, list[Part]]:
        """Run the streams, and return the outputs and the next carries of each part."""
        rows, n = self.rows, self._count
        if rows is None:  # the rows are the first axis of the inputs, which a first step may not fit
            rows = rows_for(self._model, [(1, *block.shape[1:]) for block in blocks])
            self._set_rows_of_carries(rows)
        found = self._results(rows, ids, blocks, self._model.carries)
        parts = [Part(places, results[n:], results[:n]) for places, results in found]
        if rows.output_axes is None:
            rows = replace(rows, output_axes=axes_of(parts[0].outputs, rows.axes[n:]))
        if rows is not self.rows:
            self._set_rows(rows)
        return rows, parts

    def _results(
        self, rows: Rows, ids: Ids, blocks: list[AnyArray], carries: Sequence[Carry]
    ) -> Iterator[tuple[Any, Sequence[AnyArray]]]:
        """Yield the places of the streams that run together, and what a graph over their rows returns.

        Its first outputs must have the shapes of `carries`.
        """
        axes, planner = rows.axes[self._count :], rows.planner
        for i, (declared, axis) in enumerate(zip(self._model.inputs, axes, strict=True)):
            blocks[i] = checked(declared, blocks[i], axis, len(ids))
            if not len(ids):  # the outputs of one row show the shapes
                blocks[i] = np.zeros_like(np.insert(blocks[i], 0, 0, axis or 0))
        for places in self._places(ids, rows.are_together):
            parts = [taken(block, places, axis) for block, axis in zip(blocks, axes, strict=True)]
            carried = self._get(ids[places]) if len(ids) else self._model.initial
            results = planner.ready((*carried, *parts), {})
            if results is None:
                results = planner(*carried, *parts)
                for carry, before, after in zip(carries, carried, results, strict=False):
                    carry.check(before, after, "after this call")
            yield places, results

    def _places(self, ids: Ids, are_together: bool) -> Iterator[Any]:
        """Yield the places of the streams that run together, as slices or arrays."""
        is_split = are_together and len(ids)
        groups: Sequence[Any] = self._alike(ids) if is_split else [range(max(1, len(ids)))]
        for group in groups:
            n = len(group)
            count = max(1, -(-n // ROWS_AT_ONCE)) if are_together else n
            for first, last in pairwise(n * i // count for i in range(count + 1)):
                yield slice(first, last) if len(groups) <= 1 else group[first:last]

    def _change(self, outputs: Sequence[Any], ids: Ids, parts: Sequence[Part]) -> Change[Any]:
        """Return the outputs of a step, and the change to the carries that the parts return."""
        carried = [(ids[part.places], list(part.carries)) for part in parts if len(ids)]
        returned = outputs[0] if len(outputs) == 1 else tuple(outputs)
        return returned, partial(self._put, carried), self._undo, carried


class SequencePool(GraphPool):
    """Streams of a model over sequences: y = pool.step(ids, x), with a step or a block of each stream.

    x has a row for each id on its first axis, then the axes of the model's input without the batch axis. So
    has y; if a step of x does not always complete a step of y, y is a list with an array for each id, which
    has none, one or several steps. `finish` returns the steps that remain at the end. A model of several
    sequences takes a block of each, in order or by name, as its streams do.
    """

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        super().__init__(streamed, capacity, max_capacity)
        self._last: Rows | None = None  # known when a sequence ends
        self._ended: set[int] = set()  # the ids of sequences that have ended

    def _declared_rows(self) -> Rows:
        shapes = self._model.block_shapes()
        return together(self._model, shapes, self._choices) or apart(self._model, self._row_axes)

    @property
    def _choices(self) -> list[list[int]]:
        """The axis that holds the rows of each input, carries first, if there is one."""
        axes = [carry.axes.batch for carry in self._model.carries] + self._row_axes
        return [[] if axis is None else [axis] for axis in axes]

    @property
    def _row_axes(self) -> list[int | None]:
        return [layout.axes.batch for layout in self._model.sequences]

    def rows_at_end(self) -> Rows:
        """Return how the graph that ends sequences runs."""
        rows, model = self.rows, self._model
        assert rows is not None
        self._last = self._last or model.pool_rows(at_end=True)
        if self._last is None:
            self._last = replace(apart(model, self._row_axes), planner=model.last_planner)
            if rows.are_together:
                if model.layers is not None:
                    self._last = replace(rows, planner=model.last_planner)
                    return self._last
                with suppress(ArgumentError):  # steps after the last one may be those of one row
                    graph, _, axes = by_rows(model.last, 0, model.block_shapes(), self._choices)
                    self._last = Rows(Planner(graph, max_programs=MAX_PROGRAMS), rows.axes, axes, True)
        return self._last

    def finish(self, ids: ArrayLike) -> Any:
        """End the sequences of some streams and return their remaining steps; `reset` starts others.

        Returns a list with an array for each id, which is what `finish` of a stream returns, or a tuple of
        lists if the model has several outputs. Raises ArgumentError.
        """

        def compute() -> Change[Any]:
            numbers = self._indices(checked_ids(ids))
            self._check_open(numbers)
            rows = self.rows_at_end()
            none = self._model.blocks(0, len(numbers))
            none = [
                np.zeros((len(numbers), *x.shape), x.dtype) if axis is None else x
                for x, axis in zip(none, self._row_axes, strict=True)
            ]
            parts = [Part(*found) for found in self._results(rows, numbers, none, ())]
            axes = rows.output_axes or ()
            returned = [separated(parts, i, axis, len(numbers)) for i, axis in enumerate(axes)]
            ended = numbers.tolist() if self._model.layers is None else []
            change, undo = partial(self._ended.update, ended), partial(self._ended.difference_update, ended)
            return returned[0] if len(returned) == 1 else tuple(returned), change, undo, ()

        return self._lock.run(compute)

    def _check_open(self, ids: Ids) -> None:
        if self._ended and (ended := self._ended.intersection(ids.tolist())):
            raise ArgumentError(
                f"the sequences of the streams {sorted(ended)} have ended: call reset(ids) to start others"
            )

    def _opened(self, ids: Ids) -> None:
        if self._ended:
            self._ended -= set(ids.tolist())

    def _set(self, ids: Ids, states: States) -> None:
        super()._set(ids, states)
        self._opened(ids)

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._ended = self._ended.copy()
        return twin

    def _ports(self, rows: Rows) -> tuple[list[Port], list[Port], bool]:
        model = self._model
        if not model.every_step:  # then the streams may complete different steps
            return [], [], True
        outputs = [
            port(axis, axes.time) for axis, axes in zip(rows.output_axes or (), model.outputs, strict=True)
        ]
        inputs = [port(axes.batch, axes.time, len(shape), rate) for shape, axes, _, rate in model.sequences]
        return inputs, outputs, True

    def step(  # type: ignore[override]  # ids may be named
        self, ids: ArrayLike, *args: ArrayLike, **inputs: ArrayLike
    ) -> Any:
        found = None if self._ended or inputs else self._step(ids, *args)
        if found is not None:
            return found
        checked = checked_ids(ids)
        blocks, is_step = self._blocks(len(checked), self._model.in_order(args, inputs))

        def compute() -> Change[Any]:
            numbers = self._indices(checked)
            self._check_open(numbers)
            rows, parts = self._run(numbers, blocks)
            count = len(self._model.outputs)
            returned = [self._returned(rows, parts, i, len(numbers), is_step) for i in range(count)]
            return self._change(returned, numbers, parts)

        return self._lock.run(compute)

    def _blocks(self, n: int, given: Sequence[ArrayLike]) -> tuple[list[AnyArray], bool]:
        """Return inputs of n streams in the layout of the model, and whether they lack the time axis."""
        model, blocks, is_step = self._model, list[AnyArray](), False
        for place, (value, layout, name) in enumerate(zip(given, model.sequences, model.names, strict=True)):
            x, step, (time, row_axis) = arrays.as_array(value, name), list(layout.shape), layout.axes
            if row_axis is not None:
                del step[row_axis]
                time -= row_axis < time
            is_step = x.ndim == len(step) if place == 0 else is_step
            if x.ndim not in (len(step), len(step) + 1):
                axes = f"{len(step)} or {len(step) + 1}"
                raise ShapeError(f"{name} has shape {x.shape}, but must have {axes} axes")
            block = np.expand_dims(x, 1 + time) if is_step else x
            step[time] = block.shape[1 + time] if block.ndim == len(step) + 1 else 1
            if block.shape != (n, *step):
                del step[time]
                raise ShapeError(f"{name} has shape {x.shape}, but one step of {n} streams is {(n, *step)}")
            blocks.append(block if row_axis is None else np.moveaxis(block, 0, row_axis))
        model.check_steps(blocks)
        return blocks, is_step

    def _returned(self, rows: Rows, parts: list[Part], i: int, n: int, is_step: bool) -> Any:
        """Return an output with the rows first; a list if the streams may complete different steps."""
        time, axis = self._model.outputs[i].time, (rows.output_axes or ())[i]
        if time is not None and not self._model.every_step:
            return separated(parts, i, axis, n)
        y = np.moveaxis(joined(parts, i, axis, n), axis or 0, 0)
        return np.squeeze(y, time + (axis is None or axis > time)) if is_step and time is not None else y


def pool_of(streamed: Streamed, capacity: int, max_capacity: int | None) -> GraphPool:
    """Return the pool of the streams that run a graph over one block."""
    kind = GraphPool if streamed.last is None else SequencePool
    return kind(streamed, capacity, max_capacity)

"""`GraphPool` and `SequencePool`: sequences that run through one whole model, addressed by id."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

import onward._core as _core

from ..core import arrays
from ..core.calls import Change
from ..errors import ArgumentError, ShapeError
from ..graph.declared import as_declared
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows, likely_axes
from ..graph.over_time.streamed import MAX_PROGRAMS, Carry, Streamed
from ..graph.plan.planner import Planner
from .pool import Ids, Pool, argument_errors, checked_ids

# Rows that run together, whose values stay in the caches: of 2,000 streams of Silero 6, each takes 16.7
# microseconds in blocks of 64, and 18.2 in a single one.
ROWS_AT_ONCE = 64

States = list[list[AnyArray]]  # the carries of each stream


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


class GraphPool(Pool):
    """Streams of one whole model, addressed by id: y = pool.step(ids, x) runs one block of each in ids.

    A step runs streams whose carries have the same lengths together, unless the model combines the rows of a
    batch: then each stream runs on its own. The outputs of each stream are bitwise the same as on its own. A
    call that raises changes no stream; calls from several threads take effect one after the other.

    Raises ArgumentError for duplicate ids and ids of closed streams.
    """

    file_type = "pool of a whole model of Onward"

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        super().__init__(streamed, capacity, max_capacity)
        self._count = len(streamed.carries)
        for carry in streamed.carries:
            if carry.initial.dtype.hasobject:
                raise ArgumentError(f"{carry.name} holds texts, which a pool cannot keep: use a stream")
        self._carried: Any = _core.Carries(list(streamed.initial))
        self.rows = self._declared_rows()  # how the rows run, which may be unknown before the first step
        if self.rows is not None:
            self._set_axes(self.rows)

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
        """Return how rows run, unless the file leaves more sizes open than that of the batch."""
        declared = [d.axes for d in self._model.inputs]
        if all(axes is not None and sum(isinstance(axis, str) for axis in axes) <= 1 for axes in declared):
            return self._rows_for(
                [tuple(1 if isinstance(axis, str) else axis for axis in axes or ()) for axes in declared]
            )
        return None

    def _rows_for(self, shapes: Sequence[tuple[int, ...]]) -> Rows:
        """Return how rows run for inputs of these shapes, for one row."""
        graph = self._model.graph
        shapes = [*(initial.shape for initial in self._model.initial), *shapes]
        declared = [d.axes or shape for d, shape in zip(graph.inputs, shapes, strict=True)]
        names = Counter(axis for axes in declared for axis in {*axes} if isinstance(axis, str) and axis)
        return self._together(shapes, [likely_axes(axes, names) for axes in declared]) or self._apart(
            [next(iter(likely_axes(d.axes or (), names)), None) for d in self._model.inputs]
        )

    def _together(self, shapes: Any, choices: Sequence[Sequence[int]]) -> Rows | None:
        """Return how rows run together, if they can; `choices` are the possible axes of each input."""
        try:
            graph, axes, outputs = by_rows(self._model.graph, self._count, shapes, choices)
        except ArgumentError:
            return None
        return Rows(Planner(graph, max_programs=MAX_PROGRAMS), axes, outputs[self._count :], True)

    def _apart(self, axes: Sequence[int | None]) -> Rows:
        """Return how rows run one after the other, whose inputs have the rows on these axes."""
        return Rows(self._model.planner, [*[None] * self._count, *axes], None, False)

    def _axes_of(self, outputs: Sequence[AnyArray], axes: Sequence[int | None]) -> list[int | None]:
        """Return the axis of each output that holds the row: that of the first input if possible."""
        places = [axis for axis in axes[:1] if axis is not None]
        found = [(y.shape, [*places, *range(y.ndim)] if places else []) for y in outputs]
        return [
            next((i for i in candidates if shape[i : i + 1] == (1,)), None) for shape, candidates in found
        ]

    def _set_axes(self, rows: Rows) -> None:
        self._carried.set_axes([-1 if axis is None else axis for axis in rows.axes[: self._count]])

    def _opened(self, ids: Ids) -> None:
        self._set(ids, [list(self._model.initial)] * len(ids))

    def _set(self, ids: Ids, states: States) -> None:
        """Replace the carries of some streams; an interrupt replaces all of them or none."""
        self._carried.reserve(self.capacity)
        self._carried.put([(ids[i : i + 1], state) for i, state in enumerate(states)])

    def step(  # type: ignore[override]  # a whole model may have several inputs
        self, ids: ArrayLike, /, *args: ArrayLike, **inputs: ArrayLike
    ) -> Any:
        """Run one block of some streams; the inputs have a row for each id, in the layout of the model.

        Returns the outputs in the same layout. An input without an axis of size 1 or of an open size, and an
        output without rows, get the rows as their first axis. Raises SignatureError, ShapeError, DtypeError,
        ArgumentError.
        """

        def compute() -> Change[Any]:
            numbers = self._indices(checked_ids(ids))
            blocks = zip(self._model.in_order(args, inputs), self._model.inputs, strict=True)
            rows, parts = self._run(numbers, [arrays.as_array(block, d.name) for block, d in blocks])
            axes = rows.output_axes or ()
            return self._change(
                [_joined(parts, i, axis, len(numbers)) for i, axis in enumerate(axes)], numbers, parts
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
        if rows is None:  # the rows are the first axis of the inputs
            rows = self._rows_for([(1, *block.shape[1:]) for block in blocks])
            self._set_axes(rows)
        found = self._results(rows, ids, blocks, self._model.carries)
        parts = [Part(places, results[n:], results[:n]) for places, results in found]
        if rows.output_axes is None:
            rows = replace(rows, output_axes=self._axes_of(parts[0].outputs, rows.axes[n:]))
        self.rows = rows
        return rows, parts

    def _results(
        self, rows: Rows, ids: Ids, blocks: list[AnyArray], carries: Sequence[Carry]
    ) -> Iterator[tuple[Any, Sequence[AnyArray]]]:
        """Yield the places of the streams that run together, and what a graph over their rows returns.

        Its first outputs must have the shapes of `carries`.
        """
        axes, planner = rows.axes[self._count :], rows.planner
        for i, (declared, axis) in enumerate(zip(self._model.inputs, axes, strict=True)):
            blocks[i] = _checked(declared, blocks[i], axis, len(ids))
            if not len(ids) and not rows.are_together:  # the outputs of one row show the shapes
                blocks[i] = np.zeros_like(np.insert(blocks[i], 0, 0, axis or 0))
        for places in self._places(ids, rows.are_together):
            own = [_taken(block, places, axis) for block, axis in zip(blocks, axes, strict=True)]
            carried = self._carried.get(ids[places]) if len(ids) else self._none(rows)
            results = planner.run((*carried, *own), {})
            if results is None:
                results = planner(*carried, *own)
                for carry, before, after in zip(carries, carried, results, strict=False):
                    carry.check(before, after, "after this call")
            yield places, results

    def _none(self, rows: Rows) -> Any:
        """Return carries for a call without ids."""
        return self._carried.get(np.empty(0, np.int64)) if rows.are_together else self._model.initial

    def _places(self, ids: Ids, are_together: bool) -> Iterator[Any]:
        """Yield the places of the streams that run together, as slices or arrays."""
        groups: Sequence[Any] = self._carried.alike(ids) if are_together else [range(max(1, len(ids)))]
        for group in groups or [range(0)]:
            n = len(group)
            count = max(1, -(-n // ROWS_AT_ONCE)) if are_together else n
            for first, last in pairwise(n * i // count for i in range(count + 1)):
                yield slice(first, last) if len(groups) <= 1 else group[first:last]

    def _change(self, outputs: Sequence[Any], ids: Ids, parts: Sequence[Part]) -> Change[Any]:
        """Return the outputs of a step, and the change to the carries that the parts return."""
        carried = [(ids[part.places], list(part.carries)) for part in parts if len(ids)]
        returned = outputs[0] if len(outputs) == 1 else tuple(outputs)
        return returned, partial(self._carried.put, carried), self._carried.undo, carried

    def _kernels(self) -> Sequence[Any]:
        return []  # the core assigns and checks the ids alone

    def _states(self, ids: Ids) -> States:
        numbers = self._indices(ids)
        return [self._carried.get(numbers[i : i + 1]) for i in range(len(numbers))]

    def _set_state(self, ids: Ids, states: Any) -> None:
        self._set(self._indices(ids), states)

    def _restore(self, ids: Ids, states: Any) -> None:
        super()._restore(ids, [])
        self._set(ids, states)

    def _joined(self, states: Any, n: int) -> list[dict[str, AnyArray]]:
        names = [carry.name for carry in self._model.carries]
        return [dict(zip(names, state, strict=True)) for state in states]

    def _split(self, state: Sequence[Mapping[str, Any]] | None, n: int) -> States:
        if state is None:
            return [list(self._model.initial)] * n
        if len(state) != n:
            raise ArgumentError(f"got the states of {len(state)} streams for {n} ids")
        return [list(self._model.carried_in(each)) for each in state]

    def _tensors(self, ids: Ids, states: Any) -> dict[str, AnyArray]:
        pairs = zip(ids, states, strict=True)
        return {"ids": ids, **{f"{n}.{i}": array for n, state in pairs for i, array in enumerate(state)}}

    def _restored(self, tensors: Mapping[str, AnyArray]) -> tuple[Ids, States]:
        ids = tensors["ids"]
        if ids.dtype != np.int64 or ids.ndim != 1 or (np.diff(ids, prepend=-1) <= 0).any():
            raise ArgumentError("it does not say which streams are open")
        names = [carry.name for carry in self._model.carries]
        states = [{name: tensors[f"{n}.{i}"] for i, name in enumerate(names)} for n in ids.tolist()]
        return ids, self._split(states, len(ids))

    def _indices(self, ids: Ids) -> NDArray[np.int64]:
        """Return ids as indices. Raises ArgumentError unless their streams are open."""
        with argument_errors():
            self._state(ids, [])
        return ids.astype(np.int64, copy=False)


class SequencePool(GraphPool):
    """Streams of a model over sequences: y = pool.step(ids, x), with a step or a block of each stream.

    x has a row for each id on its first axis, then the axes of the model's input without the batch axis. So
    has y; if a step of x does not always complete a step of y, y is a list with an array for each id, which
    has none, one or several steps. `finish` returns the steps that remain at the end.
    """

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        super().__init__(streamed, capacity, max_capacity)
        self._last: Rows | None = None  # known when a sequence ends
        self._ended: set[int] = set()  # the ids of sequences that have ended

    def _declared_rows(self) -> Rows:
        shapes = [*(initial.shape for initial in self._model.initial), self._model.block_shape]
        axes = [carry.axes.batch for carry in self._model.carries] + [self._model.x.batch]
        choices: list[list[int]] = [[] if axis is None else [axis] for axis in axes]
        return self._together(shapes, choices) or self._apart([self._model.x.batch])

    def _apart(self, axes: Sequence[int | None]) -> Rows:
        return replace(super()._apart(axes), output_axes=[each.batch for each in self._model.outputs])

    def rows_at_end(self) -> Rows:
        """Return how the graph that ends sequences runs."""
        rows, model = self.rows, self._model
        assert rows is not None
        if self._last is None:
            self._last = replace(self._apart([model.x.batch]), planner=model.last_planner)
            if rows.are_together:
                shapes = [*(initial.shape for initial in model.initial), model.block_shape]
                choices = [[axis] for axis in rows.axes if axis is not None]
                with suppress(ArgumentError):  # steps after the last one may be those of one row
                    graph, _, axes = by_rows(model.last, 0, shapes, choices)
                    self._last = Rows(Planner(graph, max_programs=MAX_PROGRAMS), rows.axes, axes, True)
        return self._last

    def finish(self, ids: ArrayLike) -> Any:
        """End the sequences of some streams and return their remaining steps; `reset` starts others.

        Returns a list with an array for each id, which is what `finish` of a stream returns, or a tuple of
        lists if the model has several outputs. Raises ArgumentError.
        """
        time, row_axis = self._model.x
        shape = list(self._model.step_shape)
        shape[time] = 0
        if row_axis is not None:
            del shape[row_axis]

        def compute() -> Change[Any]:
            numbers = self._indices(checked_ids(ids))
            self._check_open(numbers)
            rows = self.rows_at_end()
            none = np.zeros((len(numbers), *shape), self._model.inputs[0].dtype)
            parts = [Part(*found) for found in self._results(rows, numbers, [self._as_block(none)], ())]
            axes = rows.output_axes or ()
            returned = [_separated(parts, i, axis, len(numbers)) for i, axis in enumerate(axes)]
            ended = numbers.tolist()
            change, undo = partial(self._ended.update, ended), partial(self._ended.difference_update, ended)
            return returned[0] if len(returned) == 1 else tuple(returned), change, undo, ()

        return self._lock.run(compute)

    def _as_block(self, x: AnyArray) -> AnyArray:
        """Return blocks, whose first axis holds the rows, in the layout of the model."""
        rows = self._model.x.batch
        return x if rows is None else np.moveaxis(x, 0, rows)

    def _check_open(self, ids: Ids) -> None:
        if self._ended and (ended := self._ended.intersection(ids.tolist())):
            raise ArgumentError(
                f"the sequences of the streams {sorted(ended)} have ended: call reset(ids) to start others"
            )

    def _set(self, ids: Ids, states: States) -> None:
        super()._set(ids, states)
        if self._ended:
            self._ended -= set(ids.tolist())

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._ended = self._ended.copy()
        return twin

    def step(self, ids: ArrayLike, x: ArrayLike) -> Any:  # type: ignore[override]  # a sequence has one input
        time, row_axis = self._model.x
        array, step = arrays.as_array(x, "x"), list(self._model.step_shape)
        if row_axis is not None:
            del step[row_axis]
            time -= row_axis < time
        is_step = array.ndim == len(step)
        if array.ndim not in (len(step), len(step) + 1):
            raise ShapeError(f"x has shape {array.shape}, but must have {len(step)} or {len(step) + 1} axes")
        block = np.expand_dims(array, 1 + time) if is_step else array
        step[time] = block.shape[1 + time]
        if block.shape[1:] != tuple(step):
            raise ShapeError(
                f"x has shape {array.shape}, but the model takes {self._model.step_shape} "
                "for one step and row"
            )

        def compute() -> Change[Any]:
            numbers = self._indices(checked_ids(ids))
            self._check_open(numbers)
            rows, parts = self._run(numbers, [self._as_block(block)])
            count = len(self._model.outputs)
            returned = [self._returned(rows, parts, i, len(numbers), is_step) for i in range(count)]
            return self._change(returned, numbers, parts)

        return self._lock.run(compute)

    def _returned(self, rows: Rows, parts: list[Part], i: int, n: int, is_step: bool) -> Any:
        """Return an output with the rows first; a list if the streams may complete different steps."""
        time, axis = self._model.outputs[i].time, (rows.output_axes or ())[i]
        if time is not None and not self._model.every_step:
            return _separated(parts, i, axis, n)
        y = np.moveaxis(_joined(parts, i, axis, n), axis or 0, 0)
        return np.squeeze(y, time + (axis is None or axis > time)) if is_step and time is not None else y


def pool_of(streamed: Streamed, capacity: int, max_capacity: int | None) -> GraphPool:
    """Return the pool of the streams that run a graph over one block."""
    kind = GraphPool if streamed.last is None else SequencePool
    return kind(streamed, capacity, max_capacity)


def _checked(declared: Any, block: AnyArray, axis: int | None, n: int) -> AnyArray:
    """Return an input with n rows in the declared dtype. Raises ShapeError, DtypeError."""
    place = axis or 0
    if block.ndim <= place or block.shape[place] != n:
        raise ShapeError(
            f"{declared.name} has shape {block.shape}, but needs {n} rows on axis {place}, as ids"
        )
    if declared.axes is not None:  # the file may declare one row
        rest = declared.axes[place if axis is None else place + 1 :]
        declared = declared.with_axes(*declared.axes[:place], "", *rest)
    checked: AnyArray = as_declared(declared, block)
    return checked


def _taken(block: AnyArray, places: Any, axis: int | None) -> Any:
    """Return the rows of an input at some places."""
    if axis is None:
        return block[places][0]
    if isinstance(places, slice):
        return block[(*(slice(None),) * axis, places)]
    return np.take(block, places, axis)


def _separated(parts: Sequence[Part], i: int, axis: int | None, n: int) -> list[AnyArray]:
    """Return each of the n rows of an output of all parts, in the order of the ids."""
    found: list[Any] = [None] * n
    for part in parts:
        y, places = part.outputs[i], np.arange(n)[part.places]
        rows = np.broadcast_to(y, (len(places), *y.shape)) if axis is None else np.moveaxis(y, axis, 0)
        for place, row in zip(places, rows, strict=False):  # without ids, there may be a row all the same
            found[place] = row.copy()
    return found


def _joined(parts: Sequence[Part], i: int, axis: int | None, n: int) -> AnyArray:
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

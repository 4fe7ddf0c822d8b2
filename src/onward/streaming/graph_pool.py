"""`GraphPool` and `SequencePool`: sequences that run through one whole model, addressed by id."""

import itertools
import operator
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from ..core import arrays
from ..errors import ArgumentError, ShapeError
from ..graph.declared import as_declared
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows, likely_axes
from ..graph.over_time.streamed import MAX_PROGRAMS, Streamed
from ..graph.plan.planner import Planner
from .pool import Ids, Pool, argument_errors, checked_ids

# The graph runs for a power of two of rows, and for so many at most: each number of rows needs a plan of its
# own, whose values should stay in the caches.
MAX_ROWS = 64

# The core assigns and checks the ids; its only layer has no state.
WITHOUT_STATE = _core.Dense(np.zeros((1, 1), np.float32), None)

SET_ITEM: Any = operator.setitem  # the types of its overloads are not those of arrays


class Group(NamedTuple):
    """Streams that run together: the places of their ids in a call, their outputs, and their carries."""

    places: Ids
    outputs: Sequence[AnyArray]
    before: Sequence[AnyArray]
    after: Sequence[AnyArray]


class GraphPool(Pool):
    """Streams of one whole model, addressed by id: y = pool.step(ids, x) runs one block of each in ids.

    A step runs streams whose carries have the same lengths together. The outputs of each stream are bitwise
    the same as on its own. A call that raises changes no stream; calls from several threads take effect one
    after the other.

    Raises ArgumentError for duplicate ids, ids of closed streams, and, with the name of the node, for a model
    that combines the rows of a batch.
    """

    _file_type = "pool of a whole model of Onward"

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        super().__init__(streamed, capacity, max_capacity)
        self._count = len(streamed.carries)
        # The carries by id: an array of rows each, or arrays of any shape for a carry whose shape varies.
        self._varies = [
            carry.axes.time is not None or carry.any_shape or carry.initial.dtype.hasobject
            for carry in streamed.carries
        ]
        self._carries = self._initial(self.capacity)
        self._planner: Planner | None = None  # known when the shapes of the inputs are
        self._axes: list[int] = []
        self._output_axes: list[int] = []
        self._prepare_if_possible()

    def _prepare_if_possible(self) -> None:
        """Find the batch axes, unless the file leaves more sizes open than that of the batch."""
        declared = [d.axes for d in self._model.inputs]
        if all(axes is not None and sum(isinstance(axis, str) for axis in axes) <= 1 for axes in declared):
            self._prepare(
                [tuple(1 if isinstance(axis, str) else axis for axis in axes or ()) for axes in declared]
            )

    def _prepare(
        self, shapes: Sequence[tuple[int, ...]], choices: Sequence[Sequence[int]] | None = None
    ) -> None:
        """Find the batch axes for inputs of these shapes, for one row, among the choices for each."""
        graph = self._model.graph
        shapes = [*(initial.shape for initial in self._model.initial), *shapes]
        if choices is None:
            all_axes = [d.axes or shape for d, shape in zip(graph.inputs, shapes, strict=True)]
            names = Counter(axis for axes in all_axes for axis in {*axes} if isinstance(axis, str) and axis)
            choices = [likely_axes(axes, names) for axes in all_axes]
        graph, self._axes, self._output_axes = by_rows(graph, self._count, shapes, choices)
        self._planner = Planner(graph, max_programs=MAX_PROGRAMS)

    def _initial(self, n: int) -> list[AnyArray]:
        """Return the initial values of the carries of n streams."""
        return [
            _objects([initial] * n) if varies else np.broadcast_to(initial, (n, *initial.shape)).copy()
            for initial, varies in zip(self._model.initial, self._varies, strict=True)
        ]

    def _opened(self, ids: Ids) -> None:
        try:
            missing = self.capacity - min(map(len, self._carries), default=self.capacity)
            if missing:
                pairs = zip(self._carries, self._initial(missing), strict=True)
                self._carries = [np.concatenate(pair) for pair in pairs]
            self._set(ids, self._initial(len(ids)))
        except BaseException:
            self._close(ids)
            raise

    def _set(self, ids: Ids, rows: Sequence[AnyArray]) -> None:
        """Replace the carries of some streams; an interrupt replaces all of them or none."""
        deque(map(SET_ITEM, self._carries, itertools.repeat(ids), rows), maxlen=0)

    def step(  # type: ignore[override]  # a whole model may have several inputs
        self, ids: ArrayLike, /, *args: ArrayLike, **inputs: ArrayLike
    ) -> Any:
        """Run one block of some streams; the inputs have a row for each id, in the layout of the model.

        Returns the outputs in the same layout. Raises SignatureError, ShapeError, DtypeError, ArgumentError.
        """
        with self._lock:
            numbers = self._indices(checked_ids(ids))
            blocks = zip(self._model.in_order(args, inputs), self._model.inputs, strict=True)
            groups = self._run(numbers, [arrays.as_array(block, d.name) for block, d in blocks])
            axes = self._output_axes[self._count :]
            joined = [_joined_outputs(groups, i, axis) for i, axis in enumerate(axes)]
            self._keep(numbers, groups)
        return joined[0] if len(joined) == 1 else tuple(joined)

    def finish(self, ids: ArrayLike) -> Any:
        """Raise ArgumentError: no call of a model with named carries leaves steps for the end."""
        names = ", ".join(carry.name for carry in self._model.carries)
        raise ArgumentError(
            "finish() returns the last steps of a sequence, but the carries of this model are "
            f"named ({names}): each call returns all its steps"
        )

    def _run(self, ids: Ids, blocks: list[AnyArray]) -> list[Group]:
        """Run the streams, and return the outputs and the next carries of each group."""
        if self._planner is None:  # the rows are the first axis of the inputs
            self._prepare([(1, *block.shape[1:]) for block in blocks])
        assert self._planner is not None
        return [*self._groups(self._planner, ids, blocks, self._count)]

    def _groups(self, planner: Planner, ids: Ids, blocks: list[AnyArray], count: int) -> Iterator[Group]:
        """Yield the groups of streams, for which a graph over their rows returns `count` carries first."""
        blocks, axes = self._checked_blocks(blocks, len(ids)), self._axes[self._count :]
        for places in [part for group in self._alike(ids) for part in _parts(group)]:
            joined = self._joined_carries(ids[places])
            own = blocks
            if len(places) < len(ids):
                own = [np.take(block, places, axis) for block, axis in zip(blocks, axes, strict=True)]
            results = planner.run((*joined, *own), {}) or planner(*joined, *own)
            yield Group(places, results[count:], joined, results[:count])

    def _alike(self, ids: Ids) -> Iterable[Ids]:
        """Return the places of the streams for each combination of shapes of their carries."""
        varying = list(itertools.compress(self._carries, self._varies))
        if not varying:
            return [np.arange(len(ids))]
        shapes = zip(*([array.shape for array in rows[ids]] for rows in varying), strict=True)
        alike: defaultdict[Any, list[int]] = defaultdict(list)
        for place, key in enumerate(shapes):
            alike[key].append(place)
        return [np.array(places) for places in alike.values()] or [np.arange(0)]

    def _joined_carries(self, ids: Ids) -> list[AnyArray]:
        """Return the carries of some streams as the rows of arrays, for the graph."""
        joined, columns = [], zip(self._model.carries, self._carries, self._varies, self._axes, strict=False)
        for carry, rows, varies, axis in columns:
            if not varies:
                joined.append(rows[ids].swapaxes(0, axis + 1)[0])
            elif len(ids):
                joined.append(np.concatenate(rows[ids].tolist(), axis))
            else:
                joined.append(np.take(carry.initial, [], axis))
        return joined

    def _keep(self, ids: Ids, groups: Sequence[Group]) -> None:
        """Keep the carries that the groups return."""
        places = groups[0].places if len(groups) == 1 else np.concatenate([group.places for group in groups])
        rows = self._rows([group.after for group in groups], self._output_axes)
        try:
            self._set(ids[places], rows)
        except BaseException:  # of a signal handler, which loses the outputs
            self._set(ids[places], self._rows([group.before for group in groups], self._axes))
            raise

    def _rows(self, groups: Sequence[Sequence[AnyArray]], axes: Sequence[int]) -> list[AnyArray]:
        """Return the carries of groups, as `_set` takes them."""
        rows = []
        for place, (carry, axis) in enumerate(zip(self._model.carries, axes, strict=False)):
            parts = [carries[place] for carries in groups]
            if self._varies[place]:
                found = [row for part in parts for row in _separate_rows(part, axis)]
                for row in found[:1]:
                    carry.check(carry.initial, row, "after this call")
                rows.append(_objects(found))
                continue
            first = [part[None].swapaxes(0, axis + 1) for part in parts]
            if first[0].shape[1:] != carry.initial.shape or first[0].dtype != carry.initial.dtype:
                carry.check(carry.initial, first[0][0], "after this call")
            rows.append(first[0] if len(first) == 1 else np.concatenate(first))
        return rows

    def _checked_blocks(self, blocks: list[AnyArray], n: int) -> list[AnyArray]:
        """Return the inputs in the declared dtypes. Raises ShapeError, DtypeError."""
        checked = []
        for declared, block, axis in zip(self._model.inputs, blocks, self._axes[self._count :], strict=True):
            if block.ndim <= axis or block.shape[axis] != n:
                raise ShapeError(
                    f"{declared.name} has shape {block.shape}, but needs {n} rows on axis {axis}, as ids"
                )
            if declared.axes is not None:  # the file may declare one row
                declared = declared._replace(axes=(*declared.axes[:axis], "", *declared.axes[axis + 1 :]))
            checked.append(as_declared(declared, block))
        return checked

    def _kernels(self) -> Sequence[Any]:
        return [WITHOUT_STATE]

    def _states(self, ids: Ids) -> list[AnyArray]:
        numbers = self._indices(ids)
        return [rows[numbers] for rows in self._carries]

    def _set_state(self, ids: Ids, states: Any) -> None:
        self._set(self._indices(ids), states)

    def _restore(self, ids: Ids, states: Any) -> None:
        super()._restore(ids, [])
        self._carries = self._initial(self.capacity)
        self._set(ids, states)

    def _joined(self, states: Any, n: int) -> list[dict[str, AnyArray]]:
        names = [carry.name for carry in self._model.carries]
        return [{name: rows[i].copy() for name, rows in zip(names, states, strict=True)} for i in range(n)]

    def _split(self, state: Sequence[Mapping[str, Any]] | None, n: int) -> list[AnyArray]:
        rows = self._initial(n)
        if state is not None and len(state) != n:
            raise ArgumentError(f"got the states of {len(state)} streams for {n} ids")
        for place, each in enumerate(state or ()):
            for column, array in zip(rows, self._model.carried_in(each), strict=True):
                column[place] = array
        return rows

    def _tensors(self, ids: Ids, states: Any) -> dict[str, AnyArray]:
        columns = [(i, n, array) for i, rows in enumerate(states) for n, array in zip(ids, rows, strict=True)]
        return {"ids": ids, **{f"{n}.{i}": array for i, n, array in columns}}

    def _restored(self, tensors: Mapping[str, AnyArray]) -> tuple[Ids, list[AnyArray]]:
        ids = tensors["ids"]
        if ids.dtype != np.int64 or ids.ndim != 1 or (np.diff(ids, prepend=-1) <= 0).any():
            raise ArgumentError("it does not say which streams are open")
        names = [carry.name for carry in self._model.carries]
        states = [{name: tensors[f"{n}.{i}"] for i, name in enumerate(names)} for n in ids.tolist()]
        return ids, self._split(states, len(ids))

    def _indices(self, ids: Ids) -> Ids:
        """Return ids as indices. Raises ArgumentError unless their streams are open."""
        with argument_errors():
            self._state(ids, [])
        return ids.astype(np.intp, copy=False)


class SequencePool(GraphPool):
    """Streams of a model over sequences: y = pool.step(ids, x), with a step or a block of each stream.

    x has a row for each id on its first axis, then the axes of the model's input without the batch axis. So
    has y; if a step of x does not always complete a step of y, y is a list with an array for each id, which
    has none, one or several steps. `finish` returns the steps that remain at the end.
    """

    def _prepare_if_possible(self) -> None:
        if self._model.x.batch is None:
            raise ArgumentError("the input of the model has no batch axis, in which a pool puts its streams")
        axes = [carry.axes.batch for carry in self._model.carries] + [self._model.x.batch]
        self._prepare([self._model.block_shape], [[] if axis is None else [axis] for axis in axes])
        self._last: tuple[Planner, list[int]] | None = None  # known when a sequence ends
        self._ended: set[int] = set()  # the ids of sequences that have ended

    def _prepared_last(self) -> tuple[Planner, list[int]]:
        """Return the planner of the graph that ends sequences, and the batch axes of its outputs."""
        if self._last is None:
            assert self._model.last is not None
            shapes = [*(initial.shape for initial in self._model.initial), self._model.block_shape]
            graph, _, axes = by_rows(self._model.last, 0, shapes, [[axis] for axis in self._axes])
            self._last = Planner(graph, max_programs=MAX_PROGRAMS), axes
        return self._last

    def finish(self, ids: ArrayLike) -> Any:
        """End the sequences of some streams and return their remaining steps; `reset` starts others.

        Returns a list with an array for each id, which is what `finish` of a stream returns, or a tuple of
        lists if the model has several outputs. Raises ArgumentError.
        """
        time, rows = self._model.x
        shape = list(self._model.step_shape)
        shape[time] = 0
        with self._lock:
            numbers = self._indices(checked_ids(ids))
            self._check_open(numbers)
            planner, axes = self._prepared_last()
            shape[rows] = len(numbers)
            none = np.zeros(shape, self._model.inputs[0].dtype)
            groups = [*self._groups(planner, numbers, [none], 0)]
            returned = [_separated(groups, i, axis, len(numbers)) for i, axis in enumerate(axes)]
            self._ended |= set(numbers.tolist())
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _check_open(self, ids: Ids) -> None:
        if self._ended and (ended := self._ended.intersection(ids.tolist())):
            raise ArgumentError(
                f"the sequences of the streams {sorted(ended)} have ended: call reset(ids) to start others"
            )

    def _set(self, ids: Ids, rows: Sequence[AnyArray]) -> None:
        super()._set(ids, rows)
        if self._ended:
            self._ended -= set(ids.tolist())

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._ended = self._ended.copy()
        return twin

    def step(self, ids: ArrayLike, x: ArrayLike) -> Any:  # type: ignore[override]  # a sequence has one input
        time, rows = self._model.x
        array = arrays.as_array(x, "x")
        shape = self._model.step_shape
        is_step = array.ndim == len(shape) - 1
        if array.ndim not in (len(shape) - 1, len(shape)):
            raise ShapeError(
                f"x has shape {array.shape}, but must have {len(shape) - 1} or {len(shape)} axes"
            )
        block = np.expand_dims(array, 1 + time - (rows < time)) if is_step else array
        block = np.moveaxis(block, 0, rows)
        sizes = [size for axis, size in enumerate(block.shape) if axis not in (time, rows)]
        if sizes != [size for axis, size in enumerate(shape) if axis not in (time, rows)]:
            raise ShapeError(f"x has shape {array.shape}, but the model takes {shape} for one step and row")
        with self._lock:
            numbers = self._indices(checked_ids(ids))
            self._check_open(numbers)
            groups, count = self._run(numbers, [block]), len(self._model.outputs)
            returned = [self._returned(groups, i, len(numbers), is_step) for i in range(count)]
            self._keep(numbers, groups)
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _returned(self, groups: list[Group], i: int, n: int, is_step: bool) -> Any:
        """Return an output with the rows first; a list if the streams may complete different steps."""
        axes, axis = self._model.outputs[i], self._output_axes[self._count + i]
        if axes.time is None or self._model.every_step:
            y = np.moveaxis(_joined_outputs(groups, i, axis), axis, 0)
            return np.squeeze(y, axes.time + (axis > axes.time)) if is_step and axes.time is not None else y
        return _separated(groups, i, axis, n)


def _separated(groups: list[Group], i: int, axis: int, n: int) -> list[AnyArray]:
    """Return each of the n rows of an output of all groups, in the order of the ids."""
    rows: list[Any] = [None] * n
    for group in groups:
        for place, row in zip(group.places, _separate_rows(group.outputs[i], axis), strict=True):
            rows[place] = np.squeeze(row, axis)
    return rows


def _joined_outputs(groups: list[Group], i: int, axis: int) -> AnyArray:
    """Return the rows of an output of all groups, in the order of the ids."""
    if len(groups) == 1:
        return groups[0].outputs[i]
    y = np.concatenate([group.outputs[i] for group in groups], axis)
    places = np.concatenate([group.places for group in groups])
    if (places[1:] > places[:-1]).all():
        return y
    return np.take(y, np.argsort(places), axis)


def _parts(places: Ids) -> list[Ids]:
    """Split an array into parts of MAX_ROWS, followed by smaller powers of two; an empty one stays.

    >>> [len(part) for part in _parts(np.arange(141))]
    [64, 64, 8, 4, 1]
    """
    parts, start = [], 0
    while rest := len(places) - start:
        size = min(MAX_ROWS, 1 << (rest.bit_length() - 1))
        parts.append(places[start : start + size])
        start += size
    return parts or [places]


def _separate_rows(array: AnyArray, axis: int) -> list[AnyArray]:
    """Return a copy of each row of an array, whose axis stays with the size 1."""
    before = (slice(None),) * axis
    return [array[(*before, slice(i, i + 1))].copy() for i in range(array.shape[axis])]


def _objects(arrays: Sequence[AnyArray]) -> AnyArray:
    """Return an array of arrays."""
    objects = np.empty(len(arrays), object)
    for place, array in enumerate(arrays):
        objects[place] = array
    return objects

"""`GraphPool`: thousands of sequences that run through one whole model, addressed by id."""

import itertools
import operator
import os
import sys
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays, storage
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, ShapeError, SignatureError
from ..graph.declared import as_declared, check_names
from ..graph.memory import FREE_MEMORY, MEMORY_MULTIPLE
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows, likely_axes
from ..graph.over_time.streamed import MAX_PLANS, Streamed
from ..graph.plan.planner import Planner
from .graph_stream import Carried, carried_in, check_carry, check_file, fingerprint

FILE_TYPE = "pool of a whole model of Onward"

# The graph runs for a power of two of rows, and for so many at most: each number of rows needs a plan of its
# own, whose values should stay in the caches.
MAX_ROWS = 64

SET_ITEM: Any = operator.setitem  # the types of its overloads are not those of arrays
Places = NDArray[np.intp]


class Group(NamedTuple):
    """The outputs of streams that run together, the places of their ids in a call, and the next carries."""

    places: Places
    outputs: Sequence[AnyArray]
    carries: Sequence[AnyArray]


class GraphPool:
    """Streams of one whole model, addressed by id: y = pool.step(ids, x) runs one block of each in ids.

    A step runs streams whose carries have the same lengths together. The outputs of each stream are bitwise
    the same as on its own. A call that raises changes no stream; calls from several threads take effect one
    after the other.

    Raises ArgumentError for duplicate ids, ids of closed streams, and, with the name of the node, for a model
    that combines the rows of a batch.
    """

    def __init__(self, streamed: Streamed, capacity: int, max_capacity: int | None = None) -> None:
        self._max = sys.maxsize if max_capacity is None else integer("max_capacity", max_capacity, 1)
        self._capacity = integer("capacity", capacity, 1, self._max)
        self._streamed, self._count = streamed, len(streamed.carries)
        self._is_open = np.zeros(self._capacity, bool)  # by id
        self._count_open = 0
        # The carries by id: an array of rows each, or arrays of any shape for a carry whose shape varies.
        self._varying = [
            place
            for place, carry in enumerate(streamed.carries)
            if carry.axes.time is not None or carry.any_shape or carry.initial.dtype.hasobject
        ]
        self._carries = [self._rows_of(place, self._capacity) for place in range(self._count)]
        self._seen = np.zeros(self._capacity, np.intp)  # to find duplicates among ids
        self._lock = threading.Lock()
        self._planner: Planner | None = None  # known when the shapes of the inputs are
        self._axes: list[int] = []
        self._output_axes: list[int] = []
        self._prepare_if_possible()

    def _prepare_if_possible(self) -> None:
        """Find the batch axes, unless the file leaves more sizes open than that of the batch."""
        declared = [d.axes for d in self._streamed.graph.inputs[self._count :]]
        if all(axes is not None and sum(isinstance(axis, str) for axis in axes) <= 1 for axes in declared):
            self._prepare(
                [tuple(1 if isinstance(axis, str) else axis for axis in axes or ()) for axes in declared]
            )

    def _prepare(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Find the batch axes for inputs of these shapes, for one row."""
        declared, carries = self._streamed.graph.inputs, self._streamed.carries
        names = Counter(
            axis for d in declared for axis in {*(d.axes or ())} if isinstance(axis, str) and axis
        )
        all_shapes = [*(carry.initial.shape for carry in carries), *shapes]
        choices = self._choices(
            [likely_axes(d.axes or shape, names) for d, shape in zip(declared, all_shapes, strict=True)]
        )
        graph, self._axes, self._output_axes = by_rows(self._streamed.graph, self._count, all_shapes, choices)
        self._planner = Planner(graph, max_plans=MAX_PLANS)

    def _choices(self, likely: list[list[int]]) -> list[list[int]]:
        """Return the axes of each input that may be its batch axis, the likeliest first."""
        return likely

    def _rows_of(self, place: int, n: int) -> AnyArray:
        """Return the initial value of a carry for n streams."""
        initial = self._streamed.initial[place]
        if place not in self._varying:
            return np.broadcast_to(initial, (n, *initial.shape)).copy()
        rows = np.empty(n, object)
        rows[:] = _objects([initial] * n)
        return rows

    def open(self, n: int = 1) -> NDArray[np.int64]:
        """Open n streams with initial carries and return their ids (n,). The capacity doubles as needed.

        Raises ArgumentError, and opens none, if more than max_capacity streams would be open.
        """
        with self._lock:
            total = self._count_open + integer("n", n, 0)
            if total > self._max:
                raise ArgumentError(f"{total} streams would be open, but max_capacity is {self._max}")
            if total > self._capacity:
                self._grow(total)
            ids = np.flatnonzero(~self._is_open)[:n]
            self._set(ids, [self._rows_of(place, n) for place in range(self._count)])
            self._is_open[ids] = True
            self._count_open = total
        return ids.astype(np.int64)

    def _grow(self, total: int) -> None:
        """Double the capacity until it is at least `total`."""
        capacity = self._capacity
        while capacity < total:
            capacity = min(2 * capacity, self._max)
        more = capacity - self._capacity
        carries = [
            np.concatenate([rows, self._rows_of(place, more)]) for place, rows in enumerate(self._carries)
        ]
        grown = [np.concatenate([a, np.zeros(more, a.dtype)]) for a in (self._is_open, self._seen)]
        self._carries, (self._is_open, self._seen), self._capacity = carries, grown, capacity

    def _set(self, ids: Places, rows: Sequence[AnyArray]) -> None:
        """Replace the carries of some streams; an interrupt replaces all of them or none."""
        deque(map(SET_ITEM, self._carries, itertools.repeat(ids), rows), maxlen=0)

    def close(self, ids: ArrayLike) -> None:
        """Close streams. `open` may return their ids again."""
        with self._lock:
            numbers = self._checked(ids)
            self._is_open[numbers] = False
            self._count_open -= len(numbers)

    def step(self, ids: ArrayLike, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        """Run one block of some streams; the inputs have a row for each id, in the layout of the model.

        Returns the outputs in the same layout. Raises SignatureError, ShapeError, DtypeError, ArgumentError.
        """
        with self._lock:
            numbers = self._checked(ids)
            blocks = self._inputs(args, inputs)
            groups = self._run(numbers, blocks)
        axes = self._output_axes[self._count :]
        joined = [joined_outputs(groups, i, axis, len(numbers)) for i, axis in enumerate(axes)]
        return joined[0] if len(joined) == 1 else tuple(joined)

    def _inputs(self, args: tuple[ArrayLike, ...], inputs: dict[str, ArrayLike]) -> list[AnyArray]:
        names = self._streamed.names
        declared = self._streamed.graph.inputs[self._count :]
        if len(args) + len(inputs) != len(names):
            raise SignatureError(
                f"got {len(args) + len(inputs)} inputs, but a step takes ({', '.join(names)})"
            )
        found = dict(zip(names, args, strict=False)) | inputs
        check_names(found, names, "inputs")
        return [arrays.as_array(found[d.name], d.name) for d in declared]

    def _run(self, ids: Places, blocks: list[AnyArray]) -> list[Group]:
        """Run the streams, keep their next carries, and return the outputs of each group."""
        if self._planner is None:  # the rows are the first axis of the inputs
            self._prepare([(1, *block.shape[1:]) for block in blocks])
        assert self._planner is not None
        blocks, axes = self._checked_blocks(blocks, len(ids)), self._axes[self._count :]
        groups = []
        for places in [part for group in self._alike(ids) for part in _parts(group)]:
            joined = self._joined_carries(ids[places])
            own = blocks
            if len(places) < len(ids):
                own = [np.take(block, places, axis) for block, axis in zip(blocks, axes, strict=True)]
            results = self._planner.run((*joined, *own), {}) or self._planner(*joined, *own)
            groups.append(Group(places, results[self._count :], results[: self._count]))
        self._keep(ids, groups)
        return groups

    def _alike(self, ids: Places) -> Iterable[Places]:
        """Return the places of the streams for each combination of shapes of their carries."""
        if not self._varying:
            return [np.arange(len(ids))]
        shapes = zip(*([a.shape for a in self._carries[p][ids]] for p in self._varying), strict=True)
        alike: defaultdict[Any, list[int]] = defaultdict(list)
        for place, key in enumerate(shapes):
            alike[key].append(place)
        return [np.array(places) for places in alike.values()] or [np.arange(0)]

    def _joined_carries(self, ids: Places) -> list[AnyArray]:
        """Return the carries of some streams as the rows of arrays, for the graph."""
        joined = []
        for place, (rows, axis) in enumerate(zip(self._carries, self._axes, strict=False)):
            if place not in self._varying:
                joined.append(_with_rows_at(rows[ids], axis))
            elif len(ids):
                joined.append(np.concatenate(rows[ids].tolist(), axis))
            else:
                joined.append(np.take(self._streamed.initial[place], [], axis))
        return joined

    def _keep(self, ids: Places, groups: Sequence[Group]) -> None:
        """Keep the carries that the groups return."""
        rows = []
        for place, (carry, axis) in enumerate(zip(self._streamed.carries, self._output_axes, strict=False)):
            parts = [group.carries[place] for group in groups]
            if place in self._varying:
                found = [row for part in parts for row in separate_rows(part, axis)]
                for row in found[:1]:
                    check_carry(carry, carry.initial, row, "after this call")
                rows.append(_objects(found))
                continue
            first = [part[None].swapaxes(0, axis + 1) for part in parts]
            if first[0].shape[1:] != carry.initial.shape or first[0].dtype != carry.initial.dtype:
                check_carry(carry, carry.initial, first[0][0], "after this call")
            rows.append(first[0] if len(first) == 1 else np.concatenate(first))
        places = groups[0].places if len(groups) == 1 else np.concatenate([group.places for group in groups])
        self._set(ids[places], rows)

    def _checked_blocks(self, blocks: list[AnyArray], n: int) -> list[AnyArray]:
        """Return the inputs in the declared dtypes. Raises ShapeError, DtypeError."""
        checked = []
        for declared, block, axis in zip(
            self._streamed.graph.inputs[self._count :], blocks, self._axes[self._count :], strict=True
        ):
            if block.ndim <= axis or block.shape[axis] != n:
                raise ShapeError(
                    f"{declared.name} has shape {block.shape}, but needs {n} rows on axis {axis}, as ids"
                )
            if declared.axes is not None:  # the file may declare one row
                declared = declared._replace(axes=(*declared.axes[:axis], "", *declared.axes[axis + 1 :]))
            checked.append(as_declared(declared, block))
        return checked

    def _carried(self, number: int) -> Carried:
        """Return the carries of one stream."""
        return tuple(rows[number] for rows in self._carries)

    def state(self, ids: ArrayLike) -> list[dict[str, AnyArray]]:
        """Copies of the carries of some streams, by name; `set_state` takes them back."""
        names = [carry.name for carry in self._streamed.carries]
        with self._lock:
            numbers = self._checked(ids)
            return [
                {name: a.copy() for name, a in zip(names, self._carried(number), strict=True)}
                for number in numbers
            ]

    def set_state(self, ids: ArrayLike, state: Sequence[dict[str, ArrayLike]]) -> None:
        """Replace the carries of some streams. Raises ShapeError, DtypeError, ArgumentError."""
        with self._lock:
            numbers = self._checked(ids)
            if len(state) != len(numbers):
                raise ArgumentError(f"got the states of {len(state)} streams for {len(numbers)} ids")
            self._set(numbers, self._as_rows([carried_in(each, self._streamed) for each in state]))

    def _as_rows(self, carried: Sequence[Carried]) -> list[AnyArray]:
        """Return the carries of several streams in the form in which the pool keeps them."""
        columns: list[Any] = [list(column) for column in zip(*carried, strict=True)] or [[]] * self._count
        return [
            _objects(column)
            if place in self._varying
            else np.array(column).reshape(len(column), *self._streamed.initial[place].shape)
            for place, column in enumerate(columns)
        ]

    def reset(self, ids: ArrayLike) -> None:
        """Set the carries of some streams to their initial values."""
        with self._lock:
            numbers = self._checked(ids)
            self._set(numbers, [self._rows_of(place, len(numbers)) for place in range(self._count)])

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the open streams, ascending."""
        return np.flatnonzero(self._is_open).astype(np.int64)

    @property
    def capacity(self) -> int:
        """The number of streams that may be open before the capacity doubles."""
        return self._capacity

    def __len__(self) -> int:
        """The number of open streams."""
        return self._count_open

    def copy(self) -> Self:
        """A new pool with the same open streams and carries."""
        twin = type(self)(self._streamed, self._capacity, self._max)
        with self._lock:
            twin._carries = [rows.copy() for rows in self._carries]
            twin._is_open, twin._seen = self._is_open.copy(), self._seen.copy()
            twin._count_open, twin._capacity = self._count_open, self._capacity
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ids and carries of all open streams to a safetensors file. Raises FileError."""
        with self._lock:
            ids = self.ids
            tensors = {f"{n}.{i}": a.copy() for n in ids.tolist() for i, a in enumerate(self._carried(n))}
        tensors["ids"] = ids
        storage.write(path, tensors, {"type": FILE_TYPE, "model": fingerprint(self._streamed)})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace all streams with those that a pool of the same model saved, under the same ids.

        Raises FileError if the file is damaged or of another model, and ArgumentError if max_capacity is too
        low. The pool is unchanged after an error.
        """
        tensors, metadata = storage.read(path)
        check_file(path, metadata, FILE_TYPE, self._streamed)
        ids = tensors.get("ids", np.zeros(0))
        numbers = ids.tolist()
        if (
            ids.dtype != np.int64
            or ids.ndim != 1
            or len(set(numbers)) < len(numbers)
            or min(numbers, default=0) < 0
        ):
            raise FileError(f"{path} does not say which streams are open")
        names = [carry.name for carry in self._streamed.carries]
        try:
            streams = {
                number: carried_in(
                    {name: tensors[f"{number}.{i}"] for i, name in enumerate(names)}, self._streamed
                )
                for number in numbers
            }
        except (KeyError, ArgumentError, ShapeError, DtypeError) as error:
            raise FileError(f"{path}: {error}") from error
        if len(streams) > self._max:
            raise ArgumentError(f"{len(streams)} streams would be open, but max_capacity is {self._max}")
        size = sum(a.nbytes for a in tensors.values())
        if (
            max(numbers, default=0) * sum(a.nbytes for a in self._streamed.initial)
            > FREE_MEMORY + MEMORY_MULTIPLE * size
        ):
            raise FileError(f"{path} has ids up to {max(numbers)}, but only {len(numbers)} streams")
        loaded = type(self)(self._streamed, max(self._capacity, max(numbers, default=0) + 1))
        loaded._set(np.array(numbers, np.intp), loaded._as_rows(list(streams.values())))
        loaded._is_open[numbers] = True
        with self._lock:
            self._carries, self._is_open, self._seen = loaded._carries, loaded._is_open, loaded._seen
            self._capacity, self._count_open = loaded._capacity, len(numbers)

    def _checked(self, ids: ArrayLike) -> Places:
        """Return ids as indices. Raises ArgumentError, ShapeError, DtypeError."""
        array = arrays.as_array(ids, "ids")
        if array.dtype.kind not in "iu" and array.size:
            raise DtypeError(f"ids has dtype {array.dtype}, but must hold the integers that open returned")
        if array.ndim != 1:
            raise ShapeError(f"ids has shape {array.shape}, but must be (n,), one id for each row of x")
        is_known = (array >= 0) & (array < self._capacity)
        numbers: Places = array.astype(np.intp)
        if not is_known.all() or not self._is_open[numbers].all():
            known = [known and self._is_open[n] for n, known in zip(array.tolist(), is_known, strict=True)]
            raise ArgumentError(f"no stream has the id {array[known.index(False)]}; open() returns ids")
        self._seen[numbers] = order = np.arange(len(numbers))
        if len(numbers) > 1 and (self._seen[numbers] != order).any():
            counts = Counter(numbers.tolist())
            raise ArgumentError(f"ids has duplicates: {[n for n, count in counts.items() if count > 1]}")
        return numbers


def joined_outputs(groups: list[Group], i: int, axis: int, n: int) -> AnyArray:
    """Return the rows of an output of all groups, in the order of the ids."""
    if len(groups) == 1:
        return groups[0].outputs[i]
    y = np.concatenate([group.outputs[i] for group in groups], axis)
    places = np.concatenate([group.places for group in groups])
    if (places[1:] > places[:-1]).all():
        return y
    return np.take(y, np.argsort(places), axis)


def _parts(places: Places) -> list[Places]:
    """Split an array into parts of MAX_ROWS, followed by smaller powers of two; an empty one stays.

    >>> [len(part) for part in _parts(np.arange(141))]
    [64, 64, 8, 4, 1]
    """
    parts, start, size = [], 0, MAX_ROWS
    while start < len(places):
        while size > len(places) - start:
            size //= 2
        parts.append(places[start : start + size])
        start += size
    return parts or [places]


def _with_rows_at(rows: AnyArray, axis: int) -> AnyArray:
    """Return carries (n, ...), each with the size 1 on an axis, as one array with n on that axis."""
    joined: AnyArray = rows.swapaxes(0, axis + 1)[0]
    return joined


def separate_rows(array: AnyArray, axis: int) -> list[AnyArray]:
    """Return a copy of each row of an array, whose axis stays with the size 1."""
    before = (slice(None),) * axis
    return [array[(*before, slice(i, i + 1))].copy() for i in range(array.shape[axis])]


def _objects(arrays: Sequence[AnyArray]) -> AnyArray:
    """Return an array of arrays."""
    objects = np.empty(len(arrays), object)
    for place, array in enumerate(arrays):
        objects[place] = array
    return objects

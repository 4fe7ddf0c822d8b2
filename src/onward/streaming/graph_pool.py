"""`GraphPool`: thousands of sequences that run through one whole model, addressed by id."""

import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays, storage
from ..core.checks import integer
from ..errors import ArgumentError, DtypeError, FileError, ShapeError, SignatureError
from ..graph.declared import as_declared, check_names
from ..graph.node import AnyArray
from ..graph.over_time.rows import by_rows, likely_axes
from ..graph.over_time.streamed import MAX_PLANS, Streamed
from ..graph.plan.planner import Planner
from .graph_stream import check_carry, check_file, fingerprint

FILE_TYPE = "pool of a whole model of Onward"

# The graph runs for a power of two of rows, and for so many at most: each number of rows needs a plan of its
# own, whose values should stay in the caches.
MAX_ROWS = 64

Carried = tuple[AnyArray, ...]  # of one stream, never changed in place


class Group(NamedTuple):
    """The outputs of streams that run together, and the places of their ids in a call."""

    places: list[int]
    outputs: Sequence[AnyArray]


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
        self._streams: dict[int, Carried] = {}
        self._free: list[int] = []
        self._next = 0
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

    def open(self, n: int = 1) -> NDArray[np.int64]:
        """Open n streams with initial carries and return their ids (n,). The capacity doubles as needed.

        Raises ArgumentError, and opens none, if more than max_capacity streams would be open.
        """
        with self._lock:
            total = len(self._streams) + integer("n", n, 0)
            if total > self._max:
                raise ArgumentError(f"{total} streams would be open, but max_capacity is {self._max}")
            while self._capacity < total:
                self._capacity = min(2 * self._capacity, self._max)
            ids = []
            for _ in range(n):
                if not self._free:
                    self._free.append(self._next)
                    self._next += 1
                ids.append(self._free.pop())
                self._streams[ids[-1]] = self._streamed.initial
        return np.array(ids, np.int64)

    def close(self, ids: ArrayLike) -> None:
        """Close streams. `open` may return their ids again."""
        with self._lock:
            for number in self._checked(ids):
                del self._streams[number]
                self._free.append(number)

    def step(self, ids: ArrayLike, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        """Run one block of some streams; the inputs have a row for each id, in the layout of the model.

        Returns the outputs in the same layout. Raises SignatureError, ShapeError, DtypeError, ArgumentError.
        """
        with self._lock:
            numbers = self._checked(ids)
            blocks = self._inputs(args, inputs)
            groups, after = self._run(numbers, blocks)
            self._streams.update(after)
        axes = self._output_axes[self._count :]
        joined = [_joined(groups, i, axis, len(numbers)) for i, axis in enumerate(axes)]
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

    def _run(self, numbers: list[int], blocks: list[AnyArray]) -> tuple[list[Group], dict[int, Carried]]:
        """Run the streams and return the outputs of each group, and the next carries by id."""
        if self._planner is None:  # the rows are the first axis of the inputs
            self._prepare([(1, *block.shape[1:]) for block in blocks])
        assert self._planner is not None
        blocks, axes = self._checked_blocks(blocks, len(numbers)), self._axes[self._count :]
        alike: defaultdict[Any, list[int]] = defaultdict(list)
        for place, number in enumerate(numbers):
            alike[tuple(a.shape for a in self._streams[number])].append(place)
        groups, after = list[Group](), dict[int, Carried]()
        for places in [part for group in alike.values() for part in _parts(group)] or [[]]:
            joined = self._stacked([self._streams[numbers[place]] for place in places])
            if len(places) < len(numbers):
                own = [np.take(block, places, axis) for block, axis in zip(blocks, axes, strict=True)]
            else:
                own = blocks
            results = self._planner.run((*joined, *own), {}) or self._planner(*joined, *own)
            kept = [
                _rows(a, axis) for a, axis in zip(results[: self._count], self._output_axes, strict=False)
            ]
            after |= zip((numbers[place] for place in places), zip(*kept, strict=True), strict=True)
            groups.append(Group(places, results[self._count :]))
        return groups, after

    def _stacked(self, carried: list[Carried]) -> list[AnyArray]:
        """Return the carries of several streams as rows of arrays."""
        if not carried:
            return [np.take(a, [], axis) for a, axis in zip(self._streamed.initial, self._axes, strict=False)]
        columns = zip(*carried, strict=True)
        return [np.concatenate(rows, axis) for rows, axis in zip(columns, self._axes, strict=False)]

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

    def state(self, ids: ArrayLike) -> list[dict[str, AnyArray]]:
        """Copies of the carries of some streams, by name; `set_state` takes them back."""
        names = [carry.name for carry in self._streamed.carries]
        with self._lock:
            found = [self._streams[number] for number in self._checked(ids)]
        return [{name: a.copy() for name, a in zip(names, carried, strict=True)} for carried in found]

    def set_state(self, ids: ArrayLike, state: Sequence[dict[str, ArrayLike]]) -> None:
        """Replace the carries of some streams. Raises ShapeError, DtypeError, ArgumentError."""
        with self._lock:
            numbers = self._checked(ids)
            if len(state) != len(numbers):
                raise ArgumentError(f"got the states of {len(state)} streams for {len(numbers)} ids")
            self._streams |= dict(zip(numbers, map(self._checked_state, state), strict=True))

    def _checked_state(self, state: dict[str, ArrayLike]) -> Carried:
        carried = []
        for carry in self._streamed.carries:
            if not isinstance(state, dict) or carry.name not in state:
                raise ArgumentError(f"the state of a stream must be a dict with the key {carry.name}")
            array = arrays.as_array(state[carry.name], carry.name)
            check_carry(carry, carry.initial, array, "in this state")
            carried.append(np.array(array, order="C"))
        return tuple(carried)

    def reset(self, ids: ArrayLike) -> None:
        """Set the carries of some streams to their initial values."""
        with self._lock:
            for number in self._checked(ids):
                self._streams[number] = self._streamed.initial

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the open streams, ascending."""
        return np.array(sorted(self._streams), np.int64)

    @property
    def capacity(self) -> int:
        """The number of streams that may be open before the capacity doubles."""
        return self._capacity

    def __len__(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def copy(self) -> Self:
        """A new pool with the same open streams and carries."""
        twin = type(self)(self._streamed, self._capacity, self._max)
        with self._lock:
            twin._streams, twin._free, twin._next = dict(self._streams), list(self._free), self._next
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ids and carries of all open streams to a safetensors file. Raises FileError."""
        with self._lock:
            streams = dict(self._streams)
        tensors = {f"{number}.{i}": a for number, carried in streams.items() for i, a in enumerate(carried)}
        tensors["ids"] = np.array(list(streams), np.int64)
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
                number: self._checked_state({name: tensors[f"{number}.{i}"] for i, name in enumerate(names)})
                for number in numbers
            }
        except (KeyError, ArgumentError, ShapeError, DtypeError) as error:
            raise FileError(f"{path}: {error}") from error
        if len(streams) > self._max:
            raise ArgumentError(f"{len(streams)} streams would be open, but max_capacity is {self._max}")
        with self._lock:
            self._streams, self._next = streams, max(numbers, default=-1) + 1
            self._free = []
            self._capacity = max(self._capacity, len(streams))

    def _checked(self, ids: ArrayLike) -> list[int]:
        """Return ids as integers. Raises ArgumentError, ShapeError, DtypeError."""
        array = arrays.as_array(ids, "ids")
        if array.dtype.kind not in "iu" and array.size:
            raise DtypeError(f"ids has dtype {array.dtype}, but must hold the integers that open returned")
        if array.ndim != 1:
            raise ShapeError(f"ids has shape {array.shape}, but must be (n,), one id for each row of x")
        numbers: list[int] = array.tolist()
        if len(set(numbers)) < len(numbers):
            raise ArgumentError(
                f"ids has duplicates: {[n for n, count in Counter(numbers).items() if count > 1]}"
            )
        if closed := [number for number in numbers if number not in self._streams]:
            raise ArgumentError(f"no stream has the id {closed[0]}; open() returns ids")
        return numbers


class SequencePool(GraphPool):
    """Streams of a model over sequences: y = pool.step(ids, x), with a step or a block of each stream.

    x has a row for each id on its first axis, then the axes of the model's input without the batch axis. So
    has y; if a step of x does not always complete a step of y, y is a list with an array for each id, which
    has none, one or several steps.
    """

    def _prepare_if_possible(self) -> None:
        if self._streamed.x.batch is None:
            raise ArgumentError("the input of the model has no batch axis, in which a pool puts its streams")
        self._prepare([self._streamed.block_shape])

    def _choices(self, likely: list[list[int]]) -> list[list[int]]:
        axes = [carry.axes.batch for carry in self._streamed.carries] + [self._streamed.x.batch]
        return [[] if axis is None else [axis] for axis in axes]

    def step(self, ids: ArrayLike, x: ArrayLike) -> Any:  # type: ignore[override]  # a sequence has one input
        time, rows = self._streamed.x
        assert time is not None
        assert rows is not None
        array = arrays.as_array(x, "x")
        shape = self._streamed.step_shape
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
            numbers = self._checked(ids)
            groups, after = self._run(numbers, [block])
            self._streams.update(after)
        returned = [
            self._returned(groups, i, len(numbers), is_step) for i in range(len(self._streamed.outputs))
        ]
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _returned(self, groups: list[Group], i: int, n: int, is_step: bool) -> Any:
        """Return an output with the rows first; a list if the streams may complete different steps."""
        axes, axis = self._streamed.outputs[i], self._output_axes[self._count + i]
        if axes.time is None or self._streamed.every_step:
            y = np.moveaxis(_joined(groups, i, axis, n), axis, 0)
            return np.squeeze(y, axes.time + (axis > axes.time)) if is_step and axes.time is not None else y
        rows: list[Any] = [None] * n
        for group in groups:
            for place, row in zip(group.places, _rows(group.outputs[i], axis), strict=True):
                rows[place] = np.squeeze(row, axis)
        return rows


def _joined(groups: list[Group], i: int, axis: int, n: int) -> AnyArray:
    """Return the rows of an output of all groups, in the order of the ids."""
    if len(groups) == 1:
        return groups[0].outputs[i]
    y = np.concatenate([group.outputs[i] for group in groups], axis)
    places = [place for group in groups for place in group.places]
    if places == sorted(places):
        return y
    return np.take(y, np.argsort(places), axis)


def _parts(places: list[int]) -> list[list[int]]:
    """Split a list into parts of MAX_ROWS, followed by smaller powers of two.

    >>> [len(part) for part in _parts(list(range(141)))]
    [64, 64, 8, 4, 1]
    """
    parts, start, size = [], 0, MAX_ROWS
    while start < len(places):
        while size > len(places) - start:
            size //= 2
        parts.append(places[start : start + size])
        start += size
    return parts


def _rows(array: AnyArray, axis: int) -> list[AnyArray]:
    """Return a copy of each row of an array, whose axis stays with the size 1."""
    before = (slice(None),) * axis
    return [array[(*before, slice(i, i + 1))].copy() for i in range(array.shape[axis])]

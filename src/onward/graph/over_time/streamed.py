"""A graph over one block of a sequence, with the values that it carries to the next block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core.arrays import as_array
from ...core.fingerprint import fingerprint
from ...errors import ArgumentError, DtypeError, ShapeError
from ..declared import check_call
from ..graph import Graph, Input
from ..node import AnyArray
from ..plan.planner import Planner
from ..size import Axes

MAX_PROGRAMS = 64  # phases of strides


class TimeAndBatch(NamedTuple):
    """The time axis and the batch axis of a value, or None where it has none."""

    time: int | None = None
    batch: int | None = None


NO_AXES = TimeAndBatch()


class Layout(NamedTuple):
    """The shape of an input for one step and one row, and its axes."""

    shape: tuple[int, ...]
    axes: TimeAndBatch
    multiple: int = 1  # the model takes lengths that are multiples of it
    rate: int = 1  # the steps of this input for each unit of time, if several inputs are sequences

    def at(self, units: Any, rows: Any) -> tuple[Any, ...]:
        """Return the shape for some units of time and rows, which may be names or symbolic."""
        steps = units if self.rate == 1 else units * self.rate
        sizes = {self.axes.time: steps, self.axes.batch: rows}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))

    def at_rate(self, rate: int) -> "Layout":
        """Return the layout of an input that has so many steps for each unit of time."""
        return Layout(self.shape, self.axes, self.multiple, rate)

    @property
    def declared(self) -> tuple[int | str, ...]:
        """The shape with names for the steps and the rows."""
        sizes = {self.axes.time: "time" if self.rate == 1 else f"{self.rate} time", self.axes.batch: "batch"}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))


class Carry(NamedTuple):
    """A value that an output of the graph passes to an input of the next call.

    `initial` is its value at the start. Its length along `axes.time` may vary from call to call; if
    `any_shape`, so may its shape. If there is a `source`, the carry starts at that value of the whole graph.
    """

    name: str
    initial: AnyArray
    axes: TimeAndBatch = NO_AXES
    any_shape: bool = False
    source: str = ""

    def with_rows(self, axis: int | None) -> "Carry":
        """Return the carry with the batch on another axis."""
        return Carry(self.name, self.initial, TimeAndBatch(self.axes.time, axis), self.any_shape, self.source)

    def starting_at(self, initial: AnyArray) -> "Carry":
        """Return the carry with another value at the start."""
        return Carry(self.name, initial, self.axes, self.any_shape, self.source)

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """The sizes of its axes, with a name for the batch, and none for an axis that varies otherwise."""
        names = {self.axes.time: "", self.axes.batch: "batch"}
        return tuple(names.get(axis, size) for axis, size in enumerate(self.initial.shape))

    def check(self, before: AnyArray, after: AnyArray, when: str) -> None:
        """Raise ShapeError or DtypeError unless an array can follow another one as the value."""
        shapes = [list(a.shape) for a in (before, after)]
        if self.axes.time is not None and len(shapes[0]) == len(shapes[1]):
            shapes[1][self.axes.time] = shapes[0][self.axes.time]
        if shapes[0] != shapes[1] and not self.any_shape:
            raise ShapeError(f"{self.name} has shape {after.shape} {when}, but {before.shape} before")
        if before.dtype != after.dtype:
            raise DtypeError(f"{self.name} has dtype {after.dtype} {when}, but {before.dtype} before")


@dataclass
class Streamed:
    """A graph over one block: the carries are its first inputs and outputs, in order.

    Step k of an output is complete after k * stride + latency + 1 steps of the input. `last` is the graph
    that ends the sequence.
    """

    owner: ClassVar[str] = "a whole model of Onward"  # of the files of streams and pools

    graph: Graph
    carries: tuple[Carry, ...]
    sequences: tuple[Layout, ...] = ()  # of the inputs after the carries, unless the carries are named
    outputs: tuple[TimeAndBatch, ...] = ()  # axes of the outputs after the carries
    latency: int = 0
    every_step: bool = True  # whether each step completes one step of each output over time
    last: Graph | None = None
    layers: Any = None  # a `StreamingModel` for layers, which take any rows, and whose sequences never end
    planner: Any = field(init=False)  # what runs the graph: a `Planner`, or what runs like one
    last_planner: Any = field(init=False)

    def __post_init__(self) -> None:
        self.planner = Planner(self.graph, max_programs=MAX_PROGRAMS)
        self.last_planner = None if self.last is None else Planner(self.last)

    @property
    def format(self) -> Any:
        """The object that shows the carries to users and writes them to files: the layers, or this one."""
        return self if self.layers is None else self.layers

    def pool_rows(self, at_end: bool) -> Any:
        """Return how a pool runs the rows of blocks, or of ends, if the file says so."""

    @property
    def initial(self) -> tuple[AnyArray, ...]:
        """The carries at the start of a sequence."""
        return tuple(carry.initial for carry in self.carries)

    @property
    def sequence(self) -> Layout:
        """The layout of the only sequence, if there is any. Raises ArgumentError if there are several."""
        if len(self.sequences) > 1:
            names = ", ".join(declared.name for declared in self.inputs)
            raise ArgumentError(
                f"the stream takes several sequences ({names}), but here only one: use model.stream() or "
                "model.pool() in Python"
            )
        return self.sequences[0] if self.sequences else Layout((), NO_AXES)

    @property
    def rates(self) -> dict[str, int]:
        """The steps of each sequence for one unit of time."""
        return {d.name: layout.rate for d, layout in zip(self.inputs, self.sequences, strict=False)}

    def blocks(self, units: int, rows: int) -> list[AnyArray]:
        """Return a block of zeros for each sequence."""
        pairs = zip(self.sequences, self.inputs, strict=True)
        return [np.zeros(layout.at(units, rows), declared.dtype) for layout, declared in pairs]

    def check_steps(self, blocks: Sequence[AnyArray]) -> None:
        """Raise ShapeError unless the blocks of several sequences are equally long."""
        ports = list(zip(blocks, self.sequences, self.inputs, strict=True))
        units = {(x.shape[axes.time or 0] / rate) for x, (_, axes, _, rate), _ in ports}
        if len(ports) > 1 and (len(units) > 1 or units.pop() % 1):
            given = " and ".join(f"{d.name} has {x.shape[each.axes.time or 0]} steps" for x, each, d in ports)
            ratio = " and ".join(f"{rate} of {name}" for name, rate in self.rates.items())
            raise ShapeError(f"{given}, but a call takes {ratio}, or a multiple of these numbers")

    def block_shapes(self) -> list[tuple[Any, ...]]:
        """Return the shapes of blocks of any length for one row, after those of the carries."""
        units = Axes(is_open=True).add("time")
        return [array.shape for array in self.initial] + [each.at(units, 1) for each in self.sequences]

    @property
    def inputs(self) -> Sequence[Input]:
        """The inputs of a call."""
        return self.graph.inputs[len(self.carries) :]

    @property
    def names(self) -> list[str]:
        """The names of the inputs in calls and errors; a single sequence is called x."""
        return ["x"] if len(self.sequences) == 1 else [declared.name for declared in self.inputs]

    def in_order(self, args: Sequence[ArrayLike], named: Mapping[str, ArrayLike]) -> list[ArrayLike]:
        """Return the inputs of a call in order, by the names above or those of the graph.

        Raises SignatureError.
        """
        names = self.names
        called = dict(zip((declared.name for declared in self.inputs), names, strict=True))
        named = {called.get(name, name): value for name, value in named.items()}
        found = {**dict(zip(names, args, strict=False)), **named}
        check_call(names, args, named, [name for name in names if name not in found])
        return [found[name] for name in names]

    # how streams and pools show the carries, and write them to files

    def zeros(self, rows: int = 1) -> tuple[AnyArray, ...]:
        """Return copies of the carries at the start of a sequence; `initial` holds those of all rows."""
        return tuple(array.copy() for array in self.initial)

    def join(self, carried: Sequence[AnyArray], batched: bool = True) -> dict[str, AnyArray]:
        """Return carries by name."""
        return {carry.name: array for carry, array in zip(self.carries, carried, strict=True)}

    def check_state(
        self, state: Mapping[str, ArrayLike], rows: int = 1, batched: bool = True
    ) -> tuple[AnyArray, ...]:
        """Return copies of the carries in a state. Raises ArgumentError, ShapeError, DtypeError."""
        names = [carry.name for carry in self.carries]
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise ArgumentError(f"the state must be a dict with the keys {', '.join(names)}")
        carried = []
        for carry in self.carries:
            array = as_array(state[carry.name], carry.name)
            carry.check(carry.initial, array, "in this state")
            carried.append(np.array(array, order="C"))
        return tuple(carried)

    tensors, restored = join, check_state

    def join_rows(self, states: Sequence[Sequence[AnyArray]]) -> Any:
        """Return the carries of the rows of a pool by name."""
        return [self.join(state) for state in states]

    def split_rows(self, state: Any, n: int) -> list[Sequence[AnyArray]]:
        """Return the carries of n rows in a state, or those at the start for None. Raises ArgumentError."""
        if state is None:
            return [self.zeros()] * n
        if len(state) != n:
            raise ArgumentError(f"got the states of {len(state)} streams for {n} ids")
        return [self.check_state(each) for each in state]

    def row_tensors(self, ids: AnyArray, states: Sequence[Sequence[AnyArray]]) -> dict[str, AnyArray]:
        """Return the arrays of the rows of a pool by their names in a file."""
        pairs = zip(ids, states, strict=True)
        return {"ids": ids, **{f"{n}.{i}": array for n, state in pairs for i, array in enumerate(state)}}

    def restored_rows(self, tensors: Mapping[str, AnyArray]) -> tuple[AnyArray, list[Sequence[AnyArray]]]:
        """Return the ids and carries in a file. Raises KeyError, ArgumentError, ShapeError, DtypeError."""
        ids = tensors["ids"]
        if ids.dtype != np.int64 or ids.ndim != 1 or (np.diff(ids, prepend=-1) <= 0).any():
            raise ArgumentError("it does not say which streams are open")
        names = [carry.name for carry in self.carries]
        states = [{name: tensors[f"{n}.{i}"] for i, name in enumerate(names)} for n in ids.tolist()]
        return ids, self.split_rows(states, len(ids))

    def fingerprint(self) -> dict[str, str]:
        """Return metadata that identifies the model: a hash of all that determines its outputs."""
        carries = [(carry.name, carry.axes, carry.any_shape) for carry in self.carries]
        axes, *others = [layout.axes for layout in self.sequences] or [NO_AXES]
        return {"model": fingerprint((self.graph, self.last, carries, axes, self.outputs, *others))}

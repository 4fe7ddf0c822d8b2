"""Follow time through a graph: which values have steps, how many, and what depends on their number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph
from ..inference import Values, outputs_of
from ..node import AnyArray, Node, Operand, Signature, with_size
from ..operations import OPERATIONS
from ..plan.view import View
from ..polynomial import UnsureError
from ..size import Size, is_symbolic
from .counts import Count, Counts
from .following import Follower
from .places import places_of

BATCH = "batch"  # the name of the number of rows, where it is symbolic


class Timing(NamedTuple):
    """Where time is in a value, and how many steps it has for n steps of the input.

    `complete` counts those that are complete in blocks with n steps in all, and `length` those of a sequence
    that has n. If the graph merges `rows` with time, which follow one another there, each step counts as so
    many: blocks hold the rows of the first step, then those of the second one.
    """

    axis: int
    complete: Count
    length: Count
    rows: int = 1

    def at(self, axis: int) -> "Timing":
        """Return the timing of a value whose time is on another axis."""
        return self._replace(axis=axis)

    def with_counts(self, complete: Count, length: Count) -> "Timing":
        """Return the timing of a value that has other steps."""
        return self._replace(complete=complete, length=length)

    def merged(self, axis: int, rows: int) -> "Timing":
        """Return the timing of a value whose time axis has several rows of each step."""
        return Timing(axis, self.complete.then(up=rows), self.length.then(up=rows), rows)

    def split(self, axis: int) -> "Timing":
        """Return the timing of a value whose rows are on other axes again."""
        return Timing(axis, self.complete.then(down=self.rows), self.length.then(down=self.rows))


class TimeFollower(Follower):
    """Follows time through a graph for a long sequence, whose length is symbolic, and for blocks.

    `inputs` are arrays or signatures, `axes` the time axes of those that are sequences, and `rates` their
    steps for each unit of time, by default one. The blocks add unrelated numbers of steps to values, so that
    no node takes the steps of a block for those of the sequence; two of them add none and one.
    """

    problem, name, elements = "cannot stream", "time", "the steps of the whole sequence"
    size, otherwise = "the length of the sequence", "combines steps"
    exempt = ("Recurrent", "LastStep", "FinalState", "Loop")

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Operand], axes: Mapping[str, int], rates: Mapping[str, int]
    ) -> None:
        super().__init__(graph, {**inputs})
        self._blocks: list[Values] = [{**self._whole} for _ in range(3)]
        # None: the result for the steps so far
        self.timings: dict[str, Timing | None] = {}
        self._places = dict[str, View]()
        self._counts = Counts()
        self._lengths: dict[Count, Any] = {}  # the numbers of steps of the sequence
        self._news: dict[Count, Size] = {}  # and those of a block
        (name, axis), units = next(iter(axes.items())), Count()
        self._length: Size = self._whole[name].shape[axis] // rates.get(name, 1)
        for name, axis in axes.items():
            steps = units.then(up=rates.get(name, 1))
            self.define_new(name, Timing(axis, steps, steps))

    def define_new(self, value: str, timing: Timing | None) -> str:
        """Set the timing of a value, and return its name."""
        if timing is None:
            for values in self._blocks:
                values[value] = self.signature(value)
        else:
            timing = timing.with_counts(*map(self._counts.distinct, (timing.complete, timing.length)))
            sizes = [self._size(timing.length), *self._steps_of_blocks(timing.complete)]
            for values, steps in zip([self._whole, *self._blocks], sizes, strict=True):
                values[value] = with_size(self._whole[value], timing.axis, steps)
        self.timings[value] = timing
        return value

    def _size(self, length: Count) -> Any:
        """Return the number of steps of the sequence: a formula, or else a symbol."""
        if length not in self._lengths:
            try:
                self._lengths[length] = length.size(self._length)
            except UnsureError:
                self._lengths[length] = self._new_size("length")
        return self._lengths[length]

    def _steps_of_blocks(self, complete: Count) -> list[Any]:
        """Return how many steps trial blocks add to a value."""
        if complete not in self._news:
            self._news[complete] = self._new_size("block")
        return [self._news[complete], 0, 1]

    def _varies(self, size: Any) -> bool:
        return type(size) is Size and size.names != {BATCH}

    def _new_size(self, what: str) -> Size:
        axes = self._length.axes
        return axes.add(f"{what} {len(axes.names)}")

    @property
    def stride(self) -> int:
        """The number of input steps after which all strides are at the same phase again."""
        return math.lcm(*(count.period for count in self._news))

    def timing(self, name: str) -> Timing | None:
        """Return when the steps of a value are complete, or None if it has no time axis."""
        return self.timings.get(name)

    def _timing_of(self, name: str) -> Timing:
        """Return the timing of a value whose time axis holds the steps in order; refuse other values."""
        timing = self.timing(name)
        assert timing is not None
        if timing.rows > 1:
            raise ArgumentError("it merges time with another axis")
        return timing

    def _define_derived(self, node: Node) -> None:
        """Set the timing of outputs that follow from the length, and repeat elements over time."""
        for name, axis in self._derive(node).items():
            if axis is not None:
                size, new = (values[name].shape[axis] for values in (self._whole, self._blocks[0]))
                for timing in filter(None, self.timings.values()):
                    if self._size(timing.length) == size and self._news[timing.complete] == new:
                        self.timings[name] = timing.at(axis)
                        break

    def axis(self, name: str) -> int | None:
        """Return the time axis of a value, or None."""
        timing = self.timing(name)
        return None if timing is None else timing.axis

    def value(self, name: str) -> Operand:
        """Return the array or the signature of a value."""
        return self._whole[name]

    def known(self, name: str) -> AnyArray | None:
        """Return the array of a value that is the same for all sequences, or None."""
        value = self._whole.get(name)
        return value if isinstance(value, np.ndarray) and not self._differs(name) else None

    def filled(self, shape: Sequence[Any], dtype: Any, value: Any = 0) -> Any:
        """Return an array that holds one value, or its signature for any number of rows."""
        if is_symbolic(shape):
            return Signature(tuple(shape), np.dtype(dtype))
        return np.full(shape, value, dtype)

    def initial(self, name: str) -> Any:
        """Return the array of a value that is the same for all sequences, or, for any rows, its signature."""
        value = self._whole[name]
        return value if is_symbolic(value.shape) and self.is_independent(name) else self.known(name)

    def joined(self, parts: Sequence[Any], axis: int) -> Any:
        """Return parts of a sequence one behind the other."""
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts, axis)
        steps = sum(part.shape[axis] for part in parts)
        return with_size(parts[0], axis, steps)

    def is_independent(self, name: str) -> bool:
        """Whether a value depends neither on the values of the sequence nor on its length."""
        return name not in self.timings and not self._differs(name)

    def depends_on_length(self, name: str) -> bool:
        """Whether a value without steps depends on the length of the sequence."""
        return self.timing(name) is None and self._differs(name)

    def is_length(self, count: str, x: str) -> bool:
        """Whether a value is the number of steps of another one."""
        axis, number = self.axis(x), self._whole[count]
        return axis is not None and isinstance(number, np.ndarray) and number.item() == self.shape(x)[axis]

    def of_length(self, steps: Size, likely: Sequence[str] = ()) -> tuple[str | None, int]:
        """Return a value of the graph that has a number of steps, one of `likely` if possible.

        It may have more steps, if their number is always the same; it comes second. None: there is no value.
        """
        found: list[tuple[str | None, int]] = []
        for name in (*likely, *self.timings):
            timing = self.timing(name)
            if timing is not None and name not in self._added:
                more = self._size(timing.length) - steps
                if type(more) is int and more >= 0:
                    found.append((name, more))
        return min(found, key=lambda pair: pair[1], default=(None, 0))

    def places(self, name: str) -> View | None:
        """Return a value whose elements are places that are affine functions of their indices, or None."""
        return self._places.get(name)

    def _add_by_place(self, node: Node) -> bool:
        """Follow the places that a node computes; return whether a rule for places adds it."""
        rule, inputs = OPERATIONS[node.operation].stream_by_place, list(filter(None, node.inputs))
        computed = [name for name in inputs if not isinstance(self._whole[name], np.ndarray)]
        if rule is None and not (computed and self._places.keys() >= {*computed}):
            return False
        self._whole |= outputs_of(node, self._whole)
        if any(name not in self._whole for name in node.outputs):
            return False
        places = places_of(node, self._whole, self._places)
        if places is not None:
            self._places[node.outputs[0]] = places
        return rule is not None and rule(self, node)

    def signature(self, name: str) -> Signature:
        """Return the shape and the dtype of a value."""
        return Signature.of(self._whole[name])

    def shape(self, name: str) -> tuple[Any, ...]:
        """Return the shape of a value."""
        return self.signature(name).shape

    def dtype(self, name: str) -> Any:
        """Return the dtype of a value."""
        return self.signature(name).dtype

    def inputs(self, node: Node) -> list[Operand | None]:
        """Return the inputs of a node as arrays or signatures."""
        return [self._whole[name] if name else None for name in node.inputs]

    def check_all_steps(self, node: Node, lengths: str, x: str) -> None:
        """Refuse lengths of sequences that are shorter than the longest one."""
        if lengths:
            found = self._whole[lengths]
            steps = list(found.flat) if isinstance(found, np.ndarray) else [None]
            duration = self.shape(x)[self.axis(x) or 0] if x else steps[0]
            if any(each is None or each != duration for each in steps):
                self.refuse(node, "its sequences have different lengths")

    def axis_of_output(self, node: Node) -> int | None:
        """Return the axis of the output of a node whose size depends on the length of the sequence."""
        axes = self._open_axes(node.outputs[0])
        return axes[0] if len(axes) == 1 else None

"""Follow time through a graph: which values have steps, how many, and what depends on their number."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph
from ..inference import Values, outputs_of
from ..node import AnyArray, Node, Signature
from ..operations.registry import Known
from .counts import Count, Counts
from .following import Follower

MAX_PHASES = 4096  # lengths of sequences that show what their remainders change
# The steps that trial blocks add to a value: none, one, or a number that depends on the value.
BLOCKS: tuple[Callable[[int], int], ...] = (
    lambda i: 0,
    lambda i: 1,
    lambda i: 5 + 3 * i,
    lambda i: 1009 + 53 * i,
)

T = TypeVar("T")


class Timing(NamedTuple):
    """Where time is in a value, and how many steps it has for n steps of the input.

    `complete` counts those that are complete in blocks with n steps in all, and `length` those of a sequence
    that has n.
    """

    axis: int
    complete: Count
    length: Count


class Sequences(dict[str, Known]):
    """The shapes of a graph for sequences of one length, and what follows from them; inferred on demand."""

    def __init__(self, builder: "TimeFollower", steps: int) -> None:
        super().__init__()
        self._builder, self._steps = builder, steps

    def __missing__(self, name: str) -> Known:
        timing, node = self._builder.timings.get(name), self._builder.producers.get(name)
        if timing is None and node is not None:
            self.update(outputs_of(node, {source: self[source] for source in node.inputs if source}))
        else:
            value = self._builder.value(name)
            if timing is not None:
                value = with_steps(value, timing.axis, int(timing.length.at(np.array(self._steps))))
            self[name] = value
        return self[name]


def with_steps(value: Known, axis: int, steps: int) -> Signature:
    return Signature((*value.shape[:axis], steps, *value.shape[axis + 1 :]), value.dtype)


class TimeFollower(Follower):
    """Follows time through a graph for sequences of two lengths, and for blocks.

    `first` and `second` are the inputs for the sequences, as arrays or signatures: what differs between them
    depends on time. `axes` are the time axes of the inputs that are sequences. The blocks add unrelated
    numbers of steps to values, so that no node takes the steps of a block for those of the sequence.
    """

    problem, name, elements = "cannot stream", "time", "the steps of the whole sequence"
    size, otherwise = "the length of the sequence", "combines steps"
    exempt = ("Recurrent", "LastStep", "FinalState", "Loop")

    def __init__(
        self, graph: Graph, first: Mapping[str, Known], second: Mapping[str, Known], axes: Mapping[str, int]
    ) -> None:
        self._blocks: list[Values] = [{**graph.constants, **first} for _ in BLOCKS]
        super().__init__(graph, {**graph.constants, **first}, {**graph.constants, **second}, *self._blocks)
        # None: the result for the steps so far
        self.timings: dict[str, Timing | None] = {}
        self.producers: dict[str, Node] = {}  # of values without steps
        self._added: set[str] = set()  # names of values that the source graph does not have
        self._counts = Counts()
        self._news: dict[Count, int] = {}  # the place of each number of complete steps among them
        self._periods: dict[str, int] = {}  # of arrays that depend on the length, as functions of it
        (name, axis), steps = next(iter(axes.items())), Count()
        self._lengths = [values[name].shape[axis] for values in (self._first, self._second)]
        for name, axis in axes.items():
            self.define_new(name, Timing(axis, steps, steps))

    def define_new(self, value: str, timing: Timing | None) -> str:
        """Set the timing of a value, and return its name."""
        if timing is None:
            for values in self._blocks:
                values[value] = self.signature(value)
        else:
            counts = map(self._counts.distinct, (timing.complete, timing.length))
            timing = Timing(timing.axis, *counts)
            sizes = [*timing.length.at(np.array(self._lengths)), *self._steps_of_blocks(timing.complete)]
            for values, steps in zip(self._values, sizes, strict=True):
                values[value] = with_steps(self._first[value], timing.axis, int(steps))
        self.timings[value] = timing
        return value

    def _steps_of_blocks(self, complete: Count) -> list[int]:
        """Return how many steps trial blocks add to a value."""
        place = self._news.setdefault(complete, len(self._news))
        return [steps(place) for steps in BLOCKS]

    @property
    def stride(self) -> int:
        """The number of input steps after which all strides are at the same phase again."""
        return math.lcm(*(count.period for count in self._news))

    def timing(self, name: str) -> Timing | None:
        """Return when the steps of a value are complete, or None if it has no time axis."""
        if not name or name in self.timings:
            return self.timings.get(name)
        axis = self._repeated_axis(name)
        if axis is None:
            return None
        sizes = self.for_lengths(lambda value: value.shape[axis], name)
        news = [values[name].shape[axis] for values in self._blocks]
        for timing in filter(None, self.timings.values()):
            if news == self._steps_of_blocks(timing.complete) and sizes == self._at_lengths(timing.length):
                return timing._replace(axis=axis)
        return None

    def _timing_of(self, name: str) -> Timing:
        """Return when the steps of a value with a time axis are complete."""
        timing = self.timing(name)
        assert timing is not None
        return timing

    def axis(self, name: str) -> int | None:
        """Return the time axis of a value, or None."""
        timing = self.timing(name)
        return None if timing is None else timing.axis

    def value(self, name: str) -> Known:
        """Return the array or the signature of a value for one length."""
        return self._first[name]

    def known(self, name: str) -> AnyArray | None:
        """Return the array of a value that is the same for all sequences, or None."""
        value = self._first.get(name)
        return value if isinstance(value, np.ndarray) and not self._differs(name) else None

    def is_independent(self, name: str) -> bool:
        """Whether a value depends neither on the values of the sequence nor on its length."""
        return name not in self.timings and not self._differs(name)

    def depends_on_length(self, name: str) -> bool:
        """Whether a value without steps depends on the length of the sequence."""
        return self.timing(name) is None and self._differs(name)

    def for_lengths(self, function: Callable[..., T], *names: str) -> list[T]:
        """Return the results of a function of some values for sequences of `_phases`.

        Two lengths are enough if no array among the values depends on the length.
        """
        arrays = (name for name in names if name and isinstance(self._first[name], np.ndarray))
        sequences: Iterable[Values] = (self._first, self._second)
        if any(map(self._differs, arrays)):
            sequences = (Sequences(self, steps) for steps in self._phases())
        return [function(*(values[name] if name else None for name in names)) for values in sequences]

    def _phases(self) -> range:
        """Return lengths of sequences with every remainder that may matter."""
        lengths = {timing.length for timing in self.timings.values() if timing is not None}
        period = math.lcm(*(count.period for count in lengths), *self._periods.values())
        if period > MAX_PHASES:
            raise ArgumentError(f"it depends on remainders of the length of the sequence up to {period}")
        start = max(count.start for count in lengths) + max(self._lengths)
        return range(start, start + period + 2)

    def _period_of(self, node: Node) -> int:
        """Return the period of what follows from the shapes, the outputs of a node, in the length."""
        periods = [self._periods.get(name, 1) for name in node.inputs]
        periods += [timing.length.period for timing in map(self.timing, node.inputs) if timing is not None]
        if not any(self._differs(name) for name in node.outputs if name):
            return 1
        divisor = self.known(node.inputs[1]) if node.operation in ("Div", "Mod") else None
        divisors = () if divisor is None else (abs(int(number)) or 1 for number in divisor.ravel())
        return math.lcm(*periods) * math.lcm(*divisors)

    def _at_lengths(self, count: Count) -> list[int]:
        found: list[int] = count.at(np.array(self._phases())).tolist()
        return found

    def is_length(self, count: str, x: str) -> bool:
        """Whether a value is the number of steps of another one, for all lengths of the sequence."""
        axis = self.axis(x)
        if axis is None or not isinstance(self._first[count], np.ndarray):
            return False
        return all(self.for_lengths(lambda count, x: bool(count == x.shape[axis]), count, x))

    def of_length(self, steps: Sequence[int]) -> tuple[str | None, int]:
        """Return a value of the graph that has the given numbers of steps in the sequences of `_phases`.

        It may have more steps, if their number is always the same; it comes second. None: there is no value.
        """
        found: list[tuple[str | None, int]] = []
        for name, timing in self.timings.items():
            if timing is not None and name not in self._added:
                more = {size - n for size, n in zip(self._at_lengths(timing.length), steps, strict=True)}
                if len(more) == 1 and min(more) >= 0:
                    found.append((name, more.pop()))
        return min(found, key=lambda pair: pair[1], default=(None, 0))

    def signature(self, name: str) -> Signature:
        """Return the shape, for one length, and the dtype of a value."""
        return Signature.of(self._first[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value for one length."""
        return self.signature(name).shape

    def dtype(self, name: str) -> Any:
        """Return the dtype of a value."""
        return self.signature(name).dtype

    def inputs(self, node: Node) -> list[Known | None]:
        """Return the inputs of a node as arrays or signatures."""
        return [self._first[name] if name else None for name in node.inputs]

    def check_all_steps(self, node: Node, lengths: str, x: str) -> None:
        """Refuse lengths of sequences that are shorter than the longest one."""
        if lengths:
            axis = self.axis(x)

            def are_whole(lengths: Known, x: Known | None) -> bool:
                whole = x.shape[axis or 0] if x is not None else getattr(lengths, "flat", [0])[0]
                return isinstance(lengths, np.ndarray) and bool((lengths == whole).all())

            if not all(self.for_lengths(are_whole, lengths, x)):
                self.refuse(node, "its sequences have different lengths")

    def axis_of_output(self, node: Node) -> int | None:
        """Return the axis of the output of a node whose size depends on the length of the sequence."""
        axes = self._varying_axes(node.outputs[0])
        return axes[0] if len(axes) == 1 else None

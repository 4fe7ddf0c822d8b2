"""Turn a graph over a whole sequence into a graph over one block of it, with carries to the next block.

Each operation adds its own nodes (`Operation.over_time`). An operation without such a rule stays as it is
if it does not combine the steps of a sequence (`Operation.combining`), and is refused otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph, Input
from ..inference import Values, outputs_of
from ..node import AnyArray, Node, Signature
from ..operations import OPERATIONS
from ..operations.registry import Known
from .following import Follower
from .streamed import Axes, Carry


class Timing(NamedTuple):
    """Where time is in a value, and when its steps are complete.

    Step k is complete after k * stride + latency + 1 steps of the input, rounded down. `stages` are (delay,
    stride) of the windows before it, with the stride 1 / n if each step becomes n steps: values with equal
    stages always have the same number of complete steps. The last `tail` steps become complete only at the
    end of the sequence.
    """

    axis: int
    stages: tuple[tuple[int, int | Fraction], ...] = ()
    latency: int | Fraction = 0
    stride: int | Fraction = 1
    tail: int = 0

    def after(self, delay: int, stride: int, tail: int) -> "Timing":
        """Return the timing of windows over the value, the first of which is complete `delay` steps later."""
        stages = self.stages
        if (delay, stride) != (0, 1):
            if stride == 1 and delay > 0 and stages and stages[-1][1] == 1 and stages[-1][0] > 0:
                stages = (*stages[:-1], (stages[-1][0] + delay, 1))
            else:
                stages = (*stages, (delay, stride))
        return Timing(self.axis, stages, self.latency + delay * self.stride, self.stride * stride, tail)


class BlockBuilder(Follower):
    """Builds the graph over one block, or over the end of the sequence if `at_end`.

    `first` and `second` are the values of the graph for sequences of two lengths: what differs between them
    depends on time. `axes` are the time axes of the inputs that are sequences.
    """

    problem, name, elements = "cannot stream", "time", "the steps of the whole sequence"
    size, otherwise = "the length of the sequence", "combines steps"
    exempt = ("Recurrent", "LastStep", "FinalState", "Loop")

    def __init__(
        self, graph: Graph, first: Values, second: Values, axes: Mapping[str, int], at_end: bool
    ) -> None:
        super().__init__(graph, dict(first), second)
        self.at_end = at_end  # whether the graph ends the sequence
        # None: the result for the steps so far
        self._timings: dict[str, Timing | None] = {name: Timing(axis) for name, axis in axes.items()}
        self._lengths: dict[str, Timing] = {}  # the sequences whose shapes decide about a value
        self._names: dict[str, str] = {"": ""}
        self._constants = dict(graph.constants)
        self.carries: list[Carry] = []
        self._after: dict[str, str] = {}
        self._node = Node("", (), (), {}, "")
        self._number = 0

    def build(self) -> Graph:
        """Return the graph; its first inputs and, unless at the end, its first outputs are the carries."""
        self.follow()
        outputs = [self._names.get(name, name) for name in self._source.outputs]
        inputs = [Input(c.name, c.initial.dtype) for c in self.carries]
        return Graph(
            [*inputs, *self._source.inputs],
            (*([] if self.at_end else [self._after[c.name] for c in self.carries]), *outputs),
            (),
            self._nodes,
            self._constants,
        )

    def _add_node(self, node: Node) -> None:
        self._node = node
        missing = [name for name in (*node.inputs, *node.outputs) if name and name not in self._first]
        if missing or any(name and name not in self._second for name in node.outputs):
            self.refuse(node, "its shapes depend on the values of the sequence")
        timed = [name for name in node.inputs if name and self.timing(name) is not None]
        if all(isinstance(self._first[name], np.ndarray) for name in node.outputs if name):
            lengths = [self.timing(name) or self._lengths.get(name) for name in node.inputs if name]
            source = next(filter(None, lengths), None)
            if source is not None and any(self._differs(name) for name in node.outputs if name):
                self._lengths |= {name: source for name in node.outputs if name}
            self._copy(node)
        elif timed or any(name in self._timings for name in node.inputs):
            self._check_sizes(node)
            rule = OPERATIONS[node.operation].stream
            (rule or BlockBuilder.unchanged)(self, node)
        else:
            self._copy(node)

    def _copy(self, node: Node) -> None:
        self._nodes.append(node._replace(inputs=tuple(self._names.get(name, name) for name in node.inputs)))

    @property
    def stride(self) -> int:
        """The number of input steps after which all strides are at the same phase again."""
        strides = (timing.stride for timing in self._timings.values() if timing is not None)
        return math.lcm(*(Fraction(stride).numerator for stride in strides))

    # What rules ask.

    def timing(self, name: str) -> Timing | None:
        """Return when the steps of a value are complete, or None if it has no time axis."""
        if name in self._timings:
            return self._timings[name]
        source = self._lengths.get(name)
        if source is None:
            return None
        axes = self._varying_axes(name)
        array = self._first[name]
        if len(axes) != 1 or not isinstance(array, np.ndarray) or (array != array.flat[0]).any():
            return None
        return source._replace(axis=axes[0])

    def _timing_of(self, name: str) -> Timing:
        """Return when the steps of a value with a time axis are complete."""
        timing = self.timing(name)
        assert timing is not None
        return timing

    def axis(self, name: str) -> int | None:
        """Return the time axis of a value, or None."""
        timing = self.timing(name)
        return None if timing is None else timing.axis

    def known(self, name: str) -> AnyArray | None:
        """Return a value that does not depend on the values of the sequence, for one length."""
        value = self._first.get(name)
        return value if isinstance(value, np.ndarray) else None

    def is_independent(self, name: str) -> bool:
        """Whether a value depends neither on the values of the sequence nor on its length."""
        return name not in self._timings and self.timing(name) is None and not self._differs(name)

    def is_length(self, count: str, x: str) -> bool:
        """Whether a value is the number of steps of another one, for all lengths of the sequence."""
        axis, values = self.axis(x), (self._first, self._second)
        if axis is None or self.known(count) is None:
            return False
        return all(bool(known[count] == known[x].shape[axis]) for known in values)

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

    # What rules add.

    def constant(self, array: AnyArray) -> str:
        """Add a constant."""
        name = self._new_name("constant")
        self._constants[name] = self._first[name] = array
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def add_all(
        self, operation: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node, and return its outputs."""
        names = tuple(self._new_name(operation) for _ in range(outputs))
        node = Node(operation, tuple(inputs), names, attributes, self._node.name, self._node.source)
        self._first |= outputs_of(node, self._first)
        self._copy(node)
        return names

    def _new_name(self, what: str) -> str:
        self._number += 1
        return f"{next(filter(None, self._node.outputs))}/{what}:{self._number}"

    def carry(
        self, node: Node, initial: AnyArray, axis: int | None, suffix: str = "", source: str = ""
    ) -> str:
        """Add a value that the next call takes from this one; its length may vary along a time axis.

        If `source` names a value of the graph, the carry starts at that value instead of at `initial`.
        """
        base = f"{node.name}.{suffix or node.operation.lower()}"
        name, number = base, 1
        while any(c.name == name for c in self.carries):
            number += 1
            name = f"{base}_{number}"
        self.carries.append(Carry(name, initial, Axes(axis), source=source))
        self._first[name] = Signature.of(initial)
        return name

    def keep(self, carry: str, value: str) -> None:
        """Set what the next call takes as a carry."""
        self._after[carry] = self._names.get(value, value)

    def define(self, output: str, value: str, timing: Timing | None) -> None:
        """Let a value stand for an output of the graph over the whole sequence."""
        if output:
            self._names[output] = self._names.get(value, value)
            self._timings[output] = timing

    def define_new(self, value: str, timing: Timing | None) -> str:
        """Set the timing of an added value, and return its name."""
        self._timings[value] = timing
        return value

    def unchanged(self, node: Node) -> None:
        """Add a node that does not combine steps."""
        if all(self.timing(name) is None for name in node.inputs):  # only results for the steps so far
            self._copy(node)
            self._timings |= {name: None for name in node.outputs if name}
            return
        if any(name in self._timings and self._timings[name] is None for name in node.inputs if name):
            self.refuse(node, "it combines a step with a result for the whole sequence")
        self._check_combined(node)
        inputs, timing = self.aligned(node.inputs)
        for output in filter(None, node.outputs):
            self._timings[output] = timing._replace(axis=self._axis_after(node, output))
            self._names.pop(output, None)
        self._copy(node._replace(inputs=inputs))

    def aligned(self, names: Sequence[str]) -> tuple[tuple[str, ...], Timing]:
        """Return values with the same number of complete steps, and their timing.

        The steps of each value that the others lack yet are held back.
        """
        found = {name: timing for name in names if (timing := self.timing(name)) is not None}
        latest = max(found.values(), key=lambda timing: timing.latency)
        tail = max(timing.tail for timing in found.values())
        if len({timing.stages for timing in found.values()}) == 1:
            return tuple(names), latest._replace(tail=tail)
        if len({timing.stride for timing in found.values()}) > 1:
            self.refuse(self._node, "its inputs have different rates")
        axes = [timing.axis for timing in found.values()]
        held = [self.carry(self._node, self._steps(name, 0), self.axis(name), "held") for name in found]
        pairs = [name for pair in zip(held, found, strict=True) for name in pair]
        results = self.add_all("Align", pairs, len(pairs), axes=axes)
        for before, after in zip(held, results[len(axes) :], strict=True):
            self.keep(before, after)
        aligned = dict(zip(found, results, strict=False))
        stages = (*latest.stages, (0, 0, *(timing.stages for timing in found.values())))
        joined = latest._replace(stages=stages, tail=tail)  # type: ignore[arg-type]  # unlike any other stages
        return tuple(aligned.get(name, name) for name in names), joined

    def _steps(self, x: str, count: int, value: Any = 0) -> AnyArray:
        """Return steps of x that hold one value."""
        shape, axis = self.shape(x), self._timing_of(x).axis
        return np.full((*shape[:axis], count, *shape[axis + 1 :]), value, self.dtype(x))

    def windows(
        self, node: Node, x: str, span: int, stride: int, before: int | AnyArray, after: int, padding: Any
    ) -> str:
        """Return the steps of complete windows.

        `before` and `after` are steps of padding at the ends; `before` may also hold these steps.
        """
        timing, reach = self._timing_of(x), max(span, stride)
        initial = before if isinstance(before, np.ndarray) else self._steps(x, before, padding)
        held = self.carry(node, initial, timing.axis, "steps")
        if self.at_end:  # all remaining steps
            y = self.add("Concat", held, x, axis=timing.axis)
            if after:
                widths = np.zeros((2, initial.ndim), np.int64)
                widths[1, timing.axis] = after
                value = self.constant(np.asarray(padding, initial.dtype))
                y = self.add("Pad", y, self.constant(widths.ravel()), value)
        else:
            attributes = {"axis": timing.axis, "span": reach, "stride": stride}
            y, rest = self.add_all("Continue", (held, x), 2, **attributes)
            self.keep(held, rest)
        # a sequence of few steps does not have the whole tail, but steps of padding that are complete earlier
        known = initial.shape[timing.axis]
        tail = (0 if known >= reach else timing.tail) + after
        return self.define_new(y, timing.after(reach - 1 - known, stride, tail // stride))

    def upsampled(self, x: str, value: str, factor: int, tail: int) -> str:
        """Set the timing of a value with `factor` steps for each step of x, and `tail` more at the end."""
        timing = self._timing_of(x)
        rate = Fraction(1, factor)
        stages = timing.stages if factor == 1 else (*timing.stages, (0, rate))
        after = timing._replace(stages=stages, stride=timing.stride * rate, tail=timing.tail * factor + tail)
        return self.define_new(value, after)

    def ones_like_steps(self, x: str) -> str:
        """Return ones in the shape of x (batch, channels, ...) for one channel."""
        shape = self.add("Shape", x)
        first, rest = self.slice(shape, 0, 0, 1), self.slice(shape, 0, 2)
        sizes = self.add("Concat", first, self.constant(np.array([1])), rest, axis=0)
        ones = self.add("ConstantOfShape", sizes, value=np.ones(1, self.dtype(x)))
        return self.define_new(ones, self.timing(x))

    def padded(self, node: Node, x: str, before: int, after: int, value: Any) -> str:
        """Return x with steps of one value added at both ends, or left out where the number is negative."""
        if before < 0:
            timing = self._timing_of(x)
            left = self.carry(node, self._steps(x, -before).astype(bool), timing.axis, "left")
            y, rest = self.add_all("Skip", (left, x), 2, axis=timing.axis)
            self.keep(left, rest)
            x, before = self.define_new(y, timing.after(-before, 1, timing.tail)), 0
        y = self.windows(node, x, 1, 1, before, max(0, after), np.asarray(value).item())
        return self.without_last(node, y, -after) if after < 0 else y

    def without_last(self, node: Node, x: str, count: int) -> str:
        """Return x without its last steps, which are held back as long as they may be the last ones."""
        timing = self._timing_of(x)
        held_back = max(0, count - timing.tail)
        left_out = count if self.at_end else held_back
        y, after = x, timing._replace(tail=timing.tail - count)
        if held_back:
            y = self.windows(node, x, held_back + 1, 1, 0, 0, 0)
            after = self._timing_of(y)._replace(tail=0)
        if left_out:
            y = self.slice(y, timing.axis, 0, -left_out)
        return self.define_new(y, after)

    def every(self, node: Node, x: str, step: int) -> str:
        """Return every step-th step of x."""
        y = self.windows(node, x, 1, step, 0, 0, 0)
        timing = self._timing_of(y)
        return self.define_new(self.slice(y, timing.axis, 0, step=step), timing)

    def slice(self, x: str, axis: int, start: int, end: int | None = None, step: int = 1) -> str:
        """Return a part of a value along an axis."""
        numbers = [start, np.iinfo(np.int64).max if end is None else end, axis, *([step] if step > 1 else [])]
        return self.add("Slice", x, *(self.constant(np.array([n])) for n in numbers))

    def latest(self, node: Node, x: str) -> str:
        """Return the last step so far, zeros before the first one."""
        timing = self._timing_of(x)
        before = self.carry(node, self._steps(x, 1), timing.axis, "last")
        y = self.slice(self.add("Concat", before, x, axis=timing.axis), timing.axis, -1)
        self.keep(before, y)
        return y

    def summarize(self, node: Node, value: str, removed: Sequence[int]) -> None:
        """Let a value without some of its axes be the result of a node for the steps so far."""
        if removed:
            value = self.add("Squeeze", value, self.constant(np.array(removed)))
        self.define(node.outputs[0], value, None)

    def check_all_steps(self, node: Node, lengths: str, x: str) -> None:
        """Refuse lengths of sequences that are shorter than the longest one."""
        if lengths:
            known = self.known(lengths)
            steps = self.shape(x)[self.axis(x) or 0] if x else None
            if known is None or (known != (known.flat[0] if steps is None else steps)).any():
                self.refuse(node, "its sequences have different lengths")

    def axis_of_output(self, node: Node) -> int | None:
        """Return the axis of the output of a node whose size depends on the length of the sequence."""
        axes = self._varying_axes(node.outputs[0])
        return axes[0] if len(axes) == 1 else None

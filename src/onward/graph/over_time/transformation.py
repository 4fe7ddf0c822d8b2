"""Turn a graph over a whole sequence into a graph over one block of it, with carries to the next block.

Each operation adds its own nodes (`Operation.over_time`). An operation without such a rule stays as it is
if it does not combine the steps of a sequence (`Operation.combining`), and is refused otherwise.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ...errors import OnwardError
from ..graph import Graph
from ..inference import Values, outputs_of
from ..node import Node, Operand, with_size
from ..operations import OPERATIONS
from ..sized import has_sizes, integers
from .block_graph import BlockGraph
from .counts import Count
from .timing import Timing


class BlockBuilder(BlockGraph):
    """Builds the graph over one block, or over the end of the sequence if `at_end`.

    Each node that it adds accepts blocks of any number of steps; the other arguments are those of
    `TimeFollower`.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, Operand],
        axes: Mapping[str, int],
        at_end: bool,
        rates: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(graph, inputs, axes, rates)
        self.at_end = at_end  # whether the graph ends the sequence

    def build(self) -> Graph:
        """Return the graph; its first inputs and, unless at the end, its first outputs are the carries."""
        self.follow()
        for name in filter(self.timing, self._source.outputs):
            self._timing_of(name)
        return self.graph(with_carries=not self.at_end)

    def _add_node(self, node: Node) -> None:
        self._node = node
        inputs = [name for name in node.inputs if name]
        self._check_inferred(inputs, self._whole)
        if self._add_expansion(node):
            return
        if node.operation == "If" and self._differs(node.inputs[0]):
            self.refuse(node, "what it runs depends on the length of the sequence")
        if node.operation == "Check" and self.depends_on_length(node.inputs[0]):
            return  # the layout of the inputs ensures it for long sequences; a block need not fulfil it
        if self._add_by_place(node):
            return
        timed = [name for name in inputs if self.timing(name) is not None]
        so_far = any(name in self.timings and self.timings[name] is None for name in inputs)
        if timed and so_far:
            self.refuse(node, "it combines a step with a result for the whole sequence")
        if len(timed) > 1:
            node = node.with_inputs(*self._aligned(node))
        self._whole |= outputs_of(node, self._whole)
        outputs = [name for name in node.outputs if name]
        self._check_inferred(outputs, self._whole)
        is_known = all(isinstance(self._whole[name], np.ndarray) for name in outputs)
        rule = OPERATIONS[node.operation].stream
        if is_known or (self._derived.issuperset(timed) and not self._combines_steps(node)):
            self._copy(node if is_known else self._sized(node))
            self._define_derived(node)
            if so_far:
                if any(map(self._differs, outputs)):
                    self.refuse(node, "it repeats a result for the whole sequence")
                self.timings |= dict.fromkeys(outputs)
        else:
            self._check_sizes(node)
            (rule or BlockBuilder.unchanged)(self, node)

    def _check_inferred(self, names: Sequence[str], values: Values) -> None:
        """Refuse the present node if the shape of one of its values is not known."""
        if any(name and name not in values for name in names):
            self.refuse(self._node, "its shapes depend on the values of the sequence")

    def _add_expansion(self, node: Node) -> bool:
        """Add what a node is composed of in its place; return whether it is a composition."""
        expand = OPERATIONS[node.operation].expand_over_time
        expansion = expand and expand(node, self.inputs(node))
        if not expansion:
            return False
        self._constants |= expansion.constants
        for values in (self._whole, *self._blocks):
            values |= expansion.constants
        for inner in expansion.nodes:
            self._add_node(inner)
        return True

    def _combines_steps(self, node: Node) -> bool:
        """Whether a node has a rule over time and combines steps, also of values that repeat elements."""
        operation = OPERATIONS[node.operation]
        if operation.stream is None or operation.combines is None:
            return False
        pairs = zip(node.inputs, self.combined(node), strict=True)
        return any(name and self.axis(name) in combined for name, combined in pairs)

    def _copy(self, node: Node) -> None:
        """Add a node as it is. Raises ArgumentError if it does not accept some blocks."""
        for values in self._blocks:
            try:
                values |= outputs_of(node, values)
            except OnwardError as error:
                self.refuse(node, f"it does not accept every block: {error}")
            self._check_inferred(node.outputs, values)
        self._append(node)

    def _sized(self, node: Node) -> Node:
        """Return a node that takes the steps of a block where it takes those of the sequence as sizes."""
        places = OPERATIONS[node.operation].shape_inputs or ()
        timed = [name for name in node.inputs if self.timing(name) is not None]
        inputs = [
            self._sizes_of_block(name, timed) if place in places else name
            for place, name in enumerate(node.inputs)
        ]
        return node.with_inputs(*inputs)

    def _sizes_of_block(self, name: str, likely: Sequence[str]) -> str:
        """Return sizes in which the steps that a block adds to a value stand for those of the sequence.

        The values of `likely` are tried first. Sizes that no value has, and none exceeds by a fixed number of
        steps, stay as they are.
        """
        sizes = self._whole[name] if name else None
        if not isinstance(sizes, np.ndarray) or sizes.ndim != 1 or not has_sizes(sizes):
            return name
        parts, blocks = list[str](), [list[Any]() for _ in self._blocks]
        for size in sizes:
            value, longer = self.of_length(size, likely) if self._varies(size) else (None, 0)
            if value is not None:
                value = self.without_last(self._node, value, longer) if longer else value
                axis = self.axis(value) or 0
                parts.append(self.slice(self.add("Shape", value), 0, axis, axis + 1))
            elif self._varies(size):
                return name
            else:
                parts.append(self.constant(integers([size])))
            for found, values in zip(blocks, self._blocks, strict=True):
                found.append(size if value is None else values[value].shape[axis])
        new = self.add("Concat", *parts, axis=0)
        for found, values in zip(blocks, self._blocks, strict=True):
            values[new] = integers(found)
        return new

    def define(self, output: str, value: str, timing: Timing | None) -> None:
        """Let a value stand for an output of the graph over the whole sequence."""
        if output:
            self._names[output] = self._names.get(value, value)
            before = self.shape(output)
            self.define_new(output, timing)
            if before != self.shape(output):
                self.refuse(self._node, "its number of steps does not follow from the length of the sequence")

    def unchanged(self, node: Node) -> None:
        """Add a node that does not combine steps."""
        self._check_combined(node)
        node = self._sized(node)
        timing = next(filter(None, map(self.timing, node.inputs)))
        self._copy(node)
        for output in filter(None, node.outputs):
            self._names.pop(output, None)
            found = [values[output].shape for values in (self._whole, *self._blocks)]
            self.define_new(output, timing.at(self._axis_after(node, output)))
            if found != [values[output].shape for values in (self._whole, *self._blocks)]:
                self.refuse(node, "its sizes are not those of a block")

    def accepts(self, node: Node, axis: int) -> bool:
        """Whether a node accepts blocks of any number of steps, which are those of an axis of its output."""
        (output,), timing = node.outputs, next(filter(None, map(self.timing, node.inputs)))
        steps = self._steps_of_blocks(timing.complete)
        try:
            found = [outputs_of(node, values)[output].shape for values in self._blocks]
        except OnwardError:
            return False
        return found == [with_size(self._whole[output], axis, n).shape for n in steps]

    def _aligned(self, node: Node) -> tuple[str, ...]:
        """Return the inputs of a node, those over time with the same number of complete steps.

        The steps of each value that the others lack yet are held back.
        """
        timings = {name: timing for name in node.inputs if (timing := self.timing(name)) is not None}
        if len({timing[1:] for timing in timings.values()}) == 1:
            return node.inputs
        found = list(timings)
        lengths = [self._timing_of(name).length for name in found]
        self._check_rates(found)
        length = self._counts.broadcast(*lengths) if self._broadcasts(node, found) else None
        aligned = self._align(found, self.at_end) if length is None else self._align_broadcast(found, length)
        steps = dict(zip(found, aligned, strict=True))
        return tuple(steps.get(name, name) for name in node.inputs)

    def _broadcasts(self, node: Node, names: Sequence[str]) -> bool:
        """Whether a node repeats each of several values over time if it has one step, and the others more."""
        several = self._new_size("several")
        for one in names:
            values = dict(self._whole)
            for name in names:
                steps = 1 if name == one else several
                values[name] = with_size(self._whole[name], self._timing_of(name).axis, steps)
            try:
                found = outputs_of(node, values)
            except OnwardError:
                return False
            has_several = [any(size is several for size in value.shape) for value in found.values()]
            if not has_several or not all(has_several):
                return False
        return True

    def _align(self, names: Sequence[str], are_equal: bool) -> list[str]:
        """Return the steps of values that all of them have; if `are_equal`, none may have others."""
        held = self._held(names)
        pairs = [name for pair in zip(held, names, strict=True) for name in pair]
        axes = [self._timing_of(name).axis for name in names]
        results = self.add_all("Align", pairs, len(pairs), axes=axes, are_equal=are_equal)
        for before, after in zip(held, results[len(axes) :], strict=True):
            self.keep(before, after)
        length = self._counts.least(*(self._timing_of(name).length for name in names))
        return self._define_aligned(names, results[: len(axes)], length)

    def _align_broadcast(self, names: Sequence[str], length: Count) -> list[str]:
        """Return the steps of values that all of them have; at the end, values of one step are repeated."""
        axes = [self._timing_of(name).axis for name in names]
        firsts = [
            self.carry(self._node, self._steps(name, 0), axis, "first")
            for name, axis in zip(names, axes, strict=True)
        ]
        if self.at_end:
            parts = [name for group in zip(firsts, self._held(names), names, strict=True) for name in group]
            results = self.add_all("BroadcastRest", parts, len(names), axes=axes)
            return self._define_aligned(names, results, length)
        aligned = self._align(names, are_equal=False)
        for first, y, axis in zip(firsts, aligned, axes, strict=True):
            self.keep(first, self.slice(self.add("Concat", first, y, axis=axis), axis, 0, 2))
        return self._define_aligned(names, aligned, length)

    def _check_rates(self, names: Sequence[str]) -> None:
        if len({self._timing_of(name).complete.rate for name in names}) > 1:
            self.refuse(self._node, "its inputs have different rates")

    def _held(self, names: Sequence[str]) -> list[str]:
        """Return carries for the steps of values that others lack yet."""
        return [self.carry(self._node, self._steps(name, 0), self.axis(name), "held") for name in names]

    def _define_aligned(self, names: Sequence[str], results: Sequence[str], length: Count) -> list[str]:
        timings = [self._timing_of(name) for name in names]
        complete = self._counts.least(*(timing.complete for timing in timings))
        return [
            self.define_new(name, Timing(timing.axis, complete, length))
            for name, timing in zip(results, timings, strict=True)
        ]

    def as_long_as(self, x: str, other: str) -> str:
        """Return the first steps of x, as many as another value has."""
        (_, *counts), (_, *others) = (self._timing_of(name)[:3] for name in (x, other))
        if all(self._counts.least(*pair) is pair[0] for pair in zip(counts, others, strict=True)):
            return x
        self._check_rates([x, other])
        return self._align([x, other], are_equal=False)[0]

    def _steps(self, x: str, count: int, value: Any = 0, dtype: Any = None) -> Any:
        """Return steps of x that hold one value."""
        shape, axis = self.shape(x), self._timing_of(x).axis
        return self.filled((*shape[:axis], count, *shape[axis + 1 :]), dtype or self.dtype(x), value)

    def windows(
        self, node: Node, x: str, span: int, stride: int, before: Any, after: Any, padding: Any
    ) -> str:
        """Return the steps of complete windows.

        `before` and `after` are numbers of steps of padding at the ends, or hold these steps.
        """
        timing, reach = self._timing_of(x), max(span, stride)
        after = int(after) if isinstance(after, int | np.integer) else after
        initial = self._steps(x, int(before), padding) if isinstance(before, int | np.integer) else before
        held = self.carry(node, initial, timing.axis, "steps")
        known = initial.shape[timing.axis]
        ending = after if isinstance(after, int) else after.shape[timing.axis]
        if self.at_end:  # all remaining steps
            more = () if isinstance(after, int) else (self.constant(after),)
            y = self.add("Concat", held, x, *more, axis=timing.axis)
            if ending and not more:
                widths = np.zeros((2, initial.ndim), np.int64)
                widths[1, timing.axis] = ending
                value = self.constant(np.asarray(padding, initial.dtype))
                y = self.add("Pad", y, self.constant(widths.ravel()), value)
        else:
            attributes = {"axis": timing.axis, "span": reach, "stride": stride}
            y, rest = self.add_all("Continue", (held, x), 2, **attributes)
            self.keep(held, rest)
        complete = timing.complete.then(add=known - reach + stride, down=stride)
        length = timing.length.then(add=known + ending - span + stride, down=stride)
        return self.define_new(y, Timing(timing.axis, complete, length))

    def upsampled(self, x: str, value: str, factor: int, tail: int, axis: int | None = None) -> str:
        """Set the timing of a value with `factor` steps for each step of x, and `tail` more at the end.

        They are on the axis of those of x unless another one is given.
        """
        x_axis, complete, length, _ = self._timing_of(x)
        timing = Timing(x_axis if axis is None else axis, complete.then(up=factor), length.then(factor, tail))
        return self.define_new(value, timing)

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
            axis, complete, length, _ = self._timing_of(x)
            left = self.carry(node, self._steps(x, -before, dtype=np.bool_), axis, "left")
            y, rest = self.add_all("Skip", (left, x), 2, axis=axis)
            self.keep(left, rest)
            x = self.define_new(y, Timing(axis, complete.then(add=before), length.then(add=before)))
            before = 0
        y = (
            self.windows(node, x, 1, 1, before, max(0, after), np.asarray(value).item())
            if before or after > 0
            else x
        )
        return self.without_last(node, y, -after) if after < 0 else y

    def without_last(self, node: Node, x: str, count: int) -> str:
        """Return x without its last steps, which are held back as long as they may be the last ones."""
        axis, complete, length, _ = self._timing_of(x)
        held_back, y = complete.most_that_may_be_last(length, count), self._alias(x)
        if held_back:
            y = self.windows(node, x, held_back + 1, 1, 0, 0, 0)
        if left_out := count if self.at_end else held_back:
            y = self.slice(y, axis, 0, -left_out)
        return self.define_new(y, Timing(axis, complete.then(add=-held_back), length.then(add=-count)))

    def every(self, node: Node, x: str, step: int) -> str:
        """Return every step-th step of x."""
        y = self.windows(node, x, 1, step, 0, 0, 0)
        timing = self._timing_of(y)
        return self.define_new(self.slice(y, timing.axis, 0, step=step), timing)

    def recent(self, node: Node, x: str, count: int, suffix: str = "steps") -> tuple[str, str]:
        """Return x behind as many steps before this block, zeros before the first one, and its last steps."""
        axis = self._timing_of(x).axis
        before = self.carry(node, self._steps(x, count), axis, suffix)
        joined = self.add("Concat", before, x, axis=axis)
        last = self.slice(joined, axis, -count)
        self.keep(before, last)
        return joined, last

    def latest(self, node: Node, x: str) -> str:
        """Return the last step so far, zeros before the first one."""
        return self.recent(node, x, 1, "last")[1]

    def summarize(self, node: Node, value: str, removed: Sequence[int]) -> None:
        """Let a value without some of its axes be the result of a node for the steps so far."""
        if removed:
            value = self.add("Squeeze", value, self.constant(np.array(removed)))
        self.define(node.outputs[0], value, None)

"""Stream a graph over sequences: find the time axis of its input, and build the graphs over blocks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any, NamedTuple

from ...errors import ArgumentError, OnwardError, SignatureError
from ..declared import as_declared, check_names
from ..graph import Graph, Input
from ..inference import Values, flattened, infer
from ..node import Signature
from ..simplification.simplify import simplify
from .following import varying_axes
from .streamed import Axes, Streamed
from .transformation import BlockBuilder

LENGTHS = 20011, 30011  # two sequences show where time is; primes, unlike any other size
EVEN_LENGTHS = 20480, 30720  # for models that halve their steps and double them again
RECURRENT = ("Recurrent", "MaskedRecurrent")
SEVERAL = 3  # rows that show where the batch is
MAX_GUESSES = 500  # combinations of sizes for axes that the file leaves open


class Layout(NamedTuple):
    """The shape of the input for one step and one row, and its axes."""

    shape: tuple[int, ...]
    axes: Axes
    lengths: tuple[int, int] = LENGTHS  # two lengths of sequences that the model takes

    def open_axes(self) -> tuple[int | str, ...]:
        """Return the axes of an input of any number of steps and rows."""
        names = {self.axes.time: "time", self.axes.batch: "batch"}
        return tuple(names.get(axis, size) for axis, size in enumerate(self.shape))

    def at(self, steps: int, rows: int) -> tuple[int, ...]:
        """Return the shape for some steps and rows."""
        sizes = {self.axes.time: steps, self.axes.batch: rows}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))


def streamed_over_time(graph: Graph, time_axis: int | None, fixed: Mapping[str, Any], batch: int) -> Streamed:
    """Return the graph over one block of a sequence.

    Raises ArgumentError, which names the node, if an operation needs the whole sequence.
    """
    graph, x = _with_fixed(graph, fixed)
    layout = find_layout(graph, x, time_axis)
    graph, first, second = _flattened(graph, x, layout, batch)
    axis = layout.axes.time
    assert axis is not None
    builder = BlockBuilder(graph, first, second, {x.name: axis}, at_end=False)
    block = builder.build().without_unused()
    block.inputs[-1] = x._replace(axes=layout.open_axes())
    timings = [builder.timing(name) for name in graph.outputs]
    rows = _batch_axes(graph, x, layout, graph.outputs)
    timed = [timing for timing in timings if timing is not None]
    return Streamed(
        block,
        tuple(builder.carries),
        layout.axes,
        tuple(Axes(t.axis if t else None, row) for t, row in zip(timings, rows, strict=True)),
        math.ceil(max((timing.latency for timing in timed), default=0)),
        all(not timing.stages for timing in timed),
        BlockBuilder(graph, first, second, {x.name: axis}, at_end=True).build().without_unused(),
        step_shape=layout.shape,
        block_shape=layout.at(layout.lengths[0], 1),
    )


def _with_fixed(graph: Graph, fixed: Mapping[str, Any]) -> tuple[Graph, Input]:
    """Return the graph of its first free input, in which the others are constants."""
    declared = {d.name: d for d in graph.inputs}
    check_names(declared, list(fixed), "inputs")
    free = [d for d in graph.inputs if d.name not in {*fixed, *graph.defaults}]
    if len(free) != 1 or free[0].axes is None or free[0].dtype is None:
        names = ", ".join(d.name for d in free)
        raise SignatureError(
            f"a stream takes one input of known rank, not ({names}): pass the others by name, or carry="
        )
    constants = graph.constants | {
        name: as_declared(declared[name], value).copy() for name, value in fixed.items()
    }
    alone = graph.replaced(inputs=free, constants=constants, defaults=frozenset())
    return simplify(alone), free[0]


def _flattened(graph: Graph, x: Input, layout: Layout, rows: int) -> tuple[Graph, Values, Values]:
    """Return the graph without bodies where that is possible, and its values for both lengths."""
    graph = flattened(graph, {x.name: _inferred(graph, x, layout.at(layout.lengths[0], rows))[x.name]})
    first, second = (_inferred(graph, x, layout.at(length, rows)) for length in layout.lengths)
    return graph, first, second


def _inferred(graph: Graph, x: Input, shape: Sequence[int]) -> Values:
    assert x.dtype is not None
    return infer(graph, {x.name: Signature(tuple(shape), x.dtype)})


def find_layout(graph: Graph, x: Input, time_axis: int | None) -> Layout:
    """Return the layout for which the steps of each recurrent node are those of the input.

    Raises ArgumentError if there is none, or no recurrent node and no `time_axis`.
    """
    assert x.axes is not None
    rank = len(x.axes)
    if time_axis is not None and not -rank <= time_axis < rank:
        raise ArgumentError(f"time_axis={time_axis}; expected {-rank} to {rank - 1}")
    problem: OnwardError | None = None
    runs = False
    for layout in islice(_layouts(graph, x, time_axis), MAX_GUESSES):
        try:
            if _has_steps(graph, x, layout, time_axis is not None):
                return layout
            runs = True
        except OnwardError as error:
            problem = problem or error
    has_steps = any(node.operation in RECURRENT for node in graph.nodes)
    if problem is not None and (has_steps or not runs):
        raise ArgumentError(f"cannot stream: {problem}") from problem
    raise ArgumentError("no recurrent layer tells which axis of the input is time: pass time_axis=")


def _layouts(graph: Graph, x: Input, time_axis: int | None) -> Iterator[Layout]:
    """Yield possible layouts, the likeliest first."""
    axes = list(enumerate(x.axes or ()))
    open_axes = [axis for axis, size in axes if isinstance(size, str)]
    times = (
        [time_axis % len(axes)]
        if time_axis is not None
        else sorted(range(len(axes)), key=open_axes.count)[::-1]
    )
    guesses = _constant_sizes(graph)
    for time in sorted(times, key=lambda axis: axis not in open_axes):
        batches = [axis for axis, size in axes if axis != time and (isinstance(size, str) or size == 1)]
        for batch in [*batches, None]:
            unknown = [axis for axis in open_axes if axis not in (time, batch)]
            for sizes in product(guesses, repeat=len(unknown)):
                found = dict(zip(unknown, sizes, strict=True))
                shape = tuple(1 if axis in (time, batch) else found.get(axis, size) for axis, size in axes)
                for lengths in (LENGTHS, EVEN_LENGTHS):
                    yield Layout(shape, Axes(time, batch), lengths)  # type: ignore[arg-type]  # open sizes are replaced


def _constant_sizes(graph: Graph) -> list[int]:
    """Return the sizes of the axes of constants and of the inputs of layers."""
    layers = [node.attributes["layer"] for node in graph.nodes if "layer" in node.attributes]
    sizes = [layer.input_size for layer in layers]
    sizes += [size for array in graph.constants.values() for size in array.shape]
    return list(dict.fromkeys(sizes))


def _has_steps(graph: Graph, x: Input, layout: Layout, is_given: bool) -> bool:
    """Whether the steps and the rows of each recurrent node are those of the input."""
    is_fixed = layout.axes.batch is not None and isinstance((x.axes or ())[layout.axes.batch], int)
    rows = SEVERAL if layout.axes.batch is not None and not is_fixed else 1
    graph, first, second = _flattened(graph, x, layout, rows)
    recurrent = [node.inputs[0] for node in graph.nodes if node.operation in RECURRENT]
    if any(name not in first for name in graph.outputs):
        return False
    if not recurrent:
        return is_given
    shapes = [(first[name].shape, second[name].shape) for name in recurrent if name in first]
    return all(a[0] != b[0] and (a[1] == rows or is_given) for a, b in shapes)


def output_axes(graph: Graph, x: Input, layout: Layout) -> list[Axes]:
    """Return the time axis and the batch axis of each output."""
    first, second = (_inferred(graph, x, layout.at(length, 1)) for length in layout.lengths)
    found = []
    for name, batch in zip(graph.outputs, _batch_axes(graph, x, layout, graph.outputs), strict=True):
        found.append(Axes(next(iter(varying_axes(first[name].shape, second[name].shape)), None), batch))
    return found


def _batch_axes(graph: Graph, x: Input, layout: Layout, names: Sequence[str]) -> list[int | None]:
    """Return the axis of each value that grows with the number of rows."""
    if layout.axes.batch is None:
        return [None] * len(names)
    one = _inferred(graph, x, layout.at(layout.lengths[0], 1))
    try:
        several = _inferred(graph, x, layout.at(layout.lengths[0], SEVERAL))
    except OnwardError:  # the file fixes the batch size
        several = one
    found: list[int | None] = []
    for name in names:
        sizes = list(zip(one[name].shape, several[name].shape, strict=True))
        axes = [axis for axis, (a, b) in enumerate(sizes) if (a, b) == (1, SEVERAL)]
        axes = axes or [axis for axis, (a, _) in enumerate(sizes) if a == 1]
        found.append(axes[0] if axes else None)
    return found


def pooled_over_time(graph: Graph, time_axis: int | None, fixed: Mapping[str, Any]) -> Streamed:
    """Return the graph over one block of one sequence, with the batch axes of its carries.

    These are the axes in which the carries of several rows are larger.
    """
    streamed = streamed_over_time(graph, time_axis, fixed, 1)
    several = streamed_over_time(graph, time_axis, fixed, SEVERAL)
    carries = []
    for one, other in zip(streamed.carries, several.carries, strict=True):
        axes = varying_axes(one.initial.shape, other.initial.shape)
        carries.append(one._replace(axes=one.axes._replace(batch=axes[0] if axes else None)))
    return replace(streamed, carries=tuple(carries))

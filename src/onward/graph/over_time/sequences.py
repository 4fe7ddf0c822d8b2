"""Run a graph over sequences: find the time axis of its input, and build the graphs over blocks."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core.arrays import as_lengths
from ...errors import ArgumentError, OnwardError, SignatureError
from ..declared import as_declared, check_names
from ..graph import Graph, Input
from ..inference import Values, flattened, infer
from ..node import AnyArray, Signature
from ..plan.planner import Planner
from ..simplification.simplify import simplify
from ..size import APART, LONG, Size
from ..size import Axes as Sizes
from .streamed import Axes, Streamed
from .transformation import BlockBuilder

MULTIPLES = 1, 1 << 12  # what lengths are multiples of, for models that halve steps and double them again
RECURRENT = ("Recurrent", "MaskedRecurrent")
LOOPS = ("Loop", "Scan")
SEVERAL = 3  # rows that show where the batch is in carries
BLOCK = 20011  # steps of a block that is longer than any window
MAX_GUESSES = 500  # combinations of sizes for axes that the file leaves open


class Layout(NamedTuple):
    """The shape of the input for one step and one row, and its axes."""

    shape: tuple[int, ...]
    axes: Axes
    multiple: int = 1  # the model takes lengths that are multiples of it

    def at(self, steps: Any, rows: Any) -> tuple[Any, ...]:
        """Return the shape for some steps and rows, which may be names or symbolic."""
        sizes = {self.axes.time: steps, self.axes.batch: rows}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))


def streamed_over_time(
    graph: Graph, time_axis: int | None, fixed: Mapping[str, Any], batch: int, pooled: bool
) -> Streamed:
    """Return the graph over one block of a sequence; if `pooled`, with the batch axes of its carries.

    Raises ArgumentError, which names the node, if an operation needs the whole sequence.
    """
    whole, x = _with_fixed(graph, fixed)
    layout = find_layout(whole, x, time_axis)
    assert layout.axes.time is not None

    def builder_of(rows: int, at_end: bool = False) -> BlockBuilder:
        steps = _steps(layout, Sizes(is_open=True, is_strict=True))
        return BlockBuilder(
            whole, _signature(x, layout.at(steps, rows)), {x.name: layout.axes.time or 0}, at_end
        )

    builder = builder_of(batch)
    block = builder.build().without_unused()
    block.inputs[-1] = x.with_axes(*layout.at("time", "batch"))
    for name in whole.outputs:
        if builder.depends_on_length(name):
            raise ArgumentError(f"cannot stream: the output {name} depends on the length of the sequence")
    carries = builder.carries
    if pooled:  # the batch axes are those in which the carries of several rows are larger
        several = builder_of(SEVERAL)
        several.build()
        for i, (one, other) in enumerate(zip(carries, several.carries, strict=True)):
            shapes = enumerate(zip(one.initial.shape, other.initial.shape, strict=True))
            rows = next((axis for axis, (a, b) in shapes if a != b), None)
            carries[i] = one.with_rows(rows)
    block.inputs[:-1] = [Input(carry.name, carry.initial.dtype, carry.sizes) for carry in carries]
    last = builder_of(batch, at_end=True).build().without_unused()
    timed = [timing.complete for name in whole.outputs if (timing := builder.timing(name)) is not None]
    return Streamed(
        block,
        tuple(carries),
        layout.axes,
        tuple(output_axes(whole, x, layout)),
        max((count.latency() for count in timed), default=0),
        all(count.is_every_step for count in timed),
        last,
        step_shape=layout.shape,
        block_shape=layout.at(BLOCK, 1),
    )


def _with_fixed(graph: Graph, fixed: Mapping[str, Any]) -> tuple[Graph, Input]:
    """Return the graph of its first free input, in which the others are constants."""
    declared = {d.name: d for d in graph.inputs}
    check_names(declared, list(fixed), "inputs")
    free = [d for d in graph.inputs if d.name not in {*fixed, *graph.defaults}]
    if len(free) != 1 or free[0].axes is None or free[0].dtype is None:
        names = ", ".join(d.name for d in free)
        raise SignatureError(
            f"a stream takes one input of known rank, not ({names}): pass the others by name, or carry=; or "
            "let onward.chain connect them to a model before this one that computes them from one input"
        )
    constants = graph.constants | {
        name: as_declared(declared[name], value).copy() for name, value in fixed.items()
    }
    alone = graph.replaced(inputs=free, constants=constants, defaults=frozenset())
    return simplify(alone), free[0]


def _signature(x: Input, shape: tuple[Any, ...]) -> dict[str, Signature]:
    assert x.dtype is not None
    return {x.name: Signature(shape, x.dtype)}


def find_layout(graph: Graph, x: Input, time_axis: int | None) -> Layout:
    """Return the layout for which the steps of each recurrent node are those of the input.

    With loops alone, the time axis is the one called time. Raises ArgumentError if there is none, or no
    recurrent node and no `time_axis`.
    """
    assert x.axes is not None
    rank = len(x.axes)
    has_steps = any(node.operation in RECURRENT for node in graph.nodes)
    has_loops = any(node.operation in LOOPS for node in graph.nodes)
    if time_axis is None and has_loops and not has_steps and x.axes.count("time") == 1:
        time_axis = x.axes.index("time")
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
    if problem is not None and (has_steps or not runs):
        raise ArgumentError(f"cannot stream: {problem}") from problem
    if time_axis is not None:
        axes = ", ".join(map(str, x.axes))
        raise ArgumentError(
            f"cannot stream: {x.name} has the axes ({axes}), and no weight tells the size of one that is "
            "neither time nor the batch: export the model with a fixed size"
        )
    raise ArgumentError("no recurrent layer tells which axis of the input is time: pass time_axis=")


def _layouts(graph: Graph, x: Input, time_axis: int | None) -> Iterator[Layout]:
    """Yield possible layouts, the likeliest first."""
    axes = list(enumerate(x.axes or ()))
    open_axes = [axis for axis, size in axes if isinstance(size, str)]
    times = range(len(axes))[::-1] if time_axis is None else [time_axis % len(axes)]
    guesses = [node.attributes["layer"].input_size for node in graph.nodes if "layer" in node.attributes]
    guesses += [size for array in graph.constants.values() for size in array.shape]
    grouped = [
        node for node in graph.nodes if "group" in node.attributes and node.inputs[1] in graph.constants
    ]
    guesses += [node.attributes["group"] * graph.constants[node.inputs[1]].shape[1] for node in grouped]
    for time in sorted(times, key=lambda axis: axis not in open_axes):
        batches = [axis for axis, size in axes if axis != time and (isinstance(size, str) or size == 1)]
        for batch in [*batches, None]:
            unknown = [axis for axis in open_axes if axis not in (time, batch)]
            for sizes in product(dict.fromkeys(guesses), repeat=len(unknown)):
                found = dict(zip(unknown, sizes, strict=True))
                shape = tuple(1 if axis in (time, batch) else found.get(axis, size) for axis, size in axes)
                for multiple in MULTIPLES:
                    yield Layout(shape, Axes(time, batch), multiple)


def _has_steps(graph: Graph, x: Input, layout: Layout, is_given: bool) -> bool:
    """Whether the steps and the rows of each recurrent node are those of the input."""
    graph, values, rows = _inferred(graph, x, layout)
    recurrent = [node.inputs[0] for node in graph.nodes if node.operation in RECURRENT]
    if any(name not in values for name in graph.outputs):
        return False
    if not recurrent:
        return is_given
    shapes = [values[name].shape for name in recurrent if name in values]
    return all(_is_timed(a) and (is_given or b == rows) for a, b, *_ in shapes)


def _inferred(graph: Graph, x: Input, layout: Layout) -> tuple[Graph, Values, Any]:
    """Return the graph without bodies where that is possible, its values, and the rows of x."""
    axes, batch = Sizes(is_open=True), layout.axes.batch
    is_open = batch is not None and x.axes is not None and isinstance(x.axes[batch], str)
    rows: Any = axes.add("batch") if is_open else 1
    signature = _signature(x, layout.at(_steps(layout, axes), rows))
    graph = flattened(graph, signature)
    return graph, infer(graph, signature), rows


def _is_timed(size: Any) -> bool:
    """Whether a size depends on the number of steps."""
    return type(size) is Size and "time" in size.names


def _steps(layout: Layout, axes: Sizes) -> Any:
    """Return the symbolic number of steps; a multiple may stand for few of them."""
    n = layout.multiple
    return n * axes.add("time", (LONG + APART) // n, low=int(n == 1))


def output_axes(graph: Graph, x: Input, layout: Layout) -> list[Axes]:
    """Return the time axis and the batch axis of each output."""
    graph, values, rows = _inferred(graph, x, layout)
    found = []
    for name in graph.outputs:
        sizes = list(enumerate(values[name].shape))
        times = (axis for axis, size in sizes if _is_timed(size))
        own = [axis for axis, size in sizes if size == rows] or [axis for axis, size in sizes if size == 1]
        batches = iter(own if layout.axes.batch is not None else ())
        found.append(Axes(next(times, None), next(batches, None)))
    return found


def run_with_lengths(
    planner: Planner, layout: Layout, x: AnyArray, lengths: ArrayLike
) -> tuple[AnyArray, ...]:
    """Return the outputs for the first lengths[b] steps of each row b of x, padded with zeros.

    Rows of equal length run in one call. Raises ArgumentError.
    """
    time, batch = layout.axes
    rows_of = [axes.batch for axes in output_axes(planner.graph, planner.graph.inputs[0], layout)]
    if time is None or batch is None or None in rows_of:
        raise ArgumentError(
            "got lengths, but the model has no rows: its outputs or its input lack a batch axis"
        )
    counts = as_lengths(lengths, (x.shape[batch],), x.shape[time])
    groups = [np.flatnonzero(counts == length) for length in np.unique(counts)]
    found = [planner(np.take(x, rows, batch).take(range(counts[rows[0]]), time)) for rows in groups]
    outputs = zip(zip(*found, strict=True), rows_of, strict=True)
    return tuple(_joined(parts, groups, axis or 0) for parts, axis in outputs)


def _joined(parts: Sequence[AnyArray], groups: Sequence[AnyArray], axis: int) -> AnyArray:
    """Return the rows of all groups in order along an axis, as long as the longest."""
    shape = list(np.max([part.shape for part in parts], axis=0))
    shape[axis] = sum(map(len, groups))
    y: AnyArray = np.zeros(shape, parts[0].dtype)
    rows_first = np.moveaxis(y, axis, 0)
    for part, rows in zip(parts, groups, strict=True):
        own = np.moveaxis(part, axis, 0)
        place: tuple[Any, ...] = (rows, *map(slice, own.shape[1:]))
        rows_first[place] = own
    return y

"""Run a graph over sequences: find the time axis of its input, and build the graphs over blocks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...core.arrays import as_lengths
from ...errors import ArgumentError, OnwardError, SignatureError
from ..declared import UNNAMED
from ..graph import Graph, Input, bodies
from ..inference import Values, flattened, infer
from ..node import AnyArray, Signature
from ..plan.planner import Planner
from ..simplification.simplify import simplify
from ..size import APART, LONG, Axes, Size, is_symbolic
from .streamed import Carry, Layout, Streamed, TimeAndBatch
from .timing import BATCH
from .transformation import BlockBuilder

# assumed divisors of the lengths: the second is for models that join steps, or halve and double them
MULTIPLES = 1, (1 << 12) * 9 * 5
RECURRENT = ("Recurrent", "MaskedRecurrent")
LOOPS = ("Loop", "Scan")
MAX_GUESSES = 500  # combinations of sizes for axes that the file leaves open
LIKELY = 2  # combinations for inputs of different rates
MAX_AXES = 8  # that constants give sizes, strides or scales
RATES = range(2, 4097)  # steps of an input for one of another
MAX_RATES = 24  # of one input
MAX_TRIALS = 200  # of the rates of several inputs


def streamed_over_time(
    graph: Graph, time_axis: int | None, fixed: Mapping[str, Any], batch: int, pooled: bool
) -> Streamed:
    """Return the graph over one block of its sequences; if `pooled`, with the batch axes of its carries.

    Raises ArgumentError, which names the node, if an operation needs a whole sequence.
    """
    source, inputs = _with_fixed(graph, fixed)
    layouts = find_layouts(source, inputs, time_axis)
    pairs = list(zip(inputs, layouts, strict=True))

    def builder_of(rows: int | None, at_end: bool = False) -> BlockBuilder:
        sizes = Axes(is_open=True, is_strict=True)
        signatures = _signatures(inputs, layouts, sizes, sizes.add(BATCH) if rows is None else rows)
        axes, rates = (
            {x.name: value for x, value in zip(inputs, values, strict=True)}
            for values in ([layout.axes.time or 0 for layout in layouts], [layout.rate for layout in layouts])
        )
        return BlockBuilder(source, signatures, axes, at_end, rates)

    builder = builder_of(batch)
    block = builder.build().without_unused()
    for name in source.outputs:
        if builder.depends_on_length(name):
            raise ArgumentError(f"cannot stream: the output {name} depends on the length of the sequence")
    carries = builder.carries
    if pooled:
        carries = _with_batch_axes(carries, builder_of(None))
    block.inputs[:] = [Input(carry.name, carry.initial.dtype, carry.sizes) for carry in carries]
    block.inputs += [x.with_axes(*layout.declared) for x, layout in pairs]
    last = builder_of(batch, at_end=True).build().without_unused()
    timed = [timing.complete for name in source.outputs if (timing := builder.timing(name)) is not None]
    return Streamed(
        block,
        tuple(carries),
        layouts,
        tuple(output_axes(source, inputs, layouts)),
        max((count.latency() for count in timed), default=0),
        all(count.is_every_step for count in timed),
        last,
    )


def _with_batch_axes(carries: list[Carry], builder: BlockBuilder) -> list[Carry]:
    """Return carries with the batch axes that a builder for any number of rows finds."""
    with suppress(ArgumentError):  # rows that a model combines run one by one
        builder.build()
    found = {carry.name: carry.initial.shape for carry in builder.carries}
    axes = ([axis for axis, size in enumerate(found.get(c.name, ())) if is_symbolic([size])] for c in carries)
    return [one.with_rows(next(iter(own), None)) for one, own in zip(carries, axes, strict=True)]


def _with_fixed(graph: Graph, fixed: Mapping[str, Any]) -> tuple[Graph, list[Input]]:
    """Return the graph of its free inputs, in which the others are constants."""
    alone = graph.with_fixed(fixed).with_defaults()
    if not alone.inputs or any(d.axes is None or d.dtype is None for d in alone.inputs):
        names = ", ".join(d.name for d in alone.inputs)
        raise SignatureError(
            f"a stream takes sequences of known rank, not ({names}): pass the others by name, or carry=; or "
            "let onward.chain connect them to a model before this one that computes them from one input"
        )
    return simplify(alone), alone.inputs


def _signatures(
    inputs: Sequence[Input], layouts: Sequence[Layout], sizes: Axes, rows: Any
) -> dict[str, Signature]:
    """Return the signatures of inputs for a symbolic unit of time, of which a multiple may stand for few."""
    n = layouts[0].multiple
    units = n * sizes.add("time", (LONG + APART) // n, low=int(n == 1))
    pairs = [(x, layout.at(units, rows)) for x, layout in zip(inputs, layouts, strict=True)]
    return {x.name: Signature(shape, x.dtype) for x, shape in pairs if x.dtype is not None}


def find_layouts(graph: Graph, inputs: Sequence[Input], time_axis: int | None) -> tuple[Layout, ...]:
    """Return the layouts for which the steps of each recurrent node are those of the inputs.

    With loops alone, the time axis is the one called time. Raises ArgumentError if there is none, or no
    recurrent node and no `time_axis`.
    """
    times = [_time_axis(graph, x, time_axis) for x in inputs]
    has_steps = _is_recurrent(graph)
    problem: OnwardError | None = None
    runs = False
    for layouts in _combinations(graph, inputs, times) if has_steps or None not in times else ():
        try:
            if _has_steps(graph, inputs, layouts, None not in times):
                return layouts
            runs = True
        except OnwardError as error:
            problem = problem or error
    others = "; pass inputs that are no sequences by name" if len(inputs) > 1 else ""
    if problem is not None and (has_steps or not runs):
        raise ArgumentError(f"cannot stream: {problem}{others}") from problem
    if None not in times:
        known = "; ".join(f"{x.name} has the axes ({', '.join(map(str, x.axes or ()))})" for x in inputs)
        raise ArgumentError(
            f"cannot stream: {known}, and no weight tells the size of one that is "
            f"neither time nor the batch: export the model with a fixed size{others}"
        )
    raise ArgumentError(f"no recurrent layer tells which axis of the input is time: pass time_axis={others}")


def _is_recurrent(graph: Graph) -> bool:
    """Whether a graph or one of its bodies has recurrent nodes."""
    return any(node.operation in RECURRENT or any(map(_is_recurrent, bodies(node))) for node in graph.nodes)


def _time_axis(graph: Graph, x: Input, time_axis: int | None) -> int | None:
    """Return the time axis of an input: the given one, or the one called time if loops alone have steps."""
    axes = x.axes or ()
    operations = {node.operation for node in graph.nodes if not node.attributes.get("is_rolled_up")}
    if time_axis is None and operations & {*LOOPS} and not operations & {*RECURRENT}:
        return axes.index("time") if axes.count("time") == 1 else None
    if time_axis is not None and not -len(axes) <= time_axis < len(axes):
        raise ArgumentError(f"time_axis={time_axis}; expected {-len(axes)} to {len(axes) - 1}")
    return time_axis


def _combinations(
    graph: Graph, inputs: Sequence[Input], times: Sequence[int | None]
) -> Iterator[tuple[Layout, ...]]:
    """Yield possible layouts of all inputs, the likeliest first: those of equal rates."""
    found = [list(islice(_layouts(graph, *pair), MAX_GUESSES)) for pair in zip(inputs, times, strict=True)]
    for rates, most in _rates(graph, len(inputs)):
        yield from islice(_at_rates(inputs, found, rates), most)


def _at_rates(
    inputs: Sequence[Input], found: Sequence[Sequence[Layout]], rates: Sequence[int]
) -> Iterator[tuple[Layout, ...]]:
    """Yield the combinations of layouts of inputs that fit one another, with rates."""
    for first in found[0]:
        fitting = [
            [other.at_rate(rate) for other in each if _fit(x, other, inputs[0], first, rate == rates[0])]
            for x, each, rate in zip(inputs[1:], found[1:], rates[1:], strict=True)
        ]
        yield from product([first.at_rate(rates[0])], *fitting)


def _fit(x: Input, layout: Layout, other: Input, first: Layout, is_as_long: bool) -> bool:
    """Whether two inputs both have rows, and axes of the same name for both rows and as many steps."""
    if (layout.axes.batch is None) != (first.axes.batch is None) or layout.multiple != first.multiple:
        return False
    names = [
        [("" if axis is None else str((each.axes or ())[axis])) for axis in found.axes]
        for each, found in ((x, layout), (other, first))
    ]
    shared = {*(x.axes or ())} & {*(other.axes or ())} - {*UNNAMED}
    pairs = [(a, b) for a, b in zip(*names, strict=True) if a in shared or b in shared]
    return all(a == b for a, b in pairs) and (is_as_long or names[0][0] not in shared)


def _rates(graph: Graph, inputs: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the steps of each input for one unit of time, and how many layouts may have them.

    Equal ones come first; the strides and the sizes in the graph tell the others. Unlikely layouts come last.
    """
    equal = (1,) * inputs
    yield equal, LIKELY
    strides, sizes = list[int](), set[int]()
    for node in graph.nodes if inputs > 1 else ():
        arrays = [graph.constants[name] for name in node.inputs[1:] if name in graph.constants]
        known = [n for array in arrays if 0 < array.size <= MAX_AXES for n in array.ravel().tolist()]
        sizes |= {int(n) for n in known if n in RATES}
        strides += [n for n in node.attributes.get("strides", ()) if n in RATES]
    found = {1}
    for factor in (*strides, *sizes):
        found = {*sorted(found | {n * factor for n in found if n * factor in RATES})[:MAX_RATES]}
    ordered = sorted(found)
    unequal = (
        rates
        for count, largest in enumerate(ordered, 1)
        for rates in product(ordered[:count], repeat=inputs)
        if min(rates) < largest == max(rates)
    )
    yield from ((rates, LIKELY) for rates in islice(unequal, MAX_TRIALS))
    yield equal, MAX_GUESSES


def _layouts(graph: Graph, x: Input, time_axis: int | None) -> Iterator[Layout]:
    """Yield possible layouts, the likeliest first."""
    axes = list(enumerate(x.axes or ()))
    open_axes = [axis for axis, size in axes if isinstance(size, str)]
    times = range(len(axes))[::-1] if time_axis is None else [time_axis % len(axes)]
    guesses = [node.attributes["cell"].input_size for node in graph.nodes if "cell" in node.attributes]
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
                    yield Layout(shape, TimeAndBatch(time, batch), multiple)


def _has_steps(graph: Graph, inputs: Sequence[Input], layouts: Sequence[Layout], is_given: bool) -> bool:
    """Whether the steps and the rows of each recurrent node are those of the inputs."""
    graph, values, rows = _inferred(graph, inputs, layouts)
    recurrent = [node.inputs[0] for node in graph.nodes if node.operation in RECURRENT]
    if any(name not in values for name in graph.outputs):
        return False
    if not recurrent:
        return is_given
    shapes = [values[name].shape for name in recurrent if name in values]
    return all(_is_timed(a) and (is_given or b == rows) for a, b, *_ in shapes)


def _inferred(graph: Graph, inputs: Sequence[Input], layouts: Sequence[Layout]) -> tuple[Graph, Values, Any]:
    """Return the graph without bodies where that is possible, its values, and the rows of the inputs."""
    sizes = Axes(is_open=True)
    axes = [(x.axes or (), layout.axes.batch) for x, layout in zip(inputs, layouts, strict=True)]
    batches = [own[axis] for own, axis in axes if axis is not None]
    rows: Any = sizes.add(BATCH) if batches and all(isinstance(size, str) for size in batches) else 1
    signatures = _signatures(inputs, layouts, sizes, rows)
    graph = flattened(graph, signatures)
    return graph, infer(graph, signatures), rows


def _is_timed(size: Any) -> bool:
    """Whether a size depends on the number of steps."""
    return type(size) is Size and "time" in size.names


def output_axes(graph: Graph, inputs: Sequence[Input], layouts: Sequence[Layout]) -> list[TimeAndBatch]:
    """Return the time axis and the batch axis of each output."""
    graph, values, rows = _inferred(graph, inputs, layouts)
    found = []
    for name in graph.outputs:
        sizes = list(enumerate(values[name].shape))
        times = (axis for axis, size in sizes if _is_timed(size))
        axes = [axis for axis, size in sizes if size == rows] or [axis for axis, size in sizes if size == 1]
        batches = iter(axes if layouts[0].axes.batch is not None else ())
        found.append(TimeAndBatch(next(times, None), next(batches, None)))
    return found


def run_with_lengths(
    planner: Planner, layout: Layout, x: AnyArray, lengths: ArrayLike
) -> tuple[AnyArray, ...]:
    """Return the outputs for the first lengths[b] steps of each row b of x, padded with zeros.

    Rows of equal length run in one call. Raises ArgumentError.
    """
    time, batch = layout.axes
    rows_of = [axes.batch for axes in output_axes(planner.graph, planner.graph.inputs, [layout])]
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
        moved = np.moveaxis(part, axis, 0)
        place: tuple[Any, ...] = (rows, *map(slice, moved.shape[1:]))
        rows_first[place] = moved
    return y

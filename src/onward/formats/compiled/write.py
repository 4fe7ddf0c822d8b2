"""Compile models to `.onward` files, whose programs run without Python and without a compiler."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core import atomic
from ...errors import ArgumentError, OnwardError, ShapeError
from ...graph import Input
from ...graph.node import AnyArray
from ...graph.over_time.streamed import Streamed
from ...graph.structure import names as returned_names
from ...layers.base_model import BaseModel
from ...layers.graphs import graph_of
from ...model import Model
from ...streaming.graph_pool import GraphPool, SequencePool
from ...streaming.rows import Rows
from . import examples
from .programs import FileRecorder, GraphPrograms, decisions
from .words import FileWriter

STREAMS = (3, 1)  # that run together in examples
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 32, 160, 256, 512, 0)  # of blocks in examples


class Summary(NamedTuple):
    """What a compiled file holds: the sizes that its calls take, and how it streams."""

    inputs: list[str]
    outputs: list[str]
    calls: int  # programs
    no_calls: str  # "", or why there are none
    blocks: int  # programs for streams
    no_streams: str  # "", or why there are none
    bytes: int


def compile_model(
    model: BaseModel,
    path: str | os.PathLike[str],
    *calls: Any,
    blocks: Sequence[Any] = (),
    carry: Mapping[str, str] | None = None,
    initial: Mapping[str, ArrayLike] | None = None,
    time_axis: int | None = None,
    **fixed: ArrayLike,
) -> Summary:
    """Compile a model to a file; `BaseModel.compile` documents the arguments."""
    whole = model if isinstance(model, Model) else Model(graph_of(model)).of_sequences
    recorder = FileRecorder()
    general, others = whole.generalized(fixed)
    plain = without_next_states(with_fixed(general, others))
    called, problem = _calls(plain, calls, recorder)
    stream: _Stream | None = None
    reason = ""
    try:
        streamed = general.streamed(1, carry, initial, time_axis, others, pooled=True)
        names = names_of_outputs(general, streamed, carry)
        stream = _Stream(streamed, recorder, [_block(streamed, each) for each in blocks], names)
    except OnwardError as error:
        if blocks or carry or initial or time_axis is not None:
            raise
        reason = str(error)
    if called is None and stream is None:
        assert problem is not None
        raise problem
    writer = FileWriter(recorder)
    writer.write(called is not None)
    if called is not None:
        writer.graph(called, _outputs(called, plain.outputs))
    writer.write(stream is not None)
    if stream is not None:
        stream.write(writer)
    content = writer.content()
    atomic.replace(path, content)
    graphs = [planner.graph for planner in (called, stream and stream.blocks) if planner]
    return Summary(
        [each.name for each in graphs[0].inputs],
        list(plain.outputs),
        len(called.compiled) if called else 0,
        "" if called else str(problem),
        len(stream.blocks.compiled) if stream else 0,
        reason,
        len(content),
    )


def with_fixed(model: Model, fixed: Mapping[str, Any]) -> Model:
    """Return a model in which some inputs are constants. Raises the errors of `Graph.with_fixed`."""
    return Model(model.graph.with_fixed(fixed)) if fixed else model


def without_next_states(model: Model) -> Model:
    """Return a model whose outputs are what a call returns, without the next values of its state."""
    graph = model.graph
    if not graph.carries or graph.structure is None:
        return model
    names = [*returned_names(graph.structure.results)]
    outputs = dict(zip(model.outputs, graph.outputs, strict=True))
    declared = {each.name: each for each in graph.declared_outputs}
    return Model(
        graph.replaced(
            outputs=tuple(outputs[name] for name in names),
            declared_outputs=tuple(declared[name] for name in names),
            carries={},
        )
    )


def _calls(
    model: Model, calls: Sequence[Any], recorder: FileRecorder
) -> tuple[GraphPrograms | None, OnwardError | None]:
    """Return the programs for the calls of a model, or why there are none."""
    if not calls:
        programs = GraphPrograms(model.planner.graph, recorder)
        problem = _add_examples(programs, model.planner.graph.inputs)
        return (programs, None) if programs.compiled else (None, problem)
    graphs = {}
    for call in calls:
        args, named = arguments(call)
        if model.graph.structure is not None:
            args, named = model.graph.structure.flatten(args, named)
        replaced, planner, arrays = model.checked(args, named)
        if replaced not in graphs:
            graphs[replaced] = GraphPrograms(planner.graph, recorder)
        if len(graphs) > 1:
            raise ArgumentError("the calls pass different inputs: compile a file for each set of inputs")
        graphs[replaced].add(arrays, list(decisions(arrays)))
    (programs,) = graphs.values()
    return programs, None


def arguments(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an input, a tuple of inputs or a dict of inputs by name as arguments."""
    if isinstance(call, dict):
        return (), call
    return (call if isinstance(call, tuple) else (call,)), {}


def _add_examples(programs: GraphPrograms, inputs: Sequence[Input]) -> OnwardError | None:
    """Compile programs for the sizes that the inputs declare; return the first problem if there is none."""
    unknown = [each.name for each in inputs if each.axes is None or each.dtype is None]
    if unknown:
        return ArgumentError(f"the axes of {', '.join(unknown)} are unknown: pass the inputs of a call")
    problem: OnwardError | None = None
    for base in examples.BASES:
        for arrays in examples.arrays(inputs, base):
            if examples.are_empty(arrays) and not programs.compiled:
                continue
            try:
                programs.add(arrays, [False] * len(arrays))
            except OnwardError as error:
                problem = problem or error
    return None if programs.compiled else problem or examples.without_example("the inputs of a call")


def _outputs(programs: GraphPrograms, names: Sequence[str]) -> list[Input]:
    """Return what all programs have in common: the dtype of each output, and the sizes of its axes."""
    found = []
    for place, name in enumerate(names or programs.graph.outputs):
        kinds = [each.plan.dtypes[place] for each in programs.compiled]
        shapes = [each.program.outputs[place].view.shape for each in programs.compiled]
        if len(set(kinds)) > 1:
            raise ArgumentError(f"the output {name} has several dtypes: compile a file for each")
        is_known = len({len(shape) for shape in shapes}) == 1
        axes = [_common([shape[i] for shape in shapes]) for i in range(len(shapes[0]))]
        found.append(Input(name, kinds[0], tuple(axes) if is_known else None))
    return found


def _common(sizes: Sequence[Any]) -> int | str:
    """Return the size that an axis always has, or ""."""
    first = sizes[0]
    return first if type(first) is int and all(type(n) is int and n == first for n in sizes) else ""


def _block(streamed: Streamed, call: Any) -> list[AnyArray]:
    args, named = arguments(call)
    pairs = zip(streamed.inputs, streamed.in_order(args, named), strict=True)
    return [np.asarray(value, declared.dtype) for declared, value in pairs]


class _Stream:
    """The programs for blocks of one or several streams, and for what their carries become."""

    def __init__(
        self,
        streamed: Streamed,
        recorder: FileRecorder,
        blocks: Sequence[Sequence[AnyArray]],
        names: Sequence[str],
    ) -> None:
        self._streamed, self._count, self._names = streamed, len(streamed.carries), names
        self._sequence = streamed.sequence
        self._rows, last = _rows_of(streamed, blocks or self._examples(1, {}))
        own = (
            self._rows.are_together and last is None
        )  # a graph of rows takes blocks of sequences as they are
        graph = streamed.graph if own else self._rows.planner.graph
        self.blocks = GraphPrograms(graph, recorder)
        self._pooled = GraphPrograms(self._rows.planner.graph, recorder) if own else None
        self._last = None if last is None else GraphPrograms(last.planner.graph, recorder)
        self._last_rows = () if last is None else last.output_axes or ()
        axes = dict(enumerate(self._rows.axes[self._count :]))
        if own or not self._rows.are_together:
            self._follow(self.blocks, 1, blocks or list(self._examples(1, {})), bool(blocks))
        if self._rows.are_together:
            for rows in STREAMS:
                given = [[_tiled(x, axes[i], rows) for i, x in enumerate(block)] for block in blocks]
                found = given or list(self._examples(rows, axes))
                self._follow(self._pooled or self.blocks, rows, found, bool(given))

    def _examples(self, rows: int, axes: Mapping[int, int | None]) -> Iterator[list[AnyArray]]:
        """Yield blocks of several lengths, or of several sizes of the open axes, with some rows on `axes`."""
        streamed = self._streamed
        if streamed.last is not None:
            for steps in STEPS:
                yield streamed.blocks(steps, rows)
            return
        if unknown := [d.name for d in streamed.inputs if d.axes is None or d.dtype is None]:
            raise ArgumentError(f"the axes of {', '.join(unknown)} are unknown: pass blocks=")
        declared = []
        for place, each in enumerate(streamed.inputs):
            axis = axes.get(place)
            known = each.axes or ()
            if axis is not None:
                known = (*known[:axis], rows, *known[axis + 1 :])
            declared.append(each.with_axes(*known))
        for base in examples.BASES:
            yield from examples.arrays(declared, base)

    def _follow(
        self, programs: GraphPrograms, rows: int, blocks: Sequence[Sequence[AnyArray]], is_strict: bool
    ) -> None:
        """Compile programs for blocks that follow one another, and for the end of a sequence after them."""
        pairs = zip(self._streamed.initial, self._rows.axes, strict=False)
        start = [_tiled(x, axis, rows) for x, axis in pairs]
        for carried in programs.follow(start, blocks, is_strict):
            if self._last is not None:
                none = self._streamed.blocks(0, rows)
                with contextlib.suppress(ShapeError):  # the model does not take a sequence of this length
                    self._last.add([*carried, *none], [False] * (self._count + len(none)))

    def write(self, writer: FileWriter) -> None:
        """Append what a file says about streams."""
        streamed, rows, count = self._streamed, self._rows, self._count
        carries = [Input(carry.name, carry.initial.dtype, carry.sizes) for carry in streamed.carries]
        for programs, kept in ((self.blocks, carries), (self._pooled, carries), (self._last, [])):
            if programs is not self.blocks:
                writer.write(programs is not None)
            if programs is not None:
                if programs.compiled:
                    names = [*(carry.name for carry in kept), *self._names]
                    outputs = _outputs(programs, names)[len(kept) :]
                else:  # the model takes no sequence that ends here
                    outputs = [Input(each.name, each.dtype) for each in outputs]
                writer.graph(programs, [*kept, *outputs])
        writer.write(count)
        for carry, axis in zip(streamed.carries, rows.axes, strict=False):
            writer.write(carry.initial, _axis(axis), _axis(carry.axes.time), carry.any_shape)
        writer.write(list(map(_axis, rows.axes[count:])), len(streamed.outputs))
        for axes, axis in zip(streamed.outputs, rows.output_axes or (), strict=True):
            writer.write(_axis(axes.time), _axis(axis))
        writer.write(list(map(_axis, self._last_rows)), rows.are_together)
        sequence = self._sequence
        writer.write(*map(_axis, sequence.axes), streamed.latency, streamed.every_step)
        writer.write(list(sequence.shape), streamed.fingerprint()["model"])


def names_of_outputs(model: Model, streamed: Streamed, carry: Mapping[str, str] | None) -> list[str]:
    """Return the names of the outputs of blocks: those of the model that no carry takes."""
    taken = () if streamed.last is not None else (carry or model.carries).values()
    names = [name for name in model.of_sequences.outputs if name not in taken]
    own = streamed.graph.outputs[len(streamed.carries) :]
    return names if len(names) == len(own) else list(own)


def _rows_of(streamed: Streamed, blocks: Iterable[Sequence[AnyArray]]) -> tuple[Rows, Rows | None]:
    """Return how a pool runs the rows of a stream and its end; some graphs tell that only after a step.

    Raises the error of the first block if none fits.
    """
    if streamed.last is not None:
        pool = SequencePool(streamed, 1)
        assert pool.rows is not None
        return pool.rows, pool.rows_at_end()
    problem: OnwardError | None = None
    for block in blocks:
        found = GraphPool(streamed, 1)
        if found.rows is None or found.rows.output_axes is None:
            axes = found.input_axes or [0] * len(block)
            rows = [x[None] if axis is None else x for x, axis in zip(block, axes, strict=True)]
            try:
                found.step(found.open(1), *rows)
            except OnwardError as error:
                problem = problem or error
                continue
        assert found.rows is not None
        return found.rows, None
    raise problem or examples.without_example("blocks=")


def _axis(axis: int | None) -> int:
    return -1 if axis is None else axis


def _tiled(array: AnyArray, axis: int | None, rows: int) -> AnyArray:
    """Return an array of one row with several of them."""
    return array if axis is None or rows == 1 else np.repeat(array.take([0], axis), rows, axis)

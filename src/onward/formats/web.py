"""Write whole models for Onward for JavaScript, which runs programs but cannot compile them.

The file holds the programs that calls, blocks of a stream and traces need. Each holds for all sizes that its
guards permit. The weights are stored once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..core import storage
from ..core.checks import flag
from ..core.identity import Identity
from ..errors import ArgumentError
from ..graph import Graph, Input
from ..graph.node import AnyArray
from ..graph.over_time.streamed import TimeAndBatch
from ..graph.plan.builder import aligned
from ..layers.base_model import BaseModel
from ..layers.graphs import graph_of
from ..model import Model
from ..streaming.graph_stream import GraphStream, SequenceStream
from ..tracing.graph_trace import Site, recording, time_axes
from .compiled.programs import Compiled, FileRecorder, GraphPrograms, decisions
from .compiled.write import STEPS, arguments

Described = dict[str, Any]


def export_web(
    model: BaseModel,
    path: str | os.PathLike[str],
    *calls: Any,
    blocks: Sequence[Any] = (),
    trace: bool = False,
    **options: Any,
) -> None:
    """Write a model for Onward for JavaScript, with the programs that its calls need.

    `calls` are examples of the inputs of `run`, and `blocks` of those of a stream: each is an input, a tuple
    of inputs, or a dict of inputs by name. JavaScript runs inputs with the dtypes of these examples, their
    values of integer scalars such as a sampling rate, and all sizes for which the same steps hold. An axis of
    size 1 often needs other steps, and so an example of its own. With `trace`, JavaScript also traces the
    calls, for the sizes of the examples: it records the gates and states of their recurrent nodes. `options`
    are those of `Model.stream`. Models of recurrent, Linear and Embedding layers also run in JavaScript from
    the file that `save` writes.

    Raises ArgumentError, which names the node, if an operation runs in NumPy, if a node cannot be traced in
    JavaScript, or if the memory of a stream grows from block to block; the errors of a call of the model;
    and FileError.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np, onward
    >>> net = onward.Sequential(onward.GRU(3, 8, rng=0), onward.LayerNorm(8), onward.Linear(8, 2, rng=1))
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> onward.export_web(net, path, np.zeros((50, 1, 3)), blocks=[np.zeros((10, 1, 3))])
    """
    if not calls and not blocks:
        raise ArgumentError("pass the inputs of at least one call, or blocks=, so that the shapes are known")
    whole = model if isinstance(model, Model) else Model(graph_of(model)).of_sequences
    writer = _Writer()
    described: Described = {
        "type": "Programs",
        "inputs": list(whole.inputs),
        "outputs": list(whole.outputs),
        **writer.calls(whole, calls),
        "trace": [writer.trace(whole, call) for call in calls] if flag("trace", trace) else [],
        "stream": writer.stream(whole.graph_stream(**options), blocks) if blocks else None,
        "weights": writer.recorder.weights,
    }
    storage.write(path, writer.recorder.tensors, described)


class _Writer:
    """The programs, tensors and weights of one file."""

    def __init__(self) -> None:
        self.recorder = FileRecorder()
        self._programs: dict[Identity, GraphPrograms] = {}  # of each graph

    def calls(self, model: Model, calls: Sequence[Any]) -> Described:
        """Return the programs for calls of the model, and the shapes of these examples."""
        used, examples = dict[Identity, GraphPrograms](), []
        for call in calls:
            _, planner, inputs = model.checked(*_flat(call, model))
            programs = used[Identity(planner.graph)] = self._of(planner.graph)
            programs.add(inputs, list(decisions(inputs)))
            examples.append(_shapes(planner.graph.inputs, inputs))
        described = [each for programs in used.values() for each in self._described(programs)]
        return {"run": described, "examples": examples}

    def trace(self, model: Model, call: Any) -> Described:
        """Return the program of a call that returns the inputs of its recurrent nodes, and these nodes."""
        replaced, _, inputs = model.checked(*_flat(call, model))
        record = recording(model.graph.with_defaults(replaced), inputs)
        if not record.sites:
            raise ArgumentError("the model has no recurrent layer to trace: export it without trace=True")
        whole = record.whole
        # sizes decide which branches were recorded
        sized = [each.with_axes(*array.shape) for each, array in zip(whole.inputs, inputs, strict=True)]
        asked = whole.replaced(inputs=sized, outputs=tuple(record.names), declared_outputs=())
        programs = self._of(asked)
        programs.add(inputs, list(decisions(inputs)))
        axes = time_axes(whole, model.layout)
        return {
            "program": self._described(programs)[0],
            "sites": [self._site(site, record.names) for site in record.sites],
            "x": None if axes is None or model.layout is None else _moved(model.layout.axes),
            "y": None if axes is None or axes.time is None else _moved(axes),
        }

    def _site(self, site: Site, names: list[str]) -> Described:
        node = site.node
        cell = node.attributes.get("cell")
        if cell is None or cell.dtype != np.float32:
            raise ArgumentError(f"{node}: JavaScript traces recurrent layers in float32 only")
        return {
            "name": node.name,
            "kind": node.operation,
            "reverse": bool(node.attributes.get("reverse", False)),
            "loops": site.loops,
            "layer": cell.description(),
            "weights": {name: self.recorder.name_of(W) for name, W in cell.weights.items()},
            "inputs": [names.index(name) if name else None for name in site.inputs],
        }

    def stream(self, stream: GraphStream, blocks: Sequence[Any]) -> Described:
        """Return the programs for blocks of a stream, and for those of other lengths if time is known."""
        streamed = stream.streamed
        given = [stream.block(*arguments(block))[0] for block in blocks]
        axes = streamed.sequence.axes
        programs, last = self._of(streamed.planner.graph), None
        if streamed.last_planner is not None:
            last = self._of(streamed.last_planner.graph)
        states = [programs.follow(streamed.initial, given)]
        if isinstance(stream, SequenceStream):
            others = [streamed.blocks(steps, stream.batch or 1) for steps in STEPS]
            states.append(programs.follow(streamed.initial, others, is_strict=False))
        for carried in chain.from_iterable(states):
            if last is not None:
                end = given[0][0].take(range(0), axis=axes.time)
                last.add([*carried, end], [False] * (len(carried) + 1))
        return {
            "carries": [carry.name for carry in streamed.carries],
            "initial": [self._tensor(carry.initial) for carry in streamed.carries],
            "inputs": [declared.name for declared in streamed.inputs],
            "programs": self._described(programs),
            "examples": [_shapes(streamed.inputs, block) for block in given],
            "last": [] if last is None else self._described(last),
            "latency": streamed.latency,
            "every_step": streamed.every_step,
            # the time axis and the batch axis of a block, and the rows; None: a block may lack the batch axis
            "x": list(axes) if isinstance(stream, SequenceStream) else None,
            "batch": stream.batch if isinstance(stream, SequenceStream) else None,
            "outputs": [list(axes) for axes in streamed.outputs],
        }

    def _of(self, graph: Graph) -> GraphPrograms:
        """Return the programs of a graph so far."""
        key = Identity(graph)
        if key not in self._programs:
            self._programs[key] = GraphPrograms(graph, self.recorder, "JavaScript")
        return self._programs[key]

    def _described(self, programs: GraphPrograms) -> list[Described]:
        return [self._program(programs.graph, each) for each in programs.compiled]

    def _program(self, graph: Graph, compiled: Compiled) -> Described:
        """Describe a program. In the shape of an input, -1 - n stands for axis n."""
        program = compiled.program
        inputs = []
        for declared, required in zip(graph.inputs, program.signature, strict=True):
            assert required is not None  # the core runs the program
            dtype, shape, value, _ = required
            decided = None if not value else str(int(np.frombuffer(value, dtype)[0]))
            inputs.append({"name": declared.name, "dtype": dtype, "shape": list(shape), "value": decided})
        constants = aligned(program.constants) if program.constants else None
        return {
            "words": self.recorder.name_of(compiled.words),
            "constants": None if constants is None else self.recorder.name_of(constants),
            "axes": list(program.axes.names),
            "inputs": inputs,
            "outputs": [dtype.name for dtype in compiled.plan.dtypes],
        }

    def _tensor(self, array: AnyArray) -> Described:
        described = {"dtype": array.dtype.name, "shape": list(array.shape)}
        return described | {"tensor": self.recorder.name_of(array)}


def _flat(call: Any, model: Model) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, flattened for the graph of a model."""
    args, named = arguments(call)
    return (args, named) if model.graph.structure is None else model.graph.structure.flatten(args, named)


def _shapes(inputs: Sequence[Input], arrays: Sequence[AnyArray]) -> dict[str, Sequence[int]]:
    return {declared.name: array.shape for declared, array in zip(inputs, arrays, strict=True)}


def _moved(axes: TimeAndBatch) -> list[int | None]:
    """Return the axis of time, which is the first one if it is unknown, and that of the batch."""
    return [axes.time or 0, axes.batch]

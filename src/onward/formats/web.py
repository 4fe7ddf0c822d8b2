"""Write whole models for Onward for JavaScript, which runs plans but cannot make them.

The file holds one plan for each signature of a call, and for each block of a stream and signature of its
carries; the weights and constants are stored once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core import storage
from ..core.checks import flag
from ..core.identity import Identity
from ..errors import ArgumentError
from ..graph import Graph
from ..graph.node import AnyArray, Signature
from ..graph.of_layers import graph_of
from ..graph.over_time.streamed import Streamed, TimeAndBatch
from ..graph.plan.builder import Weights
from ..graph.plan.compiler import Compiler
from ..graph.plan.planner import constants_of
from ..graph.plan.program import Location, NumPyNode
from ..graph.plan.words import CoreRecorder
from ..layers.base_model import BaseModel
from ..model import Model
from ..streaming.graph_stream import GraphStream, SequenceStream
from ..tracing.graph_trace import Site, recording, time_axes

MAX_STATES = 64  # signatures of the carries of a stream

Described = dict[str, Any]


def export_web(
    model: BaseModel,
    path: str | os.PathLike[str],
    *calls: Any,
    blocks: Sequence[Any] = (),
    trace: bool = False,
    **options: Any,
) -> None:
    """Write a model for Onward for JavaScript, with the plans that its calls need.

    `calls` are examples of the inputs of `run`, and `blocks` of those of a stream: each is an input, a tuple
    of inputs, or a dict of inputs by name. JavaScript runs inputs with the shapes and dtypes of these
    examples, and with their values of integer scalars such as a sampling rate. With `trace`, JavaScript also
    traces the calls: it records the gates and states of their recurrent nodes. `options` are those of
    `Model.stream`. Models of recurrent, Linear and Embedding layers also run in JavaScript from the file that
    `save` writes, at any length.

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
        "type": "Plans",
        "inputs": list(whole.inputs),
        "outputs": list(whole.outputs),
        "run": [writer.call(whole, call) for call in calls],
        "trace": [writer.trace(whole, call) for call in calls] if flag("trace", trace) else [],
        "stream": writer.stream(whole.graph_stream(**options), blocks) if blocks else None,
        "weights": writer.recorder.weights,
    }
    storage.write(path, writer.recorder.tensors, described)


def _deciding(inputs: Sequence[AnyArray]) -> list[bool]:
    """Return which inputs are scalars whose values decide about a plan."""
    return [array.ndim == 0 and array.dtype.kind in "iub" for array in inputs]


def _arguments(call: Any, model: Model | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an input, a tuple of inputs or a dict of inputs as arguments, flattened for the model."""
    args, named = ((), call) if isinstance(call, dict) else (call if isinstance(call, tuple) else (call,), {})
    if model is None or model.graph.structure is None:
        return args, named
    return model.graph.structure.flatten(args, named)


def _moved(axes: TimeAndBatch) -> list[int | None]:
    """Return the axis of time, which is the first one if it is unknown, and that of the batch."""
    return [axes.time or 0, axes.batch]


class _Writer:
    """The plans, tensors and weights of one file."""

    def __init__(self) -> None:
        self.recorder = CoreRecorder()
        self._weights: dict[Identity, Weights] = {}  # of each graph

    def call(self, model: Model, call: Any) -> Described:
        """Return the plan for a call of the model with these inputs."""
        _, planner, inputs = model.checked(*_arguments(call, model))
        return self._plan(planner.graph, inputs, _deciding(inputs))[0]

    def trace(self, model: Model, call: Any) -> Described:
        """Return the plan of a call that returns the inputs of its recurrent nodes, and these nodes."""
        replaced, _, inputs = model.checked(*_arguments(call, model))
        record = recording(model.graph.with_defaults(replaced), inputs)
        if not record.sites:
            raise ArgumentError("the model has no recurrent layer to trace: export it without trace=True")
        asked = record.whole.replaced(outputs=tuple(record.names), declared_outputs=())
        axes = time_axes(record.whole, model.layout)
        return {
            "plan": self._plan(asked, inputs, _deciding(inputs))[0],
            "sites": [self._site(site, record.names) for site in record.sites],
            "x": None if axes is None or model.layout is None else _moved(model.layout.axes),
            "y": None if axes is None or axes.time is None else _moved(axes),
        }

    def _site(self, site: Site, names: list[str]) -> Described:
        node = site.node
        layer = node.attributes.get("layer")
        if layer is None or layer.dtype != np.float32:
            raise ArgumentError(f"{node}: JavaScript traces recurrent layers in float32 only")
        return {
            "name": node.name,
            "kind": node.operation,
            "reverse": bool(node.attributes.get("reverse", False)),
            "loops": site.loops,
            "layer": layer.description(),
            "weights": {name: self.recorder.name_of(W) for name, W in layer.weights_by_name().items()},
            "inputs": [names.index(name) if name else None for name in site.inputs],
        }

    def stream(self, stream: GraphStream, blocks: Sequence[Any]) -> Described:
        """Return the plans for blocks with these shapes, whatever precedes them in the stream."""
        streamed = stream.streamed
        inputs = [stream.block(*_arguments(block))[0] for block in blocks]
        names = [carry.name for carry in streamed.carries]
        axes = streamed.sequence.axes
        last = [] if streamed.last is None else [inputs[0][0].take(range(0), axis=axes.time)]
        plans, last_plans = [], []
        for carried, found in self._states(streamed, inputs):
            plans += found
            if streamed.last_planner is not None:
                last_plans.append(self._block_plan(streamed.last_planner.graph, carried, last)[0])
        return {
            "carries": names,
            "initial": [self._tensor(carry.initial) for carry in streamed.carries],
            "inputs": [declared.name for declared in streamed.inputs],
            "plans": plans,
            "last": last_plans,
            "latency": streamed.latency,
            "every_step": streamed.every_step,
            # the time axis and the batch axis of a block, and the rows; None: a block may lack the batch axis
            "x": list(axes) if isinstance(stream, SequenceStream) else None,
            "batch": stream.batch if isinstance(stream, SequenceStream) else None,
            "outputs": [list(axes) for axes in streamed.outputs],
        }

    def _states(
        self, streamed: Streamed, blocks: Sequence[Sequence[AnyArray]]
    ) -> Iterator[tuple[Sequence[Signature], list[Described]]]:
        """Yield the signatures that the carries take if blocks follow one another, and the blocks' plans."""
        start = tuple(Signature.of(array) for array in streamed.initial)
        known, new = {start}, [start]
        while new:
            carried, plans = new.pop(), []
            for block in blocks:
                plan, outputs = self._block_plan(streamed.planner.graph, carried, block)
                following = tuple(outputs[: len(carried)])
                plans.append(plan)
                if following not in known:
                    known.add(following)
                    new.append(following)
            yield carried, plans
            if len(known) > MAX_STATES:
                raise ArgumentError(
                    f"the carries of the stream take more than {MAX_STATES} shapes: its memory grows from "
                    "block to block, or the blocks have too many lengths"
                )

    def _block_plan(
        self, graph: Graph, carried: Sequence[Signature], block: Sequence[AnyArray]
    ) -> tuple[Described, list[Signature]]:
        zeros = [np.zeros(signature.shape, signature.dtype) for signature in carried]
        return self._plan(graph, [*zeros, *block], [False] * len(carried) + _deciding(block))

    def _plan(
        self, graph: Graph, inputs: Sequence[AnyArray], decides: Sequence[bool]
    ) -> tuple[Described, list[Signature]]:
        """Compile a graph; return the plan and the signatures of its outputs.

        Raises ArgumentError, which names the node, if an operation has no steps in the core.
        """
        key = Identity(graph)
        if key not in self._weights:  # which all plans of the graph share
            constants = list(constants_of(graph))
            weights = Weights(frozenset(map(Identity, constants)), self.recorder)
            weights.limit.allow(inputs, sum(array.nbytes for array in constants))
            self._weights[key] = weights
        weights = self._weights[key]
        with weights.limit.entered():
            program = Compiler(graph, inputs, decides, weights).compile()
        for segment in program.segments:
            if isinstance(segment, NumPyNode):  # before a Rest, there is always one
                raise ArgumentError(
                    f"{segment.node}: it runs in NumPy for these inputs, and JavaScript has only the core"
                )
        described = []
        for declared, array, required in zip(graph.inputs, inputs, program.signature, strict=True):
            if required is None:
                raise ArgumentError(f"the input {declared.name} is not an array")
            dtype, shape, value = required
            decided = None if value is None or not array.size else str(int(array))
            described.append({"name": declared.name, "dtype": dtype, "shape": list(shape), "value": decided})
        outputs, signatures = [], []
        for source in program.outputs:
            if isinstance(source, Location) and source.view is not None:
                signature = Signature(source.view.shape, np.dtype(source.view.dtype))
                outputs.append({"dtype": signature.dtype.name, "shape": list(signature.shape)})
                signatures.append(signature)
            elif isinstance(source, np.ndarray):
                outputs.append(self._tensor(source))
                signatures.append(Signature.of(source))
            else:
                raise ArgumentError("an output has a dtype that JavaScript does not have")
        names = [self.recorder.name_of(array) for array in program.constants]
        words = self.recorder.name_of(program.core.words)
        return {"words": words, "constants": names, "inputs": described, "outputs": outputs}, signatures

    def _tensor(self, array: AnyArray) -> Described:
        described = {"dtype": array.dtype.name, "shape": list(array.shape)}
        return described | {"tensor": self.recorder.name_of(array)}

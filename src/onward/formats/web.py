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
from ..core.identity import Identity
from ..errors import ArgumentError
from ..graph import Graph
from ..graph.node import AnyArray, Signature
from ..graph.of_layers import graph_of
from ..graph.over_time.streamed import Streamed
from ..graph.plan.builder import Weights
from ..graph.plan.compiler import Compiler, Location, NumPyNode
from ..graph.plan.planner import constants_of
from ..graph.plan.words import Recorder
from ..layers.base_model import BaseModel
from ..model import Model
from ..streaming.graph_stream import GraphStream, SequenceStream

MAX_STATES = 64  # signatures of the carries of a stream

Described = dict[str, Any]


def export_web(
    model: BaseModel, path: str | os.PathLike[str], *calls: Any, blocks: Sequence[Any] = (), **options: Any
) -> None:
    """Write a model for Onward for JavaScript, with the plans that its calls need.

    `calls` are examples of the inputs of `run`, and `blocks` of those of a stream: each is an input, a tuple
    of inputs, or a dict of inputs by name. JavaScript runs inputs with the shapes and dtypes of these
    examples, and with their values of integer scalars such as a sampling rate. `options` are those of
    `Model.stream`. Models of recurrent, Linear and Embedding layers also run in JavaScript from the file that
    `save` writes, at any length.

    Raises ArgumentError, which names the node, if an operation runs in NumPy, or if the memory of a stream
    grows from block to block; the errors of a call of the model; and FileError.

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
        "stream": writer.stream(whole.graph_stream(**options), blocks) if blocks else None,
        "weights": writer.recorder.weights,
    }
    storage.write(path, writer.recorder.tensors, described)


def _deciding(inputs: Sequence[AnyArray]) -> list[bool]:
    """Return which inputs are scalars whose values decide about a plan."""
    return [array.ndim == 0 and array.dtype.kind in "iub" for array in inputs]


def _arguments(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an input, a tuple of inputs or a dict of inputs by name as arguments."""
    if isinstance(call, dict):
        return (), call
    return (call if isinstance(call, tuple) else (call,)), {}


class _Writer:
    """The plans, tensors and weights of one file."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._weights: dict[Identity, Weights] = {}  # of each graph

    def call(self, model: Model, call: Any) -> Described:
        """Return the plan for a call of the model with these inputs."""
        args, named = _arguments(call)
        if model.graph.structure is not None:
            args, named = model.graph.structure.flatten(args, named)
        _, planner, inputs = model.checked(args, named)
        return self._plan(planner.graph, inputs, _deciding(inputs))[0]

    def stream(self, stream: GraphStream, blocks: Sequence[Any]) -> Described:
        """Return the plans for blocks with these shapes, whatever precedes them in the stream."""
        streamed = stream.streamed
        inputs = [stream.block(*_arguments(block))[0] for block in blocks]
        names = [carry.name for carry in streamed.carries]
        last = [inputs[0][0].take(range(0), axis=streamed.x.time)] if streamed.last is not None else []
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
            "x": list(streamed.x) if isinstance(stream, SequenceStream) else None,
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

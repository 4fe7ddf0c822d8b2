"""Run a call on long sequences block by block, with working memory that does not depend on their length."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, OnwardError
from ..declared import UNNAMED
from ..graph import Graph
from ..inference import flattened, infer
from ..node import AnyArray, Operand, Signature, size_of, with_size
from ..plan.builder import Weights
from ..plan.planner import Planner
from ..size import Axes
from .streamed import MAX_PROGRAMS
from .transformation import BlockBuilder

BLOCK_MEMORY = 1 << 22  # bytes of the values of one block, which caches hold


class Output(NamedTuple):
    """An output of a call: known, joined from blocks along an axis, or the result of the last block."""

    value: Operand
    axis: int | None


class BlockPlan:
    """Runs a graph over inputs of one signature, block by block along an axis of some inputs.

    Raises ArgumentError, which names the node, if an operation needs all blocks at once.
    """

    entry = None  # the core cannot run it without Python
    work = 0  # that of the blocks counts when they run

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Operand],
        axes: Mapping[str, int],
        blocks: int,
        weights: Weights,
    ) -> None:
        name, axis = next(iter(axes.items()))
        self._length = values[name].shape[axis]
        steps = Axes(is_open=True, is_strict=True).add("steps")
        inputs = {declared.name: values[declared.name] for declared in graph.inputs}
        inputs |= {name: with_size(values[name], axis, steps) for name, axis in axes.items()}
        builder = BlockBuilder(graph, inputs, axes, at_end=False)
        block = builder.build().without_unused()
        end = BlockBuilder(graph, inputs, axes, at_end=True).build().without_unused()
        self._carries = tuple(builder.carries)
        sources = tuple(carry.source for carry in self._carries if carry.source)
        start = graph.replaced(outputs=sources).without_unused()
        self._start, self._block, self._end = (
            Planner(part, weights, max_programs=MAX_PROGRAMS) for part in (start, block, end)
        )
        self._outputs = [Output(values[name], builder.axis(name)) for name in graph.outputs]
        for output, name in zip(self._outputs, graph.outputs, strict=True):
            if builder.depends_on_length(name) and not isinstance(output.value, np.ndarray):
                raise ArgumentError("an output depends on the length of the sequence")
        weights.limit.check(size_of(Signature.of(output.value) for output in self._outputs))
        self._axes = [axes.get(declared.name) for declared in graph.inputs]
        steps = self._length // blocks
        self._steps = max(1, steps - steps % builder.stride)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the outputs of the graph."""
        results = [
            value.copy() if isinstance(value, np.ndarray) else np.empty(*value) for value, _ in self._outputs
        ]
        filled, carried = [0] * len(results), self._initial(inputs)
        for start in range(0, self._length, self._steps):
            block = self._block_at(start, inputs)
            if start + self._steps < self._length:
                found = self._block(*carried, *block)
                carried, found = found[: len(carried)], found[len(carried) :]
            else:
                found = self._end(*carried, *block)
            for place, (output, part) in enumerate(zip(self._outputs, found, strict=True)):
                if isinstance(output.value, np.ndarray):
                    continue
                if output.axis is None:
                    results[place] = part
                else:
                    stop = filled[place] + part.shape[output.axis]
                    results[place][_part(output.axis, filled[place], stop)] = part
                    filled[place] = stop
        return results

    def timed(self, inputs: Sequence[Any], calls: int) -> list[tuple[str, float]]:
        """Return the steps of the first block with the median time of `calls` runs, in seconds."""
        arguments = [*self._initial(inputs), *self._block_at(0, inputs)]
        self._block(*arguments)
        found: list[tuple[str, float]] = self._block.find(arguments).timed(arguments, calls)
        return found

    def _block_at(self, start: int, inputs: Sequence[Any]) -> list[Any]:
        return [
            array if axis is None else array[_part(axis, start, start + self._steps)]
            for array, axis in zip(inputs, self._axes, strict=True)
        ]

    def _initial(self, inputs: Sequence[Any]) -> Sequence[AnyArray]:
        """Return the carries before the first block."""
        sources = iter(self._start(*inputs))
        return [next(sources) if carry.source else carry.initial for carry in self._carries]


def in_blocks_of(graph: Graph, inputs: Sequence[Any], weights: Weights) -> BlockPlan | None:
    """Return a plan that runs a graph in blocks, or None if the graph needs all blocks at once.

    `inputs` has the signature of each input, or its array if that is the same in all calls. Blocks run along
    the longest axis for which that is possible: a time axis, if each step needs a fixed number of later ones,
    or a batch axis.
    """
    signatures = {declared.name: known for declared, known in zip(graph.inputs, inputs, strict=True)}
    try:
        if graph.source is not None:  # of code that is recorded for each call
            graph = flattened(graph, signatures)
        values = infer(graph, signatures, weights.limit)
    except OnwardError:  # the plan for all blocks raises it as well, and names the node
        return None
    needed = size_of(value for value in values.values() if isinstance(value, Signature))
    for axes in _long_axes(graph, signatures):
        with contextlib.suppress(OnwardError):
            return BlockPlan(graph, values, axes, -(-needed // BLOCK_MEMORY), weights)
    return None


def _long_axes(graph: Graph, signatures: Mapping[str, Operand]) -> Iterator[dict[str, int]]:
    """Yield the axes along which blocks may run, by input, the longest first; names join those of inputs."""
    found: dict[Any, dict[str, int]] = {}
    for declared in graph.inputs:
        shape = signatures[declared.name].shape
        for axis, (size, name) in enumerate(zip(shape, declared.axes or [""] * len(shape), strict=True)):
            is_named = isinstance(name, str) and name not in UNNAMED
            found.setdefault((size, name if is_named else (declared.name, axis)), {})[declared.name] = axis
    for (size, _), axes in sorted(found.items(), key=lambda item: -item[0][0]):
        if size > 1:
            yield axes


def _part(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(start, stop))

"""What becomes C: the graph of a call or of a block of a stream, with inputs of fixed sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...errors import ArgumentError
from ...graph import Graph, Input
from ...graph.calibrated.quantizer import calibrated
from ...graph.declared import UNNAMED
from ...graph.node import AnyArray
from ...graph.over_time.streamed import Streamed
from ...layers.base_model import BaseModel
from ...layers.graphs import graph_of
from ...model import Model
from ...streaming.graph_stream import stream_of
from ..compiled.write import names_of_outputs, with_fixed


class Runnable(NamedTuple):
    """A model with inputs of fixed sizes, as a call, or as a stream if it is `streamed`."""

    model: Model
    streamed: Streamed | None
    rows: int
    inputs: Sequence[Input]
    block: list[AnyArray]  # zeros
    outputs_by_name: Sequence[str]

    @classmethod
    def of(
        cls,
        model: BaseModel,
        stream: bool,
        steps: int,
        rows: int,
        *,
        sizes: Mapping[str, int] | None = None,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> Runnable:
        """Return a model as a call or a stream. Raises ArgumentError for open axes without a size."""
        whole = model if isinstance(model, Model) else Model(graph_of(model)).of_sequences
        general, others = whole.generalized(fixed)
        known = {"batch": rows, **(sizes or {})}
        if not stream:
            general = with_fixed(general, others)
            graph = general.planner.graph
            block = [_zeros(each, known) for each in graph.inputs]
            return cls(general, None, rows, graph.inputs, block, general.outputs or graph.outputs)
        streamed = general.streamed(rows, carry, initial, time_axis, others)
        if streamed.last is None:
            block = [_zeros(each, known) for each in streamed.inputs]
        else:
            block = streamed.blocks(steps, rows)
        names = names_of_outputs(general, streamed, carry)
        return cls(general, streamed, rows, streamed.inputs, block, names)

    @property
    def graph(self) -> Graph:
        """The graph whose steps become C."""
        return self.model.planner.graph if self.streamed is None else self.streamed.graph

    @property
    def initial(self) -> tuple[AnyArray, ...]:
        """What a stream carries at its start."""
        return () if self.streamed is None else self.streamed.initial

    def calibrated(self, blocks: Sequence[Sequence[AnyArray]]) -> Runnable:
        """Return the model in integers, whose scales fit the values in these blocks."""
        graph, initial = calibrated(self.graph, self.initial, blocks)
        if self.streamed is None:
            return self._replace(model=Model(graph))
        pairs = zip(self.streamed.carries, initial, strict=True)
        carries = tuple(carry.starting_at(array) for carry, array in pairs)
        return self._replace(streamed=replace(self.streamed, graph=graph, carries=carries, last=None))

    def outputs(self, blocks: Sequence[Sequence[AnyArray]]) -> list[list[AnyArray]]:
        """Run blocks one after the other, or independent calls."""
        if self.streamed is None:
            return [list(map(np.asarray, self.model.planner(*block))) for block in blocks]
        stream = self._stream()
        found = [stream(*block) for block in blocks]
        return [list(map(np.asarray, each if isinstance(each, tuple) else (each,))) for each in found]

    def _stream(self) -> Any:
        streamed = self.streamed
        assert streamed is not None
        return stream_of(lambda rows: streamed, self.rows)

    def end(self, blocks: Sequence[Sequence[AnyArray]]) -> list[AnyArray]:
        """Return what remains of a stream after some blocks."""
        stream = self._stream()
        for block in blocks:
            stream(*block)
        found = stream.finish()
        return list(map(np.asarray, found if isinstance(found, tuple) else (found,)))


def _zeros(declared: Input, sizes: Mapping[str, int]) -> AnyArray:
    """Return zeros for an input. Raises ArgumentError for axes without a size."""
    name = declared.name
    if declared.axes is None or declared.dtype is None:
        raise ArgumentError(f"the axes of {name} are unknown: export the model with declared shapes")
    shape = []
    for place, axis in enumerate(declared.axes):
        open_name = f"{name}.shape[{place}]" if axis in UNNAMED else axis
        if isinstance(open_name, str) and open_name not in sizes:
            raise ArgumentError(
                f"the axis {open_name} of {name} is open, and C has fixed sizes: pass its size, as in "
                f"sizes={{'{open_name}': 16}} or --size {open_name}=16"
            )
        shape.append(sizes[open_name] if isinstance(open_name, str) else open_name)
    return np.zeros(shape, declared.dtype)

"""Calls, streams and pools of compiled models, with the programs of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

import onward._core as _core

from ...core.budget import Limit
from ...errors import ArgumentError, ShapeError
from ...graph import Graph, Input
from ...graph.declared import as_declared, check_call
from ...graph.over_time.streamed import Carry, Layout, Streamed, TimeAndBatch
from ...streaming.rows import Rows


class FilePlanner:
    """Runs the programs of a graph in a file, in the place of a `Planner`, which compiles them."""

    def __init__(self, file: Any, name: str, plans: _core.Plans | None = None) -> None:
        inputs, outputs = file.ports(name)
        self.graph = Graph(
            [Input(*port) for port in inputs],
            tuple(each[0] for each in outputs),
            tuple(Input(*port) for port in outputs),
        )
        self.ready: _core.Plans = plans or file.plans(name)

    def converted(self, args: Sequence[ArrayLike], named: dict[str, ArrayLike]) -> tuple[Any, ...]:
        """Run inputs in order or by name, in the dtypes of the graph."""
        names = [declared.name for declared in self.graph.inputs]
        found = {**dict(zip(names, args, strict=False)), **named}
        check_call(names, args, named, [name for name in names if name not in found])
        return self(*(as_declared(declared, found[declared.name]) for declared in self.graph.inputs))

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the program for inputs in the dtypes of the graph. Raises ShapeError, LimitError."""
        found = self.ready(inputs, {})
        if found is not None:
            return found
        limit = Limit.of(inputs)
        needed = self.ready.allow(inputs, limit.memory, limit.work)
        if needed is not None:
            memory, work = needed
            limit.budget().check(work, memory)
        found = None if needed is None else self.ready(inputs, {})
        if found is None:
            pairs = zip(self.graph.inputs, inputs, strict=True)
            given = ", ".join(f"{each.name} {x.shape}" for each, x in pairs)
            raise ShapeError(
                f"the file has no program for {given}: if the model takes these sizes, compile it with these "
                "inputs as an example"
            )
        return found


@dataclass
class FileStreamed(Streamed):
    """The programs for blocks in a file."""

    file: Any = None
    identity: str = ""
    input_rows: Sequence[int | None] = ()
    output_rows: Sequence[int | None] = ()
    last_rows: Sequence[int | None] = ()
    are_together: bool = False
    rows: int = 1  # that the carries have

    @classmethod
    def of(cls, file: Any) -> Self:
        """Return what a file holds. Raises ArgumentError if it has no programs for streams."""
        found = file.stream()
        if found is None:
            raise ArgumentError("the file has no programs for streams: the model does not stream")
        inputs, outputs = file.ports("blocks")
        carries = [
            Carry(port[0], array, TimeAndBatch(_axis(time), _axis(rows)), any_shape)
            for port, (array, rows, time, any_shape) in zip(inputs, found["carries"], strict=False)
        ]
        last = file.ports("last")
        return cls(
            Graph([Input(*port) for port in inputs], tuple(each[0] for each in outputs)),
            tuple(carries),
            ()
            if last is None
            else (Layout(tuple(found["step_shape"]), TimeAndBatch(*map(_axis, found["x"]))),),
            tuple(TimeAndBatch(_axis(time), _axis(rows)) for time, rows in found["outputs"]),
            found["latency"],
            found["every_step"],
            None if last is None else Graph([Input(*port) for port in last[0]]),
            file=file,
            identity=found["fingerprint"],
            input_rows=tuple(map(_axis, found["input_rows"])),
            output_rows=tuple(_axis(rows) for _, rows in found["outputs"]),
            last_rows=tuple(map(_axis, found["last_rows"])),
            are_together=found["are_together"],
        )

    def __post_init__(self) -> None:
        self.planner: Any = FilePlanner(self.file, "blocks" if self.rows == 1 else "pooled")
        self.last_planner: Any = None if self.last is None else FilePlanner(self.file, "last")

    def fingerprint(self) -> dict[str, str]:
        return {"model": self.identity}

    def of_rows(self, rows: int) -> Self:
        """Return the programs for so many sequences that run together."""
        if rows == 1:
            return self
        if not self.are_together:
            raise ArgumentError(f"batch={rows}, but the file has programs for single streams: use a pool")
        carries = [
            Carry(c.name, np.repeat(c.initial, rows, c.axes.batch), c.axes, c.any_shape) for c in self.carries
        ]
        return replace(self, carries=tuple(carries), rows=rows)

    def pool_rows(self, at_end: bool) -> Rows:
        axes = [*(carry.axes.batch for carry in self.carries), *self.input_rows]
        if at_end:
            return Rows(self.last_planner, axes, self.last_rows, self.are_together)
        planner: Any = FilePlanner(self.file, "pooled") if self.are_together else self.planner
        return Rows(planner, axes, self.output_rows, self.are_together)


def _axis(axis: int) -> int | None:
    return None if axis < 0 else axis

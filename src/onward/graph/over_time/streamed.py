"""A graph over one block of a sequence, with the values that it carries to the next block."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..graph import Graph
from ..node import AnyArray
from ..plan.planner import Planner

MAX_PLANS = 64  # blocks of different lengths, and phases of strides


class Axes(NamedTuple):
    """The time axis and the batch axis of a value, or None where it has none."""

    time: int | None = None
    batch: int | None = None


NO_AXES = Axes()


class Carry(NamedTuple):
    """A value that an output of the graph passes to an input of the next call.

    `initial` is its value at the start. Its length along `axes.time` may vary from call to call; if
    `any_shape`, so may its shape. If there is a `source`, the carry starts at that value of the whole graph.
    """

    name: str
    initial: AnyArray
    axes: Axes = NO_AXES
    any_shape: bool = False
    source: str = ""


@dataclass
class Streamed:
    """A graph over one block: the carries are its first inputs and outputs, in order.

    Step k of an output is complete after k * stride + latency + 1 steps of the input. `last` is the graph
    that ends the sequence.
    """

    graph: Graph
    carries: tuple[Carry, ...]
    x: Axes = NO_AXES  # axes of the first input after the carries
    outputs: tuple[Axes, ...] = ()  # axes of the outputs after the carries
    latency: int = 0
    every_step: bool = True  # whether each step completes one step of each output over time
    last: Graph | None = None
    step_shape: tuple[int, ...] = ()  # shape of the first input for one step and one row
    block_shape: tuple[int, ...] = ()  # shape of the first input for many steps and one row
    planner: Planner = field(init=False)
    last_planner: Planner | None = field(init=False)

    def __post_init__(self) -> None:
        self.planner = Planner(self.graph, max_plans=MAX_PLANS)
        self.last_planner = None if self.last is None else Planner(self.last)

    @property
    def initial(self) -> tuple[AnyArray, ...]:
        """The carries at the start of a sequence."""
        return tuple(carry.initial for carry in self.carries)

    @property
    def names(self) -> Sequence[str]:
        """The names of the inputs of a call."""
        return [declared.name for declared in self.graph.inputs[len(self.carries) :]]

"""What the compiler makes of a graph: steps of the core, the nodes between them, and where the values are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..node import Node
from ..operations.value import Value
from ..size import Axes
from .builder import Bytes
from .passes import Step
from .view import View


class Location(NamedTuple):
    """Where a call finds a value: in a space of the plan (view) or in a named NumPy array (name).

    `place` is the number of the view among those that the program asks for.
    """

    view: View | None
    name: str
    place: int = -1


Source = Any  # a known array, a Location, or None for an omitted input


class NumPyNode(NamedTuple):
    """A node that runs in NumPy between the steps of the core."""

    node: Node  # in a plan, its attributes have planners instead of graphs
    inputs: list[Source]
    outputs: list[Location]
    is_open: bool  # whether the plan does not know the sizes of the outputs


class Rest(NamedTuple):
    """The nodes after one whose output shapes depend on the values of its inputs: a graph of its own."""

    graph: Any  # in a plan, its planner
    inputs: list[Location]


class Program:
    """A compiled graph: segments of core steps, NumPy nodes, and where its outputs are."""

    def __init__(self) -> None:
        self.core: Any = None
        self.constants: list[Bytes] = []
        self.axes = Axes()
        self.steps: list[Step] = []  # of the core
        self.inputs: list[str] = []  # for NumPy nodes, "" for those in spaces of the plan
        # for each input: its dtype, its shape, in which -1 - n stands for axis n, and, if the program depends
        # on them, the bytes of its value; None for an input that is not an array
        self.signature: list[tuple[str, tuple[int, ...], bytes | None] | None] = []
        self.segments: list[tuple[int, int] | NumPyNode | Rest] = []
        self.outputs: list[Source] = []

    @property
    def in_numpy(self) -> list[Node]:
        """The nodes that run in NumPy between the steps; before the rest of a graph, there is one."""
        return [segment.node for segment in self.segments if isinstance(segment, NumPyNode)]


def source_of(value: Value | None) -> Source:
    """Return where a call finds a value: in the compiled program itself if it is known."""
    if value is None or value.known:
        return None if value is None else value.array
    return Location(value.view, value.name)


class AxesFixed(Exception):
    """Recorded code fixes the sizes of axes, for which the graph must be compiled again."""

    def __init__(self, fixed: Mapping[str, int]) -> None:
        super().__init__(fixed)
        self.fixed = fixed

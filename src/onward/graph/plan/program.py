"""What the compiler makes of a graph: steps of the core, the nodes between them, and where the values are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..node import Expansion, Node, Operand, Signature
from ..operations.registry import Expand
from ..operations.value import Value
from ..polynomial import Guard, evaluated
from ..size import Axes, Size, hint
from ..sized import has_sizes
from .builder import Bytes
from .steps import NODE, Step
from .view import FIRST_ARGUMENT, View


class Location(NamedTuple):
    """Where a call finds a value: in a space of the plan (view) or in a named NumPy array (name).

    `place` is the number of the view among those that the program asks for.
    """

    view: View | None
    name: str
    place: int = -1


Source = Any  # a known array, a Location, or None for an omitted input


class Required(NamedTuple):
    """What a program requires of an input that is an array.

    In the shape, -1 - n stands for axis n. `value` holds the bytes of the elements if the program depends on
    them. If they decide sizes, they are axes, from `first_element` on, which is -1 otherwise.
    """

    dtype: str
    shape: tuple[int, ...]
    value: bytes | None
    first_element: int = -1


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
    elements: frozenset[str]  # the inputs whose elements decide sizes


class Program:
    """A compiled graph: segments of core steps, NumPy nodes, and where its outputs are."""

    def __init__(self) -> None:
        self.core: Any = None
        self.constants: list[Bytes] = []
        self.axes = Axes()
        self.steps: list[Step] = []  # of the core
        self.inputs: list[str] = []  # for NumPy nodes, "" for those in spaces of the plan
        self.signature: list[Required | None] = []  # None for an input that is not an array
        self.elements: frozenset[str] = frozenset()  # the inputs whose elements decide sizes
        self.segments: list[tuple[int, int] | NumPyNode | Rest] = []
        self.outputs: list[Source] = []
        self.joined: list[int] = []  # the carries that start joined arrays, as numbers of inputs

    def arguments(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return the numbers of inputs by their spaces, and the spaces of the outputs with these numbers."""
        numbers = [number for number, name in enumerate(self.inputs) if not name]
        inputs = dict(enumerate(numbers, FIRST_ARGUMENT))
        views = [source.view if isinstance(source, Location) else None for source in self.outputs]
        pairs = ((space, views[n]) for space, n in inputs.items() if n < len(views))
        return inputs, {space: view.space for space, view in pairs if view is not None}

    def divide(self, steps: Sequence[Step]) -> tuple[list[Step], list[View], list[View]]:
        """Divide steps into segments: ranges of those of the core, and the nodes between them.

        Return the steps of the core, the views of the outputs, and the views that a call asks for.
        """
        core, start, locations = list[Step](), 0, list[View]()
        for step in steps:
            if step[0] != NODE:
                core.append(step)
                continue
            if len(core) > start:
                self.segments.append((start, len(core)))
            start = len(core)
            node, *views = step[1]
            self.segments.append(_asked_for(node, views, locations))
        if len(core) > start or not self.segments:
            self.segments.append((start, len(core)))
        outputs = views_at(self.outputs)
        self.outputs = _located(self.outputs, iter(outputs), locations)
        return core, outputs, locations

    @property
    def in_numpy(self) -> list[Node]:
        """The nodes that run in NumPy between the steps; before the rest of a graph, there is one."""
        return [segment.node for segment in self.segments if isinstance(segment, NumPyNode)]


def views_at(sources: Sequence[Source]) -> list[View]:
    """Return the views of those sources that are in a space of the plan."""
    return [s.view for s in sources if isinstance(s, Location) and s.view is not None]


def _located(sources: Sequence[Source], views: Iterator[View], locations: list[View]) -> list[Source]:
    """Return sources at these views, which become locations that a call asks for."""
    found: list[Source] = []
    for source in sources:
        if isinstance(source, Location) and source.view is not None:
            locations.append(next(views))
            source = Location(locations[-1], source.name, len(locations) - 1)
        found.append(source)
    return found


def _asked_for(node: NumPyNode | Rest, views: Sequence[View], locations: list[View]) -> NumPyNode | Rest:
    """Return a node that asks for the views of its values."""
    following = iter(views)
    inputs = _located(node.inputs, following, locations)
    if isinstance(node, Rest):
        return Rest(node.graph, inputs, node.elements)
    return NumPyNode(node.node, inputs, _located(node.outputs, following, locations), node.is_open)


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


class _Recording(NamedTuple):
    """What a node of code becomes, the guards, and the input and axis of each size in them, by name."""

    expansion: Expansion | None
    guards: list[Guard]
    axes: dict[str, tuple[int, int]]


class Recordings:
    """What code records in a call: all programs that are compiled for the call have the same recordings.

    Unless `is_plain`, all sizes are symbolic for the code, also those that are 1: which nodes it records must
    not depend on the sizes of the call.
    """

    def __init__(self, is_plain: bool = False) -> None:
        self._is_plain = is_plain
        self._made: dict[tuple[str, ...], _Recording] = {}

    def expansion(
        self, axes: Axes, expand: Expand, node: Node, inputs: Sequence[Operand | None]
    ) -> Expansion | None:
        """Return what a node of code becomes, and require the guards of its recording.

        Raises AxesFixed if they fix sizes.
        """
        if self._is_plain:
            return expand(node, inputs)
        if node.outputs not in self._made:
            own, places = Axes(), dict[str, tuple[int, int]]()
            given = [_with_axes(x, node.inputs[i], i, own, places) for i, x in enumerate(inputs)]
            self._made[node.outputs] = _Recording(expand(node, given), [*own.guards.values()], places)
        recording = self._made[node.outputs]
        shapes = [() if value is None else value.shape for value in inputs]
        numbers = {name: shapes[place][axis] for name, (place, axis) in recording.axes.items()}
        for guard in recording.guards:
            size: Any = evaluated(guard.size, numbers)
            if type(size) is Size:
                axes.node = guard.node
                axes.require(size, guard.condition)
        if axes.fixed:
            raise AxesFixed(axes.fixed)
        return recording.expansion


def _with_axes(
    value: Operand | None, name: str, place: int, axes: Axes, places: dict[str, tuple[int, int]]
) -> Operand | None:
    """Return an input whose sizes are symbolic, and note its place and the axes of these by their names.

    Elements that are sizes are values that the code does not know.
    """
    if has_sizes(value):
        value = Signature.of(value)
    if not isinstance(value, Signature):
        return value
    shape = list(value.shape)
    for axis, size in enumerate(value.shape):
        if hint(size):  # an axis has elements
            shown = f"{name}.shape[{axis}]"
            shape[axis], places[shown] = axes.add(shown, hint(size)), (place, axis)
    return Signature(tuple(shape), value.dtype)

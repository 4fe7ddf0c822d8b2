"""Follow the states of a chain of layers through the nodes that move them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from itertools import chain, groupby, pairwise
from typing import Any

from ..errors import ArgumentError, OnwardError
from ..graph.graph import Graph, Input
from ..graph.inference import Values
from ..graph.node import Node, Signature
from ..graph.over_time.named_carries import MOVES
from ..graph.over_time.places import moved
from ..graph.plan.view import View
from ..graph.size import are_same, hint

PASSING = {"Cast", "FinalState", "Identity"}  # operations that return the first input with its axes
RESHAPING = {*PASSING, "Reshape", "Squeeze", "Unsqueeze"}  # that keep the order of its elements
Place = tuple[int, Any]  # the number of an input or output, and where a state starts in it


class States:
    """The states that a caller passes to a graph, and the final states of its layers.

    Each of them is a space of memory. `elements` has the views of states that a value joins, and none if its
    elements are rearranged. Layers take and return their states in their own order, so that the graph must
    have the same order.
    """

    def __init__(self, graph: Graph, size_of: Callable[[Any, str], Any], values: Values) -> None:
        self.values = values
        self.spaces: list[View] = []
        self.elements: dict[str, list[View]] = {}
        for given in _with_shapes(graph):
            axes = (
                size_of(axis, f"axis {place} of {given.name}") for place, axis in enumerate(given.axes or ())
            )
            self._add(given.name, tuple(axes), given.dtype)
        self.starts: list[list[Place | None]] = []  # the states from which each layer starts
        self.used: dict[int, Any] = {}  # how many elements of each space these are
        self.rearranged: Node | None = None  # the first layer that starts from other elements
        self.ended = set[str]()  # the values that move final states
        self.ends: dict[int, tuple[int, int]] = {}  # the layer and the kind of each final state by its space

    def _add(self, name: str, shape: tuple[Any, ...], dtype: Any) -> None:
        self.elements[name] = [View.contiguous(len(self.spaces), 0, shape)]
        self.spaces += self.elements[name]
        if shape and dtype is not None:
            self.values[name] = Signature(shape, dtype)

    def move(self, node: Node) -> None:
        """Follow the elements of states through a node."""
        found = [self.elements.get(name) for name in node.inputs]
        if found.count(None) == len(found) or node.operation in ("Shape", "Steps"):
            return
        if not self.ended.isdisjoint(node.inputs):
            self.ended.update(node.outputs)
        outputs: dict[str, list[View]] = {}
        first = found[0] or []
        if node.operation == "Concat":
            joined = [views[0] for views in found if views and len(views) == 1]
            if len(joined) == len(found) and all(_is_outer(node.attributes["axis"], view) for view in joined):
                outputs = {node.outputs[0]: joined}
        elif node.operation in (PASSING if len(first) == 1 else RESHAPING):
            outputs = {node.outputs[0]: first}
        elif len(first) == 1:
            outputs = {name: [view] for name, view in self._moved(node, first[0]).items()}
        self.elements |= {name: outputs.get(name, []) for name in node.outputs if name}

    def _moved(self, node: Node, state: View) -> dict[str, View]:
        """Return the outputs of a node that are views of a state, by name."""
        others = [name for name in node.inputs[1:] if name not in self.values]
        if any(others) or not state.shape:  # of an input of unknown shape
            return {}
        with contextlib.suppress(OnwardError):  # the sizes of the axes decide
            return moved(node, state, [self.values.get(name) for name in node.inputs[1:]])
        return {}

    def add_layer(self, node: Node, initial: Sequence[str], shapes: Sequence[tuple[Any, ...]]) -> None:
        """Add the initial and the final states of a recurrent layer. Raises ArgumentError."""
        starts: list[Place | None] = [None] * len(shapes)
        for kind, name in enumerate(initial[: len(shapes)]):
            if name in self.elements:
                if name in self.ended:
                    raise ArgumentError(f"{node} starts from the final state of another layer")
                views = self.elements[name]
                if len(views) != 1 or not self._is_in_order(views[0]):
                    self.rearranged = self.rearranged or node
                    continue
                starts[kind] = views[0].space, views[0].offset
                self.used[views[0].space] = self.used.get(views[0].space, 0) + math.prod(views[0].shape)
        for kind, (name, shape) in enumerate(zip(node.outputs[1:], shapes, strict=False)):
            if name:
                self.ended.add(name)
                self.ends[len(self.spaces)] = len(self.starts), kind
                self._add(name, shape, node.attributes["cell"].dtype)
        self.starts.append(starts)

    def _is_in_order(self, view: View) -> bool:
        """Whether a view has all elements of a state, or those of some layers in it, in their order."""
        count, all_of = math.prod(view.shape), math.prod(self.spaces[view.space].shape)
        return view.is_contiguous() and are_same(count * (hint(all_of) // max(1, hint(count))), all_of)

    def check(self, outputs: Sequence[str]) -> None:
        """Check the order of the states that layers start from and of those that the graph returns.

        Raises ArgumentError.
        """
        if self.rearranged:
            raise ArgumentError(f"{self.rearranged} starts from a state of another order or of unknown shape")
        if not _are_in_order(self.starts):
            raise ArgumentError("the initial states are not in the order of the layers")
        if not all(
            are_same(count, math.prod(self.spaces[space].shape)) for space, count in self.used.items()
        ):
            raise ArgumentError("the layers do not start from all elements of the initial states")
        ends: list[list[Place | None]] = [[None, None] for _ in self.starts]
        for number, name in enumerate(outputs):
            if not (views := self.elements.get(name)):
                raise ArgumentError(f"{name} is neither the first output nor a state of a layer")
            for position, view in enumerate(views):
                layer, kind = self.ends.get(view.space, (0, 0))
                size, whole = math.prod(view.shape), math.prod(self.spaces[view.space].shape)
                if view.space not in self.ends or not self._is_in_order(view) or not are_same(size, whole):
                    raise ArgumentError(f"{name} is neither the first output nor a state of a layer")
                if ends[layer][kind] is not None:
                    raise ArgumentError(f"{name} repeats the final state of a layer")
                ends[layer][kind] = number, position
        if not _are_in_order(ends):
            raise ArgumentError(f"{', '.join(outputs)} are not in the order of the layers")


def _with_shapes(graph: Graph) -> list[Input]:
    """Return the inputs behind the first one, with shapes for states whose first or last axis is open.

    These axes have the layers that start from them, and their units.
    """
    sources = {declared.name: {declared.name} for declared in graph.inputs[1:]}  # of values that move them
    shapes = dict[str, list[tuple[Any, ...]]]()
    for node in graph.nodes:
        if node.operation == "Recurrent":
            for name, shape in zip(node.inputs[2:], node.attributes["cell"].state_shapes(0), strict=False):
                for source in sources.get(name, ()):
                    shapes.setdefault(source, []).append(shape)
        elif node.operation in MOVES - {"Shape", "Steps"}:
            joined = set[str]().union(*(sources.get(name, ()) for name in node.inputs))
            sources |= dict.fromkeys(node.outputs, joined)
    return [_with_shape(declared, shapes.get(declared.name, [])) for declared in graph.inputs[1:]]


def _with_shape(declared: Input, shapes: Sequence[tuple[Any, ...]]) -> Input:
    axes = ("", "", "") if declared.axes is None else declared.axes
    units = {shape[-1] for shape in shapes}
    if len(axes) != 3 or len(units) != 1:
        return declared
    layers = axes[0] if isinstance(axes[0], int) else sum(shape[0] for shape in shapes)
    return declared.with_axes(layers, axes[1], axes[2] if isinstance(axes[2], int) else units.pop())


def _is_outer(axis: int, view: View) -> bool:
    """Whether views that are joined along an axis follow each other in memory."""
    return axis >= 0 and all(are_same(size, 1) for size in view.shape[:axis])


def _are_in_order(places: Sequence[Sequence[Place | None]]) -> bool:
    """Whether the places of the states of each layer are in the order of the layers.

    Layers whose states are in the same arrays have all h before all c, as those of a layer of PyTorch.
    """
    groups = groupby(places, lambda states: [place and place[0] for place in states])
    kinds = (kind for _, layers in groups for kind in zip(*layers, strict=True))
    order = [place for place in chain.from_iterable(kinds) if place is not None]
    return all(a < b for a, b in pairwise(order))

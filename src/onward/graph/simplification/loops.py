"""Recognize loops whose iterations are the steps of a recurrent layer, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..graph import Graph
from ..node import Node
from ..operations.arguments import as_axis
from ..operations.control import keeps_condition, loop_inputs
from ..patterns import Matcher
from .cells import rnn_step

if TYPE_CHECKING:
    from .simplify import Simplifier


MAX_STEPS = 1 << 16  # of a loop whose number of iterations is known, while that of the steps of x is not


class LayerLoop(NamedTuple):
    """A loop that runs a cell: the step, the places of its states, and the names of x and of a mask.

    `axis` is that of the steps. A masked step keeps the states; `last` is the place of the state that repeats
    the output, if there is one.
    """

    step: Node
    states: list[int]
    x: str
    axis: int
    mask: str = ""
    last: int = -1


def with_plain_index(body: Graph) -> Graph:
    """Return the body of a loop whose Gathers take the index of the iteration itself, not casts of it."""
    i = body.inputs[0].name
    casts = {node.outputs[0] for node in body.nodes if node.operation == "Cast" and node.inputs == (i,)}

    def plain(node: Node) -> Node:
        is_step = node.operation == "Gather" and node.inputs[1] in casts
        return node.with_inputs(node.inputs[0], i) if is_step else node

    return body.replaced(nodes=list(map(plain, body.nodes))).without_unused()


def as_layer(s: Simplifier, node: Node) -> list[Node] | None:
    """Return the nodes of a recurrent layer that replace a loop over all steps of x, or None."""
    body, (count, condition, *values) = node.attributes["body"], node.inputs
    states, _, outer = loop_inputs(values, node.captured)
    if condition or not keeps_condition(body) or any(node.attributes.get("scan_output_directions") or ()):
        return None
    found = _recognized(body, len(states))
    inner = [declared.name for declared in body.inputs]
    sequences = dict(zip(inner[len(inner) - len(outer) :], outer, strict=True))
    if found is None or not {found.x, found.mask or found.x} <= sequences.keys():
        return None
    names, number = (found.x, *found.step.inputs[1:]), s.constants.get(count)
    ranks = [len(_axes_around(s, body, name, values[inner.index(name) - 2])) for name in names]
    if ranks != [3, *[2] * len(found.states)]:
        return None
    steps = {name: sequences[name] for name in (found.x, found.mask) if name}
    if not _is_whole(s, body, steps, found.axis, count):
        if number is None or not 0 <= number.item() <= MAX_STEPS:
            return None
        steps = {n: _first_steps(s, node, x, found.axis, int(number.item())) for n, x in steps.items()}
    loop = LayerLoop(*found[:2], steps[found.x], found.axis, steps.get(found.mask, ""), found.last)
    return _layer(s, node, loop, states)


def _is_whole(s: Simplifier, body: Graph, sequences: dict[str, str], axis: int, count: str) -> bool:
    """Whether a loop runs over all steps of x, the first sequence, and of its mask."""
    sizes = {_axes_around(s, body, name, value)[axis] for name, value in sequences.items()}
    number = s.constants.get(count)
    if number is not None or axis:
        return number is not None and sizes == {number.item()}
    is_same = len(sizes) == 1 and all(isinstance(size, int) for size in sizes)
    return any(s.is_length(count, x) for x in list(sequences.values())[: None if is_same else 1])


def _first_steps(s: Simplifier, node: Node, x: str, axis: int, count: int) -> str:
    """Return the first steps of a sequence, which must have that many."""
    places = s.constant(f"{node.outputs[-1]}/steps of {x}", np.arange(count))
    s.add(Node("Gather", (x, places), (f"{places}/gathered",), {"axis": axis}, node.name, node.source))
    return f"{places}/gathered"


def _axes_around(s: Simplifier, body: Graph, name: str, value: str) -> tuple[int | str, ...]:
    """Return the axes of an input of a loop, as far as they are known, from its body or from its value."""
    return s.constants[value].shape if value in s.constants else _axes(body, name) or s.axes(value)


def _axes(body: Graph, name: str) -> tuple[int | str, ...]:
    return next((declared.axes for declared in body.inputs if declared.name == name), None) or ()


def _recognized(body: Graph, count: int) -> LayerLoop | None:
    """Return the cell that a body runs, if the body does nothing else."""
    matcher, i = Matcher(body), body.inputs[0].name
    before, after = [declared.name for declared in body.inputs[2 : 2 + count]], body.outputs[1:]
    gathers = {
        each.outputs[0]: (each.inputs[0], each.attributes.get("axis", 0))
        for each in body.nodes
        if each.operation == "Gather" and each.inputs[1] == i
    }
    steps = [each for each in body.nodes if each.operation == "Step"]
    if not steps and count == 1:
        steps = rnn_step(matcher, after[0], before[0]) or []
    if len(steps) != 1 or steps[0].inputs[0] not in gathers or not set(steps[0].inputs[1:]) <= set(before):
        return None
    (step,) = steps
    states, (x, axis) = [before.index(name) for name in step.inputs[1:]], gathers[step.inputs[0]]
    if axis not in (0, 1):
        return None
    if count == len(states) and [after[place] for place in states] == list(step.outputs):
        if all(name == step.outputs[0] for name in after[count:]):
            return LayerLoop(step, states, x, axis)
    first = {name: sequence for name, (sequence, axis) in gathers.items() if axis == 0}
    return None if axis else _masked(matcher, LayerLoop(step, states, x, axis), before, after, first)


def _masked(
    matcher: Matcher, loop: LayerLoop, before: Sequence[str], after: Sequence[str], gathers: dict[str, str]
) -> LayerLoop | None:
    """Return a loop whose states a mask (T, B, 1) keeps, and whose scanned output repeats."""
    others = [place for place in range(len(before)) if place not in loop.states]
    if len(others) > 1:
        return None
    wanted = list(zip(loop.states, loop.step.outputs, strict=True))
    wanted += [(place, loop.step.outputs[0]) for place in others]
    masks = set()
    for place, new in wanted:
        node = matcher.makers.get(after[place])
        if node is None or node.operation != "Where" or node.inputs[1:] != (new, before[place]):
            return None
        masks.add(node.inputs[0])
    mask = gathers.get(masks.pop(), "")
    axes = _axes(matcher.graph, mask)
    output = after[others[0]] if others else after[loop.states[0]]
    if masks or len(axes) != 3 or axes[2] != 1 or set(after[len(before) :]) - {output}:
        return None
    return LayerLoop(*loop[:4], mask, others[0] if others else -1)


def _layer(s: Simplifier, node: Node, loop: LayerLoop, initial: Sequence[str]) -> list[Node]:
    """Return the nodes of a layer over x (T, B, I), from and to states (B, H)."""
    prefix, nodes = next(filter(None, node.outputs)), list[Node]()

    def add(operation: str, inputs: tuple[str, ...], output: str, *axes: int) -> str:
        number = s.constant(f"{prefix}/axes {axes}", np.array(axes))
        nodes.append(Node(operation, (*inputs, number), (output,), {}, node.name, node.source))
        return output

    starts = [add("Unsqueeze", (initial[place],), f"{prefix}/first {place}", 0) for place in loop.states]
    ends = [f"{prefix}/last {place}" for place in loop.states]
    scanned = node.outputs[len(initial) :]
    axes = node.attributes.get("scan_output_axes") or [0] * len(scanned)
    y = next((name for name, axis in zip(scanned, axes, strict=True) if name and not axis), f"{prefix}/y")
    x = f"{prefix}/x" if loop.axis else loop.x
    if loop.axis:
        nodes.append(Node("Transpose", (loop.x,), (x,), {"perm": [1, 0, 2]}, node.name, node.source))
    inputs, operation = (x, "", *starts), "Recurrent"
    if loop.mask:
        mask = add("Squeeze", (loop.mask,), f"{prefix}/mask", 2)
        last = "" if loop.last < 0 else add("Unsqueeze", (initial[loop.last],), f"{prefix}/last", 0)
        inputs, operation = (x, mask, last or starts[0], *starts), "MaskedRecurrent"
    cell = loop.step.attributes["cell"]
    nodes.append(Node(operation, inputs, (y, *ends), {"cell": cell}, node.name, loop.step.source))
    for place, end in zip(loop.states, ends, strict=True):
        if node.outputs[place]:
            add("Squeeze", (end,), node.outputs[place], 0)
    if loop.last >= 0 and node.outputs[loop.last]:
        end = s.constant(f"{prefix}/end", np.array(-1))
        nodes.append(Node("Gather", (y, end), (node.outputs[loop.last],), {"axis": 0}, node.name))
    for name, axis in zip(scanned, axes, strict=True):
        if name not in ("", y):
            order = [1, 2]
            order.insert(as_axis(axis, 3), 0)
            nodes.append(Node("Transpose", (y,), (name,), {"perm": order}, node.name))
    return nodes

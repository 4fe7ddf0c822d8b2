"""Find the first node whose output differs between two files of one model, and inputs to compare them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, OnwardError
from ..graph import Graph, Model
from ..graph.inference import flattened
from ..graph.node import Node, Signature
from ..graph.of_layers import graph_of
from ..graph.over_time.named_carries import from_zeros
from ..graph.plan.planner import Planner
from ..graph.simplification.simplify import simplify

MAX_NODES = 4000  # the largest graph that is compared node by node
SIZES = (3, 16, 64, 200)  # tried for axes that a file leaves open, until the model accepts one
LARGEST_INDEX = 4  # in inputs of integers


@dataclass
class Divergence:
    """The first nodes of two models that correspond and whose outputs differ, relative to the scale."""

    node: str
    other: str
    shape: tuple[int, ...]
    difference: float

    def __str__(self) -> str:
        return (
            f"the first outputs that differ are those of {self.node} and, in the other model, {self.other}: "
            f"by {self.difference:.3g} of the scale, of shape {self.shape}"
        )


class Step(NamedTuple):
    """A node, and its first output."""

    node: Node
    output: NDArray[Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """What corresponding nodes of two models have in common."""
        return self.node.operation, self.output.shape


def first_divergence(
    model: Any, other: Any, inputs: Sequence[NDArray[Any]], tolerance: float
) -> Divergence | str:
    """Return the first divergence between two models on the same inputs, or the reason why none is known."""
    try:
        steps, others = (list(_steps(each, inputs)) for each in (model, other))
    except OnwardError as error:
        return f"the models cannot be compared node by node: {error}"
    for step, twin in _corresponding(steps, others):
        scale = float(np.abs(np.nan_to_num(twin.output)).max(initial=0))
        with np.errstate(invalid="ignore"):
            difference = float(np.nan_to_num(np.abs(step.output - twin.output)).max(initial=0))
        difference /= max(scale, 1e-30)
        if difference > tolerance:
            return Divergence(str(step.node), str(twin.node), step.output.shape, difference)
    return "no two nodes of the models that correspond differ"


def _corresponding(steps: Sequence[Step], others: Sequence[Step]) -> Iterator[tuple[Step, Step]]:
    """Yield the nodes that correspond: by their names if most nodes share them, otherwise by their order."""
    named = {step.node.name: step for step in others}
    pairs = [(step, twin) for step in steps if (twin := named.get(step.node.name)) and step.key == twin.key]
    if 2 * len(pairs) > min(len(steps), len(others)):
        yield from pairs
        return
    keys, other_keys = ([step.key for step in each] for each in (steps, others))
    for block in SequenceMatcher(None, keys, other_keys, autojunk=False).get_matching_blocks():
        for place in range(block.size):
            yield steps[block.a + place], others[block.b + place]


def _steps(model: Any, inputs: Sequence[NDArray[Any]]) -> Iterator[Step]:
    """Yield the nodes of a model whose first outputs are floats, in the order of their computation."""
    graph, arrays = _graph(model, inputs)
    known = {
        declared.name: array if array.ndim == 0 and array.dtype.kind in "iub" else Signature.of(array)
        for declared, array in zip(graph.inputs, arrays, strict=True)
    }
    graph = simplify(flattened(graph, known))
    if len(graph.nodes) > MAX_NODES:
        raise ArgumentError(f"one has {len(graph.nodes)} nodes; expected at most {MAX_NODES}")
    named = [(node, node.outputs[0]) for node in graph.nodes if node.outputs and node.outputs[0]]
    wanted = graph.replaced(outputs=tuple(name for _, name in named), declared_outputs=())
    for (node, _), output in zip(named, Planner(wanted)(*arrays), strict=True):
        if isinstance(output, np.ndarray) and output.dtype.kind == "f":
            yield Step(node, output)


def _graph(model: Any, inputs: Sequence[NDArray[Any]]) -> tuple[Graph, list[NDArray[Any]]]:
    """Return the graph of a model, and its inputs in order."""
    if not isinstance(model, Model):
        graph = from_zeros(graph_of(model))
        if len(inputs) != len(graph.inputs):
            raise ArgumentError("the states of layers are compared from zeros only")
        return graph, list(inputs)
    if model._graph.is_recorded:
        return _graph(Model(model._whole()), inputs)
    args, named = tuple(inputs), dict[str, Any]()
    if model._graph.structure is not None:
        args, named = model._graph.structure.flatten(args, {})
    _, planner, arrays = model._checked(args, named)
    return planner.graph, arrays


def example_inputs(models: Sequence[Any]) -> Mapping[str, NDArray[Any]]:
    """Return random inputs that the models accept, from the axes that they declare.

    The first model names the inputs; the sizes that it leaves open are those that the others fix, if any.
    Initial states are left out if one of the models consists of layers, which compare from zeros.

    Raises ArgumentError if the declarations do not suffice.
    """
    problem = ""
    for size in SIZES:
        try:
            inputs = _example(models, size)
            for model in models:
                model(*inputs.values())
        except OnwardError as error:
            problem = str(error)
            continue
        return inputs
    raise ArgumentError(f"the models accept no inputs that follow from their declarations: {problem}")


def _example(models: Sequence[Any], size: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    model, *others = models
    if not isinstance(model, Model):
        return {"x": rng.standard_normal((size, 2, model.step_shape[-1])).astype(np.float32)}
    left_out = set() if all(isinstance(other, Model) for other in others) else model._initial_states
    declared = [each for each in model._planner.graph.inputs if each.name not in left_out]
    keys, dtypes = {}, {}
    for each in declared:
        if each.axes is None or each.dtype is None:
            raise ArgumentError(f"the model does not declare the shape of {each.name}")
        keys[each.name] = [axis if axis != "" else f"{each.name}:{i}" for i, axis in enumerate(each.axes)]
        dtypes[each.name] = each.dtype
    sizes: dict[int | str, int] = {}
    for other in others:
        if isinstance(other, Model):
            for axes, twin in zip(keys.values(), other._planner.graph.inputs, strict=False):
                pairs = zip(axes, twin.axes or (), strict=False)
                sizes |= {key: axis for key, axis in pairs if isinstance(axis, int)}
    inputs = {}
    for name, axes in keys.items():
        shape = [key if isinstance(key, int) else sizes.setdefault(key, size + len(sizes)) for key in axes]
        if dtypes[name].kind == "f":
            inputs[name] = rng.standard_normal(shape).astype(dtypes[name])
        else:
            inputs[name] = rng.integers(0, LARGEST_INDEX, shape).astype(dtypes[name])
    return inputs

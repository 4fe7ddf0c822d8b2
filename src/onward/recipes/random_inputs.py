"""Random inputs that models accept, from the axes that they declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, OnwardError
from ..formats.compiled.model import CompiledModel
from ..graph import Graph
from ..model import Model

SIZES = (3, 16, 64, 200)  # tried for axes that a file leaves open, until the model accepts one
LARGEST_INDEX = 4  # in inputs of integers


def example_inputs(models: Sequence[Any]) -> Mapping[str, NDArray[Any]]:
    """Return random inputs that the models accept, from the axes that they declare.

    The first model names the inputs; the sizes that it leaves open are those that the others fix, if any.
    Inputs that may be omitted, such as initial states, are left out if another model has fewer or more.

    Raises ArgumentError if the declarations do not suffice.
    """
    for size in SIZES:
        try:
            inputs = _example(models, size)
            for model in models:
                if _declared(model) is None and len(inputs) > 1:
                    raise ArgumentError(f"layers take one array, not {', '.join(inputs)}")
                model(*inputs.values())
            return inputs
        except OnwardError as error:
            problem = error
    raise ArgumentError(f"the models accept no inputs that follow from their declarations: {problem}")


def _declared(model: Any) -> Graph | None:
    """Return a graph with the inputs that a model declares; None for layers."""
    if isinstance(model, CompiledModel):
        return model.declared
    return model.planner.graph if isinstance(model, Model) else None


def _example(models: Sequence[Any], size: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    model, *rest = models
    if isinstance(model, Model):
        with suppress(ArgumentError):  # code that cannot be recorded for all sizes of its inputs
            model = model.general
    graph, *others = map(_declared, (model, *rest))
    if graph is None:
        shape = model.step_shape
        if not shape:  # of an Embedding
            return {"x": rng.integers(0, LARGEST_INDEX, (size, 2))}
        return {"x": rng.standard_normal((size, 2, *shape)).astype(np.float32)}
    counts = {1 if other is None else len(other.inputs) for other in others}
    may_be_omitted = graph.defaults | (model.initial_states if isinstance(model, Model) else set())
    left_out = may_be_omitted if counts - {len(graph.inputs)} else set()
    declared = [each for each in graph.inputs if each.name not in left_out]
    keys: list[list[int | str]] = []
    for each in declared:
        if each.axes is None or each.dtype is None:
            raise ArgumentError(f"the model does not declare the shape of {each.name}")
        keys.append([f"{each.name}:{i}" if axis == "" else axis for i, axis in enumerate(each.axes)])
    sizes: dict[int | str, int] = {}
    for other in filter(None, others):
        for axes, twin in zip(keys, other.inputs, strict=False):
            pairs = zip(axes, twin.axes or (), strict=False)
            sizes |= {key: axis for key, axis in pairs if isinstance(axis, int)}
    inputs = {}
    for each, axes in zip(declared, keys, strict=True):
        shape = [key if isinstance(key, int) else sizes.setdefault(key, size + len(sizes)) for key in axes]
        is_float = each.dtype is not None and each.dtype.kind == "f"
        values = rng.standard_normal(shape) if is_float else rng.integers(0, LARGEST_INDEX, shape)
        inputs[each.name] = values.astype(each.dtype)
    return inputs

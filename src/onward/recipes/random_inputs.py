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
from ..graph.declared import UNNAMED, Input
from ..graph.random_inputs import SIZES, random_inputs
from ..model import Model


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
    model, *rest = models
    if isinstance(model, Model):
        with suppress(ArgumentError):  # code that cannot be recorded for all sizes of its inputs
            model = model.general
    graph, *others = map(_declared, (model, *rest))
    if graph is None:
        axes, dtype = (size, 2, *model.step_shape), np.float32 if model.step_shape else np.int64
        return {"x": random_inputs([Input("x", np.dtype(dtype), axes)], size)[0]}
    counts = {1 if other is None else len(other.inputs) for other in others}
    may_be_omitted = graph.defaults | (model.initial_states if isinstance(model, Model) else set())
    left_out = may_be_omitted if counts - {len(graph.inputs)} else set()
    declared = [each for each in graph.inputs if each.name not in left_out]
    sizes: dict[str, int] = {}
    for other in filter(None, others):
        for place, (each, twin) in enumerate(zip(declared, other.inputs, strict=False)):
            own, fixed = list(each.axes or ()), twin.axes or ()
            for i, (axis, number) in enumerate(zip(own, fixed, strict=False)):
                if isinstance(axis, str) and isinstance(number, int):
                    own[i] = number
                    sizes |= {axis: number} if axis not in UNNAMED else {}
            if each.axes is not None:
                declared[place] = each.with_axes(*own)
    arrays = random_inputs(declared, size, sizes)
    return {each.name: array for each, array in zip(declared, arrays, strict=True)}

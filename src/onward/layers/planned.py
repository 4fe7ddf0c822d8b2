"""Run small calls of a Sequential as one plan of the core, with the bits of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.arrays import Array
from ..errors import OnwardError
from .base import Layer

if TYPE_CHECKING:
    from ..graph.plan.planner import Planner
    from .sequential import Sequential

CALLS = 8  # with the same shape of x, after which a plan is worth its time and memory
MAX_ELEMENTS = 1 << 12  # elements in x; larger calls spend their time in the layers
MAX_COPIED = 1 << 20  # bytes of the weights of layers that are not recurrent, which a plan copies


class PlannedModel:
    """The plans of a model with its present weights, for shapes of x that come several times in a row."""

    def __init__(self, model: Sequential) -> None:
        self._weights = _weights(model)
        self._planner: Planner | None = None
        self._shape: tuple[int, ...] | None = None  # shape of x in the last calls without a plan
        self._calls = 0

    def is_current(self, model: Sequential) -> bool:
        """Whether the model still has the weights of the plans."""
        return all(a is b for a, b in zip(self._weights, _weights(model), strict=True))

    def run(self, model: Sequential, x: Any) -> Array | None:
        """Return the output of the model, or None if its layers have to compute it."""
        if type(x) is not np.ndarray or x.size > MAX_ELEMENTS:
            return None
        if x.dtype.kind == "i" and x.size and x.min() < 0:  # a graph counts indices below 0 from the end
            return None
        try:
            results = None if self._planner is None else self._planner.run((x,), {})
            if results is None and self._is_frequent(x.shape):
                results = self._planned(model, x)
        except OnwardError:  # the layer that raises it explains it better
            return None
        if results is None:
            return None
        y: Array = results[0]
        return y

    def _is_frequent(self, shape: tuple[int, ...]) -> bool:
        """Whether x had this shape in enough calls for a plan."""
        self._calls = 1 + (self._calls if shape == self._shape else 0)
        self._shape = shape
        return self._calls == CALLS

    def _planned(self, model: Sequential, x: Any) -> tuple[Any, ...] | None:
        """Build a plan for the shape of x and run it, unless some steps would run in NumPy."""
        planner = self._planner or _planner(model)
        if planner is None or x.dtype != planner.graph.inputs[0].dtype:
            return None
        results = planner(x)
        plan = planner.find((x,))
        if plan is None or plan.entry is None:
            return None
        self._planner = planner
        return results


def _weights(model: Sequential) -> list[Any]:
    """Return the dicts of weights of all layers, which are replaced as a whole."""
    return [layer.__dict__.get("_weights") for layer in model.layers]


def _planner(model: Sequential) -> Planner | None:
    """Return the planner of a model, or None if it is not one of small layers of Onward in float32."""
    copied = sum(
        weight.nbytes
        for layer in model.layers
        if not layer.state_names
        for weight in layer._weights_by_name().values()
    )
    if model.dtype != np.float32 or copied > MAX_COPIED or not all(map(_is_own, model.layers)):
        return None
    from ..graph.of_layers import graph_of
    from ..graph.over_time.named_carries import from_zeros
    from ..graph.plan.planner import Planner
    from ..graph.simplification.simplify import simplify

    try:
        return Planner(simplify(from_zeros(graph_of(model))))
    except OnwardError:
        return None


def _is_own(layer: Layer) -> bool:
    """Whether a layer is of a class of Onward, and not of a subclass that may compute something else."""
    return type(layer).__module__.startswith(__package__ or "")

"""Run small calls of a Sequential as one plan of the core, with the bits of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.arrays import Array
from ..errors import OnwardError

if TYPE_CHECKING:
    from ..graph.plan.planner import Planner
    from .sequential import Sequential

CALLS = 8  # with the same shape of x, after which a plan is worth its time and memory
MAX_ELEMENTS = 1 << 12  # elements in x; larger calls spend their time in the layers
MAX_COPIED = 1 << 20  # bytes of the weights of layers that are not recurrent, which a plan copies


class PlannedModel:
    """The plans of a model with its present weights, for shapes of x that come several times in a row.

    There is a plan for calls from zeros that return y alone, and another for those with states.
    """

    def __init__(self, model: Sequential) -> None:
        self._weights = [layer._weights for layer in model.layers]  # dicts that are replaced as a whole
        self._layers: list[Any] = [layer for layer in model.layers if layer.state_names]
        self._planners: dict[bool, Planner] = {}  # by whether they take and return states
        self._last: Any = None  # shape of x and kind of the last calls without a plan
        self._calls = 0

    def is_current(self, model: Sequential) -> bool:
        """Whether the model still has the weights of the plans."""
        return all(layer._weights is own for layer, own in zip(model.layers, self._weights, strict=True))

    def run(self, model: Sequential, x: Any, state: Any, with_state: bool) -> tuple[Array, list[Any]] | None:
        """Return the output and the final states, or None if the layers of the model have to compute them.

        The final states are empty unless `with_state`, which a state requires.
        """
        if type(x) is not np.ndarray or x.size > MAX_ELEMENTS:
            return None
        if x.dtype.kind == "i" and x.size and x.min() < 0:  # a graph counts indices below 0 from the end
            return None
        try:
            inputs = (x, *self._flat(model, x, state)) if with_state else (x,)
            planner = self._planners.get(with_state)
            results = None if planner is None else planner.run(inputs, {})
            if results is None and self._is_frequent((x.shape, with_state)):
                results = self._planned(model, inputs, with_state)
        except OnwardError:  # the layer that raises it explains it better
            return None
        if results is None:
            return None
        parts = iter(results[1:])
        return results[0], [
            layer.join_state(next(parts), next(parts) if len(layer.state_names) == 2 else None)
            for layer in (self._layers if with_state else ())
        ]

    def _flat(self, model: Sequential, x: Array, state: Any) -> list[Any]:
        """Return the arrays of all initial states."""
        if state is None:
            B = x.shape[0 if model.batch_first else 1] if x.ndim > 1 else 1
            return [np.zeros(shape, np.float32) for layer in self._layers for shape in layer.state_shapes(B)]
        is_list = isinstance(state, list) and len(state) == len(self._layers)
        parts = zip(self._layers, state if is_list else model.split_states(state), strict=True)
        return [a for layer, part in parts for a in layer.split_state(part)[: len(layer.state_names)]]

    def _is_frequent(self, kind: Any) -> bool:
        """Whether x had this shape in enough calls of the same kind for a plan."""
        self._calls = 1 + (self._calls if kind == self._last else 0)
        self._last = kind
        return self._calls == CALLS

    def _planned(self, model: Sequential, inputs: tuple[Any, ...], with_state: bool) -> Any:
        """Build a plan for these inputs and run it; None if some steps would run in NumPy."""
        planner = self._planners.get(with_state) or _planner(model, with_state)
        if planner is None:
            return None
        pairs = zip(inputs, planner.graph.inputs, strict=True)
        if not all(type(a) is np.ndarray and a.dtype == declared.dtype for a, declared in pairs):
            return None
        results = planner(*inputs)
        plan = planner.find(inputs)
        if plan is None or plan.entry is None:
            return None
        self._planners[with_state] = planner
        return results


def _planner(model: Sequential, with_state: bool) -> Planner | None:
    """Return the planner of a model, or None if it is not one of small layers of Onward in float32."""
    # a subclass of a layer of Onward may compute something else
    if model.dtype != np.float32 or not all(type(m).__module__.startswith(str(__package__)) for m in model):
        return None
    copied = [layer for layer in model if not layer.state_names]
    if sum(weight.nbytes for layer in copied for weight in layer._weights.values()) > MAX_COPIED:
        return None
    from ..graph.of_layers import graph_of
    from ..graph.over_time.named_carries import from_zeros
    from ..graph.plan.planner import Planner
    from ..graph.simplification.simplify import simplify

    try:
        graph = graph_of(model)
        return Planner(simplify(graph if with_state else from_zeros(graph)))
    except OnwardError:
        return None

"""Layers and their gradients as graphs that take the weights as inputs."""

import copy
from collections.abc import Sequence

from ..core.arrays import FloatDtype
from ..graph.gradients import with_gradients
from ..graph.plan.planner import Planner
from ..graph.simplification.simplify import simplify
from .base_model import BaseModel
from .graphs import graph_of


def trainable(
    layer: BaseModel, names: Sequence[str], dtype: FloatDtype, lengths: bool
) -> tuple[Planner, Planner]:
    """Return the planners of a layer and of its gradients, which take some weights as inputs."""
    twin = copy.copy(layer)
    vars(twin)["dtype"] = dtype
    graph = simplify(graph_of(twin, lengths).with_inputs(names))
    return Planner(graph), Planner(simplify(with_gradients(graph)))

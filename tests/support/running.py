"""What runs a model: the one place where tests look behind calls."""

from typing import Any

from onward.graph import Graph, Model


def simplified(model: Model) -> Graph:
    """The graph that programs are compiled from."""
    return model.planner.graph


def bound(model: Model, *inputs: Any) -> Any:
    """What runs these inputs; its `segments` are pairs of places, for steps of the core, and others."""
    return model.planner.find(inputs)


def runs_in_core(model: Model, *inputs: Any) -> bool:
    """Whether a call with these inputs, which the model has run, has no node in NumPy."""
    found = bound(model, *inputs)
    return found is not None and all(type(segment) is tuple for segment in found.segments)


def loaded_programs(stream: Any) -> list[Any]:
    """The programs of a stream that runs a graph."""
    return [loaded for _, loaded in stream._model.planner._programs]


def weights_of(model: Model) -> Any:
    """The packed weights of a model, and the planners of the bodies of its nodes."""
    return model.planner._weights

"""A summary of a Keras model: one row per layer; output shapes are those of runs on zeros of three sizes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ...layers import summary
from ...layers.base import Layer
from .runtime.convolution import Convolution
from .runtime.graph import Model
from .runtime.recurrent_layers import RNN, Bidirectional, TimeDistributed

Shape: TypeAlias = tuple[int, ...]
# (B, T) of each run: an axis whose size changes with B or T depends on it. Primes rarely equal another size.
SIZES = ((3, 101), (5, 101), (3, 103))


def keras_rows(model: Model) -> list[summary.Row]:
    """A row for each layer, in the order of the file."""
    shapes = _output_shapes(model)
    return [
        summary.row(name, layer, shapes.get(name))._replace(kind=kind(layer))
        for name, layer in model.layers.items()
    ]


def kind(layer: Layer) -> str:
    """What a layer is, by the names that Keras uses for what is inside wrappers."""
    match layer:
        case RNN():
            return " + ".join(map(summary.kind, layer.cells))
        case Bidirectional():
            return f"Bidirectional ({kind(layer.forward_layer)})"
        case TimeDistributed():
            return f"TimeDistributed ({kind(layer.layer)})"
    return summary.kind(layer)


def _output_shapes(model: Model) -> dict[str, summary.Axes]:
    """The shape of each layer's first output; none if the shapes of the inputs are unknown."""
    steps = [step_shape(model, index) for index in range(len(model.inputs))]
    try:
        runs = [_run(model, steps, B, T) for B, T in SIZES]
    except Exception:  # zeros of such a shape are no input of this model, and NumPy raises nearly anything
        return {}
    first, more_rows, more_steps = runs
    return {
        name: tuple(
            "B" if b != size else "T" if t != size else size
            for size, b, t in zip(shape, more_rows[name], more_steps[name], strict=True)
        )
        for name, shape in first.items()
    }


def step_shape(model: Model, index: int) -> Shape:
    """The shape of one time step of an input, as the first layer on its way that fixes one takes it."""
    reached = [[0, index]]
    for number, node in enumerate(model.nodes, start=1):
        if not any(list(reference) in reached for reference in node["inputs"]):
            continue
        layer = model.layers[node["layer"]]
        if isinstance(layer, Convolution) and layer.windows.axes == 1:
            return (layer.windows.in_channels,)
        if layer.step_shape is not None:
            return layer.step_shape
        reached.append([number, 0])
    return ()


def _run(model: Model, steps: list[Shape], B: int, T: int) -> dict[str, Shape]:
    """The shapes of all layers' outputs for inputs (B, T, *step) of zeros."""
    inputs = [np.zeros((B, T, *step)) for step in steps]
    values = model.values(inputs if len(inputs) > 1 else inputs[0])
    names = [node["layer"] for node in model.nodes]
    return {name: outputs[0].array.shape for name, outputs in zip(names, values, strict=True)}

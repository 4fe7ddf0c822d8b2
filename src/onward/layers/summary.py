"""The rows of a summary for layers: their kinds, output shapes and numbers of parameters."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.summary import NamedShape, Row
from . import Activation, Dropout, Embedding, Last, Linear, Softmax
from .base_model import BaseModel
from .conv import Convolution, Spatial
from .norm import Normalization
from .recurrent import Recurrent
from .stateful import Stateful

STEPS = ("T", "B"), ("B", "T")  # by batch_first


def rows(layers: Mapping[str, BaseModel]) -> list[Row]:
    """One row per layer for unconnected layers; each output shape is inferred from the layer alone."""
    return [row(name, layer, output_shape(layer, input_shape(layer))) for name, layer in layers.items()]


def connected_rows(layers: Mapping[str, BaseModel]) -> list[Row]:
    """One row per layer of a chain, in which each layer takes the output of the previous one."""
    batch_first = any(layer.batch_first for layer in layers.values())
    # a leading layer that accepts any shape, such as Dropout, has the input shape of the next layer
    inputs = (input_shape(layer, batch_first) for layer in layers.values())
    shape = next((shape for shape in inputs if shape is not None), None)
    # each shape follows from the one before
    return [row(name, layer, shape := output_shape(layer, shape)) for name, layer in layers.items()]


def row(name: str, layer: BaseModel, shape: NamedShape | None) -> Row:
    """The row of one layer with its output shape."""
    weights = layer.weights_by_name()
    scales = {f"{weight}_scale" for weight in weights}  # scales of int8 weights are not parameters
    parameters = sum(array.size for weight, array in weights.items() if weight not in scales)
    return Row(name, kind(layer), shape, parameters, sum(array.nbytes for array in weights.values()))


def kind(layer: BaseModel) -> str:
    """Describe a layer: its class, and the options that affect how to read its output.

    >>> import onward
    >>> kind(onward.LSTM(3, 4, num_layers=2, bidirectional=True))
    'LSTM (2 layers, bidirectional)'
    """
    options = [layer.name] if isinstance(layer, Activation) else []
    if isinstance(layer, Recurrent):
        options = [
            f"{layer.num_layers} layers" if layer.num_layers > 1 else "",
            "bidirectional" if layer.bidirectional else "",
            f"projected to {layer.proj_size}" if layer.proj_size else "",
        ]
    details = ", ".join(filter(None, [*options, layer.precision]))
    return type(layer).__name__ + (f" ({details})" if details else "")


def input_shape(layer: BaseModel, batch_first: bool | None = None) -> NamedShape | None:
    """The shape of a layer's input, or None if the layer accepts any shape."""
    if isinstance(layer, Convolution):
        return ("B", layer.in_channels, *("L" if layer.axes == 1 else "HW"))
    if layer.step_shape is None:
        return None
    return (*STEPS[layer.batch_first if batch_first is None else batch_first], *layer.step_shape)


def output_shape(layer: BaseModel, shape: NamedShape | None) -> NamedShape | None:
    """The shape of a layer's output for an input of this shape, or None if it is unknown."""
    match layer:
        case Stateful():
            return (*STEPS[layer.batch_first], layer.output_size)
        case _ if shape is None:
            return None
        case Linear():
            return (*shape[:-1], layer.out_features)
        case Embedding():
            return (*shape, layer.embedding_dim)
        case Last():
            return ("B", *shape[2:])
        case Spatial() if any(isinstance(size, int) for size in shape[2:]):
            return None
        case Convolution():
            return (shape[0], layer.out_channels, *shape[2:])
        case Activation() | Dropout() | Softmax() | Normalization() | Spatial():
            return shape
    return None

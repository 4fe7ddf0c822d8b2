"""What the outputs of a model are: probabilities, if it ends in a softmax or a sigmoid."""

from ..graph import final
from ..layers.activation import Activation, Softmax
from ..layers.base_model import BaseModel
from ..layers.sequential import consecutive_layers
from ..layers.summary import connected_rows
from ..model import Model

FUNCTIONS = {"sigmoid": "sigmoid", "hard_sigmoid": "sigmoid", "hard_sigmoid_keras2": "sigmoid"}


def final_function(model: BaseModel) -> str:
    """Return "softmax" or "sigmoid" if the outputs of a model are its probabilities, otherwise "".

    The softmax is one along the last axis. Layers that only select or pass on outputs may follow.
    """
    if isinstance(model, Model):
        return final.final_function(model.general.planner.graph)
    layers = consecutive_layers(model)
    shapes = [row.output_shape for row in connected_rows({str(n): layer for n, layer in enumerate(layers)})]
    for layer, shape in reversed(list(zip(layers, shapes, strict=True))):
        if isinstance(layer, Softmax):
            is_last = layer.dim == -1 or shape is None or layer.dim == len(shape) - 1
            return "softmax" if is_last else ""
        if isinstance(layer, Activation):
            return FUNCTIONS.get(layer.name, "")
        if not layer.unchanged_by_step:
            return ""
    return ""

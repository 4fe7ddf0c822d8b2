"""What the outputs of a model are: probabilities, if it ends in a softmax or a sigmoid."""

from ..graph import Graph
from ..graph.activation_names import OPERATORS
from ..graph.summary import shapes_of
from ..layers.activation import Activation, Softmax
from ..layers.base_model import BaseModel
from ..layers.sequential import consecutive_layers
from ..layers.summary import connected_rows
from ..model import Model

SIGMOIDS = {"sigmoid", "hard_sigmoid", "hard_sigmoid_keras2"}
# Operations whose outputs are elements of their first input.
PASSING = {
    *("Cast", "Dropout", "Flatten", "Gather", "Identity", "LastStep", "Reshape", "Slice", "Squeeze"),
    *("Transpose", "Unsqueeze"),
}


def final_function(model: BaseModel) -> str:
    """Return "softmax" or "sigmoid" if the outputs of a model are its probabilities, otherwise "".

    The softmax is one along the last axis. Layers that only select or pass on outputs may follow.
    """
    if isinstance(model, Model):
        return _of_graph(model.general.planner.graph)
    layers = consecutive_layers(model)
    shapes = [row.output_shape for row in connected_rows({str(n): layer for n, layer in enumerate(layers)})]
    for layer, shape in reversed(list(zip(layers, shapes, strict=True))):
        if isinstance(layer, Softmax):
            is_last = layer.dim == -1 or shape is None or layer.dim == len(shape) - 1
            return "softmax" if is_last else ""
        if isinstance(layer, Activation):
            return "sigmoid" if layer.name in SIGMOIDS else ""
        if not layer.unchanged_by_step:
            return ""
    return ""


def _of_graph(graph: Graph) -> str:
    """Return the function that computes the elements of the first output of a graph."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    node = producers.get(graph.outputs[0]) if graph.outputs else None
    while node is not None and node.operation in PASSING:
        node = producers.get(node.inputs[0])
    if node is None:
        return ""
    if node.operation == "Softmax":
        axis = node.attributes.get("axis", -1)
        shape = None if axis == -1 else shapes_of(graph).get(node.outputs[0])
        return "softmax" if shape is None or axis == len(shape) - 1 else ""
    named = node.attributes.get("function") if node.operation == "Activate" else None
    function = OPERATORS[node.operation].function if node.operation in OPERATORS else named
    return "sigmoid" if function in SIGMOIDS else ""

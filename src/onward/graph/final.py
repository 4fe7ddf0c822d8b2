"""The function that computes the output of a graph, if it returns probabilities."""

from .activation_names import OPERATORS
from .graph import Graph
from .summary import shapes_of

# operations whose outputs are elements of their first input
PASSING = {
    *("Cast", "Dropout", "Flatten", "Gather", "Identity", "LastStep", "Reshape", "Slice", "Squeeze"),
    *("Transpose", "Unsqueeze"),
}
SIGMOIDS = {"sigmoid", "hard_sigmoid", "hard_sigmoid_keras2"}


def final_function(graph: Graph) -> str:
    """Return "softmax" or "sigmoid" if that computes the elements of the first output, otherwise "".

    The softmax is one along the last axis.
    """
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

"""The summary of a graph: a layer of several nodes has the parameters of all and the output of the last."""

import numpy as np

from onward.core.summary import Row, table
from onward.graph import Graph
from onward.graph.node import Node
from onward.graph.summary import summarize

HALVES = {"axis": -1, "num_outputs": 2}


def test_the_output_of_a_layer_is_that_of_its_last_node() -> None:
    graph = Graph(outputs=("y", "z"))
    graph.add_input("x", np.float32, ("time", "batch", 3))
    for name, shape in {"W": (3, 24), "V": (12, 2)}.items():
        graph.add_constant(np.ones(shape, np.float32), name)
    graph.nodes = [
        Node("MatMul", ("x", "W"), ("both",), {}, "pair, forward", "Bidirectional"),
        Node("Split", ("both",), ("first", "second"), HALVES, "pair", "Bidirectional"),
        Node("Add", ("first", "second"), ("sum",), {}, "pair", "Bidirectional"),
        Node("Transpose", ("sum",), ("y",), {"perm": [1, 0, 2]}, "pair", "Bidirectional"),
        Node("MatMul", ("sum", "V"), ("z",), {}, "", "MatMul"),
        Node("Transpose", ("z",), ("other",), {}, "", "Transpose"),
    ]
    first, second = summarize(graph).rows
    assert first[:4] == ("pair", "Bidirectional", ("batch", "time", 12), 72)
    assert second[1:4] == ("MatMul", ("time", "batch", 2), 24)


def test_any_number_of_open_axes_keeps_its_names() -> None:
    graph = Graph(outputs=("y",))
    graph.add_input("x", np.float32, ("batch", *"abcdef", 3))
    graph.add_constant(np.ones((3, 2), np.float32), "W")
    graph.nodes = [Node("MatMul", ("x", "W"), ("y",), {}, "")]
    assert summarize(graph).rows[0].output_shape == ("batch", *"abcdef", 2)


def test_a_table_is_narrow_whatever_the_names_of_layers() -> None:
    """Converters join the names of all layers that they fuse."""
    names = [
        f"model/conv_{place};{'model/batch_normalization;' * 12}model/relu_{place}" for place in range(2)
    ]
    rows = [Row(name, "CONV_2D", ("batch", 4), 10, 40) for name in names]
    first, second = table(rows).splitlines()[1:3]
    assert first[:12] == "model/conv_0" and "model/relu_0  CONV_2D" in first and "relu_1" in second
    assert len(first) == len(second) < 110

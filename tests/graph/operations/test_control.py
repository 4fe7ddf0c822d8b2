"""Optional values: an array, a sequence, or nothing; tests/peers compares them with onnxruntime."""

import numpy as np
import pytest
from support.onnx_nodes import normal

from onward.errors import ArgumentError
from onward.graph import Graph, Model


def test_an_optional_value_returns_a_copy_of_its_element() -> None:
    graph, x = Graph(), normal(2, 3)
    optional = graph.add("Optional", graph.add_input("x", np.float32, (2, 3)))
    graph.outputs = (graph.add("OptionalGetElement", optional), graph.add("OptionalHasElement", optional))
    y, has_element = Model(graph)(x)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)
    assert has_element


def test_an_empty_optional_value_has_no_element() -> None:
    graph = Graph()
    optional = graph.add("Optional")
    graph.outputs = (graph.add("OptionalHasElement", optional),)
    assert not Model(graph)()
    graph.outputs = (graph.add("OptionalGetElement", optional, name="element"),)
    with pytest.raises(ArgumentError, match=r"node element .*: the optional value is empty"):
        Model(graph)()

"""The choice of elements, in the core and in NumPy."""

import numpy as np
import pytest

from onward.graph import Model
from onward.graph.graph import Graph
from onward.graph.operations import OPERATIONS


@pytest.mark.parametrize("largest", [0, 1])
def test_nan_is_larger_than_every_number(largest):
    x = np.array([[1, np.nan, -2, np.nan, 3, np.inf], [np.nan] * 6], np.float32)
    graph = Graph()
    graph.add_input("x", np.dtype(np.float32), ("n", 6))
    inputs = ["x", graph.add_constant(np.array([6]))]
    graph.outputs = graph.add_all("TopK", inputs, 2, axis=1, largest=largest)
    expected = OPERATIONS["TopK"].compute([x, np.array([6])], {"axis": 1, "largest": largest})
    assert np.isnan(expected[0][0, :2] if largest else expected[0][0, 4:]).all()
    for y, z in zip(Model(graph)(x), expected, strict=True):
        np.testing.assert_array_equal(y, z)

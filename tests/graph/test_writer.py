"""Writing the operations on expressions to a graph."""

import numpy as np

from onward.graph import Graph
from onward.graph.operations.expressions import Expression
from onward.graph.writer import Recorder, Writer

FLOAT32 = np.dtype(np.float32)


def test_operations_on_constants_are_computed_at_once() -> None:
    t = Writer(Graph())
    y = Expression(t, t.cast([[1.0, 2.0, 3.0]], FLOAT32), FLOAT32).apply("Transpose", perm=[1, 0]) * 2
    assert not t.graph.nodes
    np.testing.assert_array_equal(t.known(y.name), [[2.0], [4.0], [6.0]])


def test_what_follows_from_constants_is_stored_once_however_often_it_is_written() -> None:
    """Models unrolled over time transpose the same weights in every step."""
    t = Writer(Graph())
    W = t.cast(np.arange(21).reshape(3, 1, 7), FLOAT32)
    names = [t.add("Transpose", W, perm=perm) for perm in ([1, 2, 0], [1, 0, 2], [1, 2, 0])]
    assert names[0] == names[2] != names[1] and len(t.graph.constants) == 3
    halves, thirds = (t.add_all("Split", [W], n, axis=2, num_outputs=n) for n in (2, 3))
    assert [len(halves), len(thirds)] == [2, 3] and not {*halves} & {*thirds}
    np.testing.assert_array_equal(t.known(names[1]), np.arange(21).reshape(3, 1, 7).transpose(1, 0, 2))


def test_default_values_of_inputs_are_no_constants() -> None:
    t = Writer(Graph())
    name = t.graph.add_input("state", np.float32, (2,))
    t.graph.add_constant(np.zeros(2, np.float32), name)
    y = Expression(t, name, FLOAT32) + 1
    assert t.known(name) is None and t.known(y.name) is None
    assert [node.operation for node in t.graph.nodes] == ["Add"]


def test_weights_that_are_dequantized_stay_integers() -> None:
    t = Writer(Graph())
    integers = t.cast([[2, -4]], np.int8)
    y = t.add("DequantizeLinear", integers, t.cast(0.5, np.float32), t.cast(0, np.int8))
    z = t.add("Transpose", y, perm=[1, 0])
    t.add("Transpose", t.cast([[1, 2]], np.float32), perm=[1, 0])
    assert [node.operation for node in t.graph.nodes] == ["DequantizeLinear", "Transpose"]
    np.testing.assert_array_equal(t.known(y), [[1.0, -2.0]])
    np.testing.assert_array_equal(t.known(z), [[1.0], [-2.0]])


def test_equal_constants_are_stored_once() -> None:
    t = Writer(Graph())
    assert t.cast([1, 2], np.int64) == t.cast((1, 2), np.int64) != t.cast([1, 2], np.int32)


def test_equal_constants_of_a_part_of_a_graph_are_stored_once_under_its_prefix() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (2,))
    first, second = Recorder(graph, "first/", ("layer", "kind")), Recorder(graph, "second/")
    names = [(Expression(t, x, FLOAT32) * 2).name for t in (first, first, second)]
    assert names == ["first/Mul_0", "first/Mul_1", "second/Mul_2"]
    assert list(graph.constants) == ["first/constant_0", "second/constant_1"]
    assert [(node.name, node.source) for node in graph.nodes][:2] == [("layer", "kind")] * 2

"""Sequences of arrays and optional values; tests/peers compares them with onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_nodes import normal

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model


def body_of_sequences() -> Graph:
    """One iteration, which appends a row to a sequence."""
    body = Graph()
    for name, dtype in (("i", np.int64), ("on", bool), ("rows", None), ("x", np.float32)):
        body.add_input(name, dtype)
    row = body.add("Gather", "x", "i", axis=0)
    body.outputs = ("on", body.add("SequenceInsert", "rows", row), row)
    body.declared_outputs = tuple(Input(name) for name in body.outputs)
    return body


def collecting() -> Model:
    graph = Graph()
    x, count = graph.add_input("x", np.float32, ("T", 3)), graph.add_input("count", np.int64, ())
    empty = graph.add("SequenceEmpty", dtype=np.dtype(np.float32))
    inputs = (count, "", empty, x)
    rows, scanned = graph.add_all("Loop", inputs, 2, body=body_of_sequences(), captured=1)
    graph.outputs = (rows, scanned)
    graph.declared_outputs = (Input("rows"), Input("scanned", np.dtype(np.float32)))
    return Model(graph)


def test_a_model_whose_bodies_use_sequences_is_saved(tmp_path: Path) -> None:
    model, x = collecting(), normal(5, 3)
    model.save(tmp_path / "m.safetensors")
    again: Any = onward.load(tmp_path / "m.safetensors")
    for count in (2, 5):
        rows, scanned = again(x, np.array(count))
        np.testing.assert_array_equal(rows, x[:count])
        np.testing.assert_array_equal(scanned, x[:count])


def test_scanned_outputs_of_no_iterations_have_the_axes_of_an_iteration() -> None:
    """They had one axis if the shapes in the body did not follow from those of the inputs alone."""
    model = collecting()
    for x in (normal(5, 3), normal(2, 3)):
        rows, scanned = model(x, np.array(0))
        assert rows == [] and scanned.shape == (0, 3) and scanned.dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_of_no_slices_has_the_axes_of_a_slice(axis: int) -> None:
    """onnxruntime refuses it; its outputs have the shapes of one slice, apart from their number."""
    body, graph = Graph(), Graph()
    h, x_t = body.add_input("h", np.float32), body.add_input("x_t", np.float32)
    kept = body.add("Compress", body.add("Add", h, x_t), body.add_constant(np.array([True, False])), axis=0)
    body.outputs = (body.add("Tanh", h), body.add("Squeeze", kept, body.add_constant(np.array([0]))))
    body.declared_outputs = tuple(Input(name, np.dtype(np.float32)) for name in body.outputs)
    inputs = [graph.add_input(name, np.float32) for name in ("h0", "x")]
    options: dict[str, Any] = {"scan_input_axes": [axis], "scan_output_axes": [axis]}
    graph.outputs = graph.add_all("Scan", inputs, 2, body=body, num_scan_inputs=1, **options)
    h0, x = normal(2, 3), np.moveaxis(normal(4, 2, 3), 0, axis)
    model = Model(graph)
    _, y = model(h0, x)
    assert y.shape[axis] == 4
    state, empty = model(h0, np.take(x, [], axis))
    np.testing.assert_array_equal(state, h0)
    assert empty.shape == np.take(y, [], axis).shape


def test_a_scan_of_axes_of_two_names_runs() -> None:
    """Sizes that the call shows to be equal were refused because they have different names."""
    body, graph = Graph(), Graph()
    h, a, b = (body.add_input(name, np.float32) for name in ("h", "a", "b"))
    total = body.add("Sum", h, a, b)
    body.outputs = (total, total)
    inputs = [graph.add_input("h0", np.float32, (3,))]
    inputs += [graph.add_input(name, np.float32, (size, 3)) for name, size in (("x", "T"), ("z", "L"))]
    graph.outputs = graph.add_all("Scan", inputs, 2, body=body, num_scan_inputs=2)
    model, h0 = Model(graph), normal(3)
    for n in (2, 5, 18):
        x, z = normal(n, 3), normal(n, 3)
        np.testing.assert_allclose(model(h0, x, z)[1], h0 + np.cumsum(x + z, 0), 1e-5, 1e-5)
    with pytest.raises(ArgumentError, match="have 2, 3 slices"):
        model(h0, normal(2, 3), normal(3, 3))


def test_errors_of_sequences_name_the_node() -> None:
    for operation, attributes in (("SequenceAt", {}), ("ConcatFromSequence", {"axis": 0})):
        graph = Graph()
        empty = graph.add("SequenceEmpty")
        places = [graph.add_constant(np.array(0))] if operation == "SequenceAt" else []
        graph.outputs = (graph.add(operation, empty, *places, name="first", **attributes),)
        with pytest.raises(ArgumentError, match=rf"node first \({operation}\)"):
            Model(graph)()


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

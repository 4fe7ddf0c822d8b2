"""Graphs exported as ONNX: valid, with the names of the source, and bitwise equal when loaded again."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import modules
from support.onnx_nodes import model_of, normal, open_model

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model

RNG = np.random.default_rng(0)


def assert_exports(model: Model, path: Path, *inputs: Any) -> onnx.ModelProto:
    """Check that the exported model is valid and, loaded again, gives identical bits; return it."""
    onward.export_onnx(model, path)
    exported = onnx.load(path)
    onnx.checker.check_model(exported, full_check=True)
    again: Any = onward.load(path)
    assert (again.inputs, again.outputs) == (model.inputs, model.outputs)
    for mine, expected in zip(again.planner(*inputs), model.planner(*inputs), strict=True):
        assert mine.dtype == expected.dtype
        np.testing.assert_array_equal(mine, expected)
    return exported


@pytest.mark.parametrize("name", ["noise suppressor", "text reader", "tagger", "policy", "translator"])
def test_an_exported_onnx_model_gives_identical_bits(tmp_path: Path, name: str) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    model = open_model(onnx.load_from_string(modules.exported(whole.module(), inputs)))
    assert_exports(model, tmp_path / "m.onnx", *inputs.values())


@pytest.mark.parametrize("seed", range(20))
def test_an_exported_random_model_gives_identical_bits(tmp_path: Path, seed: int) -> None:
    module, inputs = modules.random_module(seed)
    model = open_model(onnx.load_from_string(modules.exported(module, inputs)))
    assert_exports(model, tmp_path / "m.onnx", *inputs.values())


def test_nodes_keep_their_names_and_operators(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["product"], "first"),
        helper.make_node("Relu", ["product"], ["y"], "second"),
    ]
    proto = model_of(nodes, {"x": normal(2, 3)}, ["y"], {"W": normal(3, 4)})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 4]))
    model = open_model(proto)
    exported = assert_exports(model, tmp_path / "m.onnx", normal(2, 3))
    assert [(node.name, node.op_type) for node in exported.graph.node] == [
        ("first", "MatMul"),
        ("second", "Relu"),
    ]
    assert [tensor.name for tensor in exported.graph.initializer] == ["W"]


def body(name: str, offset: str) -> onnx.GraphProto:
    """The body of an If that uses values from around it, under names that both bodies share."""
    nodes = [helper.make_node("Mul", ["x", "W"], ["z"]), helper.make_node("Add", ["z", offset], ["result"])]
    outputs = [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)]
    return helper.make_graph(nodes, name, [], outputs)


def test_bodies_use_the_values_and_the_constants_around_them(tmp_path: Path) -> None:
    node = helper.make_node("If", ["c"], ["y"], then_branch=body("then", "x"), else_branch=body("else", "W"))
    feeds = {"c": np.array(True), "x": normal(2, 3)}
    nodes = [helper.make_node("Identity", ["c0"], ["c"]), node]
    proto = model_of(nodes, {"c0": feeds["c"], "x": feeds["x"]}, ["y"], {"W": normal(3)})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3]))
    for condition in (True, False):
        exported = assert_exports(open_model(proto), tmp_path / "m.onnx", np.array(condition), feeds["x"])
        assert sum(len(a.g.initializer) for node in exported.graph.node for a in node.attribute) == 0


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("given", ["", "lengths", "states", "both"])
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM", "projection"])
def test_recurrent_nodes_are_exported_with_any_inputs(
    tmp_path: Path, cell: str, given: str, reverse: bool
) -> None:
    T, B = 7, 5
    layer: Any = (
        onward.LSTM(3, 6, proj_size=2, rng=0)
        if cell == "projection"
        else getattr(onward, cell)(3, 6, num_layers=1 if reverse else 2, bidirectional=not reverse, rng=0)
    )
    graph = Graph()
    x = graph.add_input("x", np.float32, ("T", "B", 3))
    lengths = graph.add_input("lengths", np.int64, ("B",))
    states = [
        graph.add_input(name, np.float32, (shape[0], "B", shape[2]))
        for name, shape in zip(layer.state_names, layer.state_shapes(B), strict=True)
    ]
    inputs = [x, lengths if given in ("lengths", "both") else ""]
    inputs += states if given in ("states", "both") else []
    graph.outputs = graph.add_all(
        "Recurrent", inputs, 1 + len(states), name="rnn", cell=layer.cell, reverse=reverse
    )
    graph.declared_outputs = tuple(Input(f"out_{n}", np.dtype(np.float32)) for n in range(1 + len(states)))
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in layer.state_shapes(B)]
    feeds = [normal(T, B, 3), np.array([7, 0, 3, 1, 6]), *arrays]
    assert_exports(Model(graph), tmp_path / "m.onnx", *feeds)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_steps_are_exported_for_any_number_of_rows(tmp_path: Path, cell: str, rows: int) -> None:
    layer: Any = getattr(onward, cell)(3, 6, rng=0)
    graph, count = Graph(), len(layer.state_names)
    inputs = [graph.add_input("x", np.float32, ("B", 3))]
    inputs += [graph.add_input(name, np.float32, ("B", 6)) for name in layer.state_names]
    graph.outputs = graph.add_all("Step", inputs, count, name="cell", cell=layer.cell)
    graph.declared_outputs = tuple(Input(f"out_{n}", np.dtype(np.float32)) for n in range(count))
    assert_exports(Model(graph), tmp_path / "m.onnx", normal(rows, 3), *[normal(rows, 6)] * count)


@pytest.mark.parametrize("dtype", ["object", "float16", "bfloat16", "int4", "uint2", "float8_e4m3fn"])
def test_constants_of_every_dtype_are_exported(tmp_path: Path, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.array([[1, 0, 1], [0, 0, 1]])
    array = numbers.astype(getattr(ml_dtypes, dtype, dtype))
    if dtype == "object":
        array = np.array([["a", "", "é"]], object)
    graph = Graph(opset=25)
    graph.add_input("x", np.float32, ())
    graph.outputs = (graph.add("Transpose", graph.add_constant(array, "c"), perm=[1, 0]),)
    graph.declared_outputs = (Input("y", array.dtype),)
    onward.export_onnx(Model(graph), tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    again: Any = onward.load(tmp_path / "m.onnx")
    restored = again.graph.constants["c"]
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)


def test_defaults_remain_optional(tmp_path: Path) -> None:
    graph = Graph()
    x, a = graph.add_input("x", np.float32, (3,)), graph.add_input("a", np.float32, ())
    graph.add_constant(np.array(2, np.float32), "a")
    graph.outputs = (graph.add("Mul", x, a),)
    graph.declared_outputs = (Input("y", np.dtype(np.float32), (3,)),)
    onward.export_onnx(Model(graph), tmp_path / "m.onnx")
    again: Any = onward.load(tmp_path / "m.onnx")
    x = normal(3)
    np.testing.assert_array_equal(again._variant(frozenset("a"))(x, np.array(5, np.float32))[0], 5 * x)
    np.testing.assert_array_equal(again.planner(x)[0], 2 * x)


def test_an_output_that_is_an_input_or_a_constant_is_copied(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (3,))
    graph.outputs = (x, graph.add_constant(normal(2), "c"))
    graph.declared_outputs = (Input("y", np.dtype(np.float32)), Input("z", np.dtype(np.float32)))
    assert_exports(Model(graph), tmp_path / "m.onnx", normal(3))


def test_a_python_function_cannot_be_exported(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (3,))
    graph.outputs = (graph.add("Python", x, name="mine", function=np.tanh),)
    with pytest.raises(ArgumentError, match=r"node mine \(Python\) cannot be exported as ONNX"):
        onward.export_onnx(Model(graph), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())

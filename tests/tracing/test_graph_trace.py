"""Traces of whole models record every recurrent node, and any intermediate value, with the bits of a call."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.page import embedded, floats
from support.sequence_graphs import RandomGraph, detector, normal

import onward
from onward import errors
from onward.graph import Graph, Input, Model
from onward.layers.recurrent import Recurrent

RNG = np.random.default_rng(0)


def recurrent_graph(layer: Recurrent[Any], **attributes: Any) -> Model:
    """A graph of x (time, batch, I) with one recurrent node between elementwise nodes."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", layer.input_size))
    scaled = graph.add("Tanh", x, name="scale", output="scaled")
    outputs = 1 + len(layer.state_names)
    y = graph.add_all("Recurrent", (scaled, ""), outputs, cell=layer.cell, name="encoder/rnn", **attributes)
    graph.outputs = (graph.add("Exp", y[0], name="head"), *y[1:])
    return Model(graph)


@pytest.mark.parametrize("cell", [onward.RNN, onward.GRU, onward.LSTM])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_record_of_a_node_is_that_of_its_layer(cell: Any, reverse: bool) -> None:
    layer = cell(5, 7, num_layers=2, bidirectional=not reverse, rng=1)
    x = normal(RNG, 6, 3, 5)
    trace = recurrent_graph(layer, reverse=reverse).trace(x, preactivations=True)
    ordered = np.tanh(x)[::-1] if reverse else np.tanh(x)
    expected = layer.trace(trace["scaled"] if "scaled" in trace else ordered, preactivations=True)
    for name, array in expected.items():
        layer_name, _, own = name.rpartition(".")
        full = f"encoder/rnn.{layer_name}{'_reverse' if reverse else ''}.{own}"
        np.testing.assert_allclose(trace[full], array[::-1] if reverse else array, atol=2e-7)


def test_states_have_the_bits_of_the_call_and_names_may_be_shortened() -> None:
    model, x = recurrent_graph(onward.LSTM(5, 7, rng=1)), normal(RNG, 6, 3, 5)
    y, h, c = model(x)
    trace = model.trace(x, values=["scaled", "head"])
    np.testing.assert_array_equal(trace["h"][-1], h[0])
    np.testing.assert_array_equal(trace["rnn.l0.c"][-1], c[0])
    np.testing.assert_array_equal(trace["head"], y)
    np.testing.assert_array_equal(trace.y, y)
    np.testing.assert_allclose(trace["scaled"], np.tanh(x), atol=2e-7)
    assert list(trace.layers) == ["encoder/rnn.l0"]
    assert trace["f"].shape == (6, 3, 7)


def test_a_value_alone_needs_no_recurrent_node() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (2, 3))
    graph.outputs = (graph.add("Exp", graph.add("Neg", x, output="negative"), output="y"),)
    model, array = Model(graph), normal(RNG, 2, 3)
    np.testing.assert_array_equal(model.trace(array, values=["negative"])["negative"], -array)
    with pytest.raises(errors.ArgumentError, match="no recurrent layer to trace: name intermediate values"):
        model.trace(array)
    with pytest.raises(errors.ArgumentError, match="no value 'negativ'; names like it are negative"):
        model.trace(array, values=["negativ"])


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b.c", "../up", "é"])
def test_values_of_any_name_are_saved(tmp_path: Path, name: str) -> None:
    graph = Graph()
    x = graph.add_input("input", np.float32, (2, 3))
    graph.outputs = (graph.add("Exp", graph.add("Neg", x, output=name), output="y"),)
    trace = Model(graph).trace(normal(RNG, 2, 3), values=[name])
    trace.save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz") as saved:
        np.testing.assert_array_equal(saved[name], trace[name])


def test_nodes_of_the_same_name_have_records_of_their_own() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 4))
    for _ in range(2):
        layer = onward.GRU(4, 4, rng=len(graph.nodes))
        x = graph.add_all("Recurrent", (x, ""), 2, cell=layer.cell, name="cell")[0]
    graph.outputs = (x,)
    assert list(Model(graph).trace(normal(RNG, 3, 2, 4)).layers) == ["cell.l0", "cell_2.l0"]


def test_directions_of_a_node_under_the_names_of_two_nodes() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 4))
    layers = onward.GRU(4, 4, rng=0), onward.GRU(4, 4, bidirectional=True, rng=1)
    for number, layer in enumerate(layers):
        x = graph.add_all("Recurrent", (x, ""), 2, cell=layer.cell, name=f"GRU_70{number}")[0]
    graph.outputs = (x,)
    trace = Model(graph).trace(normal(RNG, 3, 2, 4))
    assert list(trace.layers) == ["GRU.l0", "GRU_2.l0", "GRU_2.l0_reverse"]
    np.testing.assert_array_equal(trace.y[..., 4:], trace["GRU_2.l0_reverse.h"])


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_record_the_outputs_of_their_layers(seed: int) -> None:
    model, x = RandomGraph(seed).build(5), normal(RNG, 2, 30, 5)
    layers = {name.rpartition(".")[0] for name in model.trace(x).layers}
    trace = model.trace(x, values=sorted(layers))
    for layer in layers:
        top = max(name for name in trace.layers if name.startswith(f"{layer}."))
        np.testing.assert_array_equal(trace[f"{top}.h"], trace[layer])


def test_strided_layers_are_drawn_with_their_own_input(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trace = detector(8).trace(normal(RNG, 2, 20, 8))
    assert len(trace.x) == 20
    assert len(trace["h"]) == 10
    titles = [axes.get_title(loc="left") for axes in trace.plot(row=1).axes]
    assert any("input of the layer" in title for title in titles)
    assert trace.summary()["Recurrent_3.l0"].saturated.keys() == {"r", "z", "n"}
    trace.save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz") as saved:
        np.testing.assert_array_equal(saved["Recurrent_3.l0.h"], trace["h"])


def test_answers_of_a_graph_without_steps_in_its_output_are_those_of_prefixes() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    steps = graph.add("Transpose", x, perm=[1, 0, 2])
    layer = onward.GRU(4, 5, bidirectional=True, rng=0)
    y = graph.add_all("Recurrent", (steps, ""), 2, cell=layer.cell)[0]
    graph.outputs = (graph.add("ReduceMax", y, graph.add_constant(np.array([0])), keepdims=0),)
    model, array = Model(graph), normal(RNG, 3, 6, 4)
    answers = model.trace(array).answers(1)
    np.testing.assert_array_equal(answers, np.stack([model(array[1:2, :t])[0] for t in range(1, 7)]))


def strided(has_steps: bool) -> Model:
    """A convolution with stride 2, a GRU over its steps, and its outputs or their maximum."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    channels = graph.add("Transpose", x, perm=[0, 2, 1])
    filters = graph.add_constant(normal(RNG, 3, 4, 3))
    steps = graph.add("Transpose", graph.add("Conv", channels, filters, strides=[2]), perm=[2, 0, 1])
    y = graph.add_all("Recurrent", (steps, ""), 2, cell=onward.GRU(3, 5, rng=0).cell, name="rnn")[0]
    maximum = graph.add("ReduceMax", y, graph.add_constant(np.array([0])), keepdims=0)
    graph.outputs = (graph.add("Transpose", y, perm=[1, 0, 2]) if has_steps else maximum,)
    return Model(graph)


def test_answers_run_over_the_steps_of_the_input_where_the_layers_have_fewer() -> None:
    model, x = strided(has_steps=False), normal(RNG, 2, 12, 4)
    answers = model.trace(x).answers(1)
    assert len(answers) == 12 and np.isnan(answers[:2]).all()  # too short for a window
    np.testing.assert_array_equal(answers[2:], [model(x[1:, :t])[0] for t in range(3, 13)])


@pytest.mark.parametrize("has_steps", [False, True])
def test_pages_of_strided_layers_show_their_input_and_the_output_only_at_its_steps(has_steps: bool) -> None:
    model, x = strided(has_steps), normal(RNG, 2, 12, 4)
    trace, classes = model.trace(x), list("abcde")
    entry = embedded(trace.explore(1, classes=classes))
    record, (layer,) = entry["record"], trace.recorded.values()
    assert layer.x.shape == (5, 2, 3) and entry["features"] == 3
    np.testing.assert_array_equal(floats(record["x"]), layer.x[:, 1].ravel())
    expected = model(x)[1] if has_steps else trace["h"][:, 1]  # without steps, no output belongs to these
    np.testing.assert_array_equal(floats(record["outputs"]["data"]), expected.ravel())
    assert entry.get("classes") == (classes if has_steps else None)


def test_the_axes_of_an_output_that_no_layer_shows_are_not_guessed() -> None:
    graph = Graph()
    x, other = (graph.add_input(name, np.float32, ("batch", "time", 4)) for name in "xy")
    both = graph.add("Transpose", graph.add("Add", x, other), perm=[1, 0, 2])
    y = graph.add_all("Recurrent", (both, ""), 2, cell=onward.GRU(4, 5, rng=0).cell, name="rnn")[0]
    graph.outputs = (graph.add("Transpose", y, perm=[1, 0, 2]),)
    trace = Model(graph).trace(normal(RNG, 3, 3, 4), normal(RNG, 3, 3, 4))  # as many rows as steps
    with pytest.raises(errors.ArgumentError, match="which axis of the output is time"):
        trace.answers()
    np.testing.assert_array_equal(
        floats(embedded(trace.explore())["record"]["outputs"]["data"]), trace["h"][:, 0].ravel()
    )


def test_a_page_needs_a_recurrent_layer() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Exp", graph.add_input("x", np.float32, (2, 3)), output="y"),)
    with pytest.raises(errors.ArgumentError, match="no recurrent layer to show"):
        Model(graph).trace(normal(RNG, 2, 3), values=["y"]).explore()


def test_omitted_states_start_at_zeros(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(5, 7, 2, rng=0), onward.Last(), onward.Linear(7, 3, rng=1))
    net.export_onnx(tmp_path / "net.onnx")
    model, x = onward.load(tmp_path / "net.onnx"), normal(RNG, 6, 2, 5)
    trace, expected = model.trace(x), net.trace(x)
    for own, other in zip(trace.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(trace.answers(1), expected.answers(1))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_masked_steps_repeat_the_states_of_those_that_ran(bidirectional: bool) -> None:
    graph, layer = Graph(), onward.LSTM(4, 5, bidirectional=bidirectional, rng=0)
    x = graph.add_input("x", np.float32, ("time", "batch", 4))
    mask = graph.add_input("mask", np.bool_, ("time", "batch"))
    y = graph.add_all("MaskedRecurrent", (x, mask), 3, cell=layer.cell, name="rnn")
    graph.outputs = (y[0], *y[1:])
    array, valid = normal(RNG, 9, 3, 4), RNG.random((9, 3)) < 0.6
    model = Model(graph)
    whole, _, c = model(array, valid)
    trace = model.trace(array, valid)
    np.testing.assert_array_equal(trace["rnn.l0.h"], whole[..., :5])
    if bidirectional:
        np.testing.assert_array_equal(trace["rnn.l0_reverse.h"], whole[..., 5:])
    np.testing.assert_array_equal(trace["rnn.l0.c"][-1], c[0])
    row = layer.trace(array[valid[:, 1], 1:2])  # the second row alone, without the masked steps
    np.testing.assert_array_equal(trace["rnn.l0.f"][valid[:, 1], 1], row["l0.f"][:, 0])


def test_steps_that_a_reshape_joins_stream() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 6))
    pairs = graph.add("Reshape", x, graph.add_constant(np.array([0, -1, 3])))  # two steps for each one
    steps = graph.add("Transpose", pairs, perm=[1, 0, 2])
    y = graph.add_all("Recurrent", (steps, ""), 2, cell=onward.GRU(3, 4, rng=0).cell)[0]
    graph.outputs = (graph.add("Transpose", graph.add("Exp", y), perm=[1, 0, 2]),)
    model, array = Model(graph), normal(RNG, 2, 7, 6)
    stream, pool = model.stream(2), model.pool(2)
    y = np.concatenate([stream(array[:, :3]), stream(array[:, 3:4]), stream(array[:, 4:])], 1)
    np.testing.assert_array_equal(y, model(array))
    pooled = [pool.step(ids, array[:, t]) for ids in [pool.open(2)] for t in range(7)]
    np.testing.assert_array_equal(np.concatenate([np.stack(rows) for rows in pooled], 1), model(array))


def looped(layer: Recurrent[Any], count: str) -> Model:
    """A Loop over a GRU that takes its last output as its input, `n` times or while the output is small."""
    body = Graph()
    step = body.add_input("step", np.int64, ())
    condition = body.add_input("condition", bool, ())
    h = body.add_input("h", np.float32, (1, "batch", 4))
    y, h_n = body.add_all("Recurrent", (h, "", h), 2, cell=layer.cell, name="rnn")
    small = body.add("Less", body.add("ReduceMax", y, keepdims=0), body.add_constant(np.float32(0.3)))
    body.outputs = (small if count == "while" else condition, h_n, y)
    body.declared_outputs = (
        *(Input("", np.dtype(bool), ()), Input("", np.dtype(np.float32), (1, "batch", 4))),
        Input("", np.dtype(np.float32), (1, "batch", 4)),
    )
    assert step
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "batch", 4))
    n = graph.add(
        "Cast", graph.add("ReduceSum", graph.add_input("n", np.float32, (1,)), keepdims=0), to="int64"
    )
    limit = n if count == "for" else ""
    graph.outputs = graph.add_all("Loop", (limit, "", x), 2, body=body, name="loop")
    return Model(graph)


@pytest.mark.parametrize("count", [0, 1, 70])
@pytest.mark.parametrize("kind", ["for", "while"])
def test_a_node_in_a_loop_of_unknown_length_is_recorded_in_each_iteration(kind: str, count: int) -> None:
    layer = onward.GRU(4, 4, rng=3)
    layer.load_state_dict({name: 2 * array for name, array in layer.state_dict().items()})
    x = np.abs(normal(RNG, 1, 3, 4)) / 10
    model = looped(layer, kind)
    _, expected = model(x, np.array([count], np.float32))
    trace = model.trace(x, np.array([count], np.float32), values=["loop"])
    recorded = [name for name in trace if name.endswith(".h")]
    assert len(recorded) == len(expected) and (kind == "while" or len(expected) == count)
    h = x
    for name, y in zip(recorded, expected, strict=True):
        own = layer.trace(h, h)
        np.testing.assert_array_equal(trace[name], own["l0.h"])
        np.testing.assert_array_equal(trace[name.removesuffix("h") + "z"], own["l0.z"])
        np.testing.assert_array_equal(trace[name], y)
        h = y


@pytest.mark.parametrize("sign", [1, -1])
def test_a_node_in_the_branch_that_the_values_choose_is_recorded(sign: int) -> None:
    layers = {name: onward.GRU(4, 4, rng=seed) for seed, name in enumerate(("then", "else"))}
    branches = {}
    for name, layer in layers.items():
        body = Graph()
        x = body.add_input("x", np.float32, ("time", "batch", 4))
        body.outputs = body.add_all("Recurrent", (x, ""), 2, cell=layer.cell, name=name)[:1]
        branches[f"{name}_branch"] = body
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", 4))
    positive = graph.add("Greater", graph.add("ReduceMax", x, keepdims=0), graph.add_constant(np.float32(0)))
    graph.outputs = (graph.add("If", positive, x, name="choice", **branches),)
    x = sign * np.abs(normal(RNG, 6, 3, 4))
    trace = Model(graph).trace(x)
    name = "then" if sign > 0 else "else"
    assert {key.split(".")[0] for key in trace} == {name}
    np.testing.assert_array_equal(trace[f"{name}.l0.r"], layers[name].trace(x)["l0.r"])


@pytest.mark.parametrize("num_layers", [1, 3])
def test_exported_layers_have_other_names_in_the_file(num_layers: int, tmp_path: Path) -> None:
    recurrent = onward.LSTM(5, 7, num_layers, bidirectional=True, rng=0)
    net = onward.Sequential(onward.Linear(5, 5, rng=1), recurrent, onward.GRU(14, 6, rng=2))
    net.export_onnx(tmp_path / "net.onnx")
    x = normal(RNG, 6, 2, 5)
    expected = net.trace(x)
    for _ in range(2):  # also after loading and exporting once more
        model = onward.load(tmp_path / "net.onnx")
        assert list(model.trace(x)) == list(expected)
        model.export_onnx(tmp_path / "net.onnx")


def test_output_that_the_picture_calls_a_feature(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 3, rng=1))
    net.export_onnx(tmp_path / "net.onnx")
    axes = onward.load(tmp_path / "net.onnx").trace(normal(RNG, 6, 1, 5)).plot().axes
    labels = {each.get_title(loc="left"): each.get_ylabel() for each in axes}
    assert labels["output y after each step"] == "output" and labels["input x"] == "feature"


def test_a_cell_that_is_written_out_is_traced_as_a_layer() -> None:
    graph, H = Graph(), 7
    x, h, c = (graph.add_input(name, np.float32, (3, size)) for name, size in (("x", 5), ("h", H), ("c", H)))
    weights = [graph.add_constant(normal(RNG, size, 4 * H)) for size in (5, H)]
    products = [graph.add("MatMul", *pair) for pair in zip((x, h), weights, strict=True)]
    i, f, g, o = graph.add_all("Split", (graph.add("Add", *products),), 4, axis=1, num_outputs=4)
    i, f, o = (graph.add("Sigmoid", gate) for gate in (i, f, o))
    after = graph.add("Add", graph.add("Mul", f, c), graph.add("Mul", i, graph.add("Tanh", g)))
    graph.outputs = (graph.add("Mul", o, graph.add("Tanh", after)), after)
    model, inputs = Model(graph), [normal(RNG, 3, size) for size in (5, H, H)]
    trace = model.trace(*inputs)
    (layer,) = trace.layers
    for name, expected in zip("hc", model(*inputs), strict=True):
        np.testing.assert_array_equal(trace[f"{layer}.{name}"][0], expected)

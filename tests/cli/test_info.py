"""`onward info`: one row per layer for models in every format; `onward models`."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import support
from support import onnx_nodes
from support.cli import invoke, report
from support.sequence_graphs import stepper

import onward
from onward import bundled
from onward.graph import Graph, Input
from onward.model import Model

KERAS = support.DATA / "keras"
ANSWERS = np.load(KERAS / "answers.npz")


def rows(output: str, number: int = 0) -> list[list[str]]:
    """The cells of the rows of a printed table: of layers, or of inputs and outputs."""
    lines = output.split("└")[number].splitlines()
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines if "│" in line]


def test_info_shows_one_row_per_layer() -> None:
    assert rows(invoke("info", "vowels", expect=0).output) == [
        ["0", "LSTM", "(T, B, 48)", "11,904"],
        ["1", "Last", "(B, 48)", "0"],
        ["2", "Linear", "(B, 9)", "441"],
        ["total", "", "", "12,345"],
    ]


def test_json_lists_every_weight() -> None:
    reported = report("info", "vowels")
    parameters = sum(layer["parameters"] for layer in reported["layers"])
    assert reported["parameters"] == 4 * 48 * (12 + 48 + 2) + 9 * 49 == parameters
    assert reported["bytes"] == 4 * reported["parameters"] < reported["file_bytes"]
    assert reported["layers"][0]["weights"][0] == {
        "name": "weight_ih_l0",
        "shape": [192, 12],
        "parameters": 2304,
        "bytes": 9216,
    }
    assert reported["layers"][0]["output_shape"] == ["T", "B", 48]


@pytest.mark.parametrize(("precision", "size"), [("float16", 2), ("int8", 1)])
def test_info_counts_the_bytes_of_a_quantized_model(tmp_path: Path, precision: str, size: int) -> None:
    path = tmp_path / "small.safetensors"
    onward.Sequential(onward.LSTM(12, 32), onward.Linear(32, 9)).quantize(precision).save(path)
    reported, rest = report("info", path), 4 * (2 * 128 + 9)  # biases are float32
    scales = 4 * (2 * 128 + 9) if precision == "int8" else 0
    assert reported["bytes"] == size * (128 * (12 + 32) + 9 * 32) + scales + rest < reported["file_bytes"]
    output = invoke("info", path).output
    assert f"LSTM ({precision})" in output and f"{reported['bytes'] / 1000:,.1f} kB" in output


def test_info_of_a_state_dict_names_the_tensors_that_belong_to_no_layer(state_dict: Path) -> None:
    reported = report("info", state_dict)
    assert [layer["name"] for layer in reported["layers"]] == ["encoder", "head"]
    assert reported["leftover"] == ["scale"] and not reported["connected"]
    output = invoke("info", state_dict).output
    assert ["encoder", "GRU", "(T, B, 4)", "108"] in rows(output)
    assert "Tensors that belong to no layer: scale" in output


def test_info_of_an_onnx_chain_shows_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "vowels.onnx"
    invoke("convert", "vowels", path, expect=0)
    assert report("info", path)["layers"] == report("info", "vowels")["layers"]


def test_info_of_another_onnx_graph_shows_its_nodes(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Mul", ["x", "scale"], ["y"], "scaled")
    x = np.zeros((4, 1, 12), np.float32)
    model = onnx_nodes.model_of([node], {"x": x}, ["y"], {"scale": np.ones(12, np.float32)})
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 12
    onnx.save(model, tmp_path / "m.onnx")
    (layer,) = report("info", tmp_path / "m.onnx")["layers"]
    assert (layer["name"], layer["kind"], layer["output_shape"]) == ("scaled", "Mul", ["?", "?", 12])
    assert [weight["name"] for weight in layer["weights"]] == ["scale"]


def test_info_finds_the_weights_that_a_branch_of_an_onnx_graph_uses(tmp_path: Path) -> None:
    float_, T = onnx.TensorProto.FLOAT, onnx.helper
    y = T.make_tensor_value_info("y", float_, [3])
    scaled = T.make_node("Mul", ["x", "scale"], ["y1"], "scaled")
    plain = T.make_node("Identity", ["x"], ["y2"])
    then = T.make_graph([scaled], "then", [], [T.make_tensor_value_info("y1", float_, [3])])
    other = T.make_graph([plain], "else", [], [T.make_tensor_value_info("y2", float_, [3])])
    branch = T.make_node("If", ["flag"], ["y"], "branch", then_branch=then, else_branch=other)
    inputs = [
        T.make_tensor_value_info("x", float_, [3]),
        T.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []),
    ]
    scale = onnx.numpy_helper.from_array(np.ones(3, np.float32), "scale")
    model = T.make_model(
        T.make_graph([branch], "g", inputs, [y], [scale]), opset_imports=[T.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "m.onnx")
    (layer,) = report("info", tmp_path / "m.onnx")["layers"]
    assert (layer["name"], layer["parameters"]) == ("scaled", 3)


@pytest.mark.parametrize("name", ["cudnn.h5", "old_1.h5", "graph_2.h5", "graph_3.keras", "front_end_3.keras"])
def test_info_of_a_keras_model_has_no_repr_in_a_cell(name: str) -> None:
    result = invoke("info", "--json", KERAS / name, expect=0)
    reported = json.loads(result.stdout)
    assert reported["parameters"] > 0
    printed = rows(invoke("info", KERAS / name, expect=0).output)
    names = [*(layer["name"] for layer in reported["layers"]), "total"]
    named = [row for row in printed if row[0]]
    assert all(name.startswith(row[0].rstrip("…")) for name, row in zip(names, named, strict=True))
    assert not any("=" in cell for row in printed for cell in row)


@pytest.mark.parametrize("name", ["cudnn.h5", "tagger_3.keras"])
def test_output_shapes_of_a_keras_model_are_those_of_a_call(name: str) -> None:
    net = onward.load(KERAS / name)
    assert isinstance(net, onward.graph.Model)
    last = report("info", KERAS / name)["layers"][-1]["output_shape"]
    x = [ANSWERS[key] for key in sorted(ANSWERS) if key.startswith(f"{name}/x")]
    y = net(x if len(x) > 1 else x[0])
    B, T = x[0].shape[:2]
    sizes = {"B": B, "batch": B, "T": T, "time": T}
    assert np.shape(y[-1] if isinstance(y, list) else y) == tuple(sizes.get(n, n) for n in last)


def test_a_keras_warning_is_one_line_without_source_code() -> None:
    result = invoke("info", KERAS / "old_1.h5", expect=0)
    assert result.stderr.startswith("Warning: Keras 1 does not record")
    assert ".py" not in result.stderr


def test_models_lists_everything_that_is_bundled() -> None:
    reported = report("models")
    assert [model["name"] for model in reported["models"]] == list(bundled.models())
    assert {row["name"]: row["steps"] for row in reported["data"]}["japanese_vowels_train"] == 4274
    output = invoke("models", expect=0).output
    for text in ("vowels", "98.9%", "Apache-2.0", "japanese_vowels_test", "shakespeare", "bits per"):
        assert text in output


def test_info_shows_the_states_that_a_stream_feeds_back(tmp_path: Path) -> None:
    path = tmp_path / "stepper.safetensors"
    stepper().save(path)
    assert "state from stateN" in invoke("info", str(path), expect=0).output
    assert report("info", str(path))["carries"] == {"state": "stateN"}


def test_graph_lists_the_steps_of_a_model_with_their_times(tmp_path: Path) -> None:
    onward.Sequential(onward.Linear(3, 4), onward.LSTM(4, 5)).save(tmp_path / "m")
    found = report("info", tmp_path / "m", "--graph", "--length", "7")
    assert found["input_shapes"] == [[7, 1, 3], [1, 1, 5], [1, 1, 5]]
    assert [step["step"].split()[0] for step in found["steps"][:2]] == ["product", "recurrent"]
    assert all(step["microseconds"] > 0 for step in found["steps"])
    assert "recurrent" in invoke("info", tmp_path / "m", "--graph", expect=0).output


def test_info_shows_inputs_outputs_states_and_how_the_model_streams(tmp_path: Path) -> None:
    layers = onward.Conv1d(3, 4, 3), onward.Linear(4, 2)
    assert report("info", "vowels")["inputs"][:2] == [
        {"name": "x", "dtype": "float32", "axes": ["time", "batch", 12], "optional": False},
        {"name": "h0", "dtype": "float32", "axes": [1, "batch", 48], "optional": True},
    ]
    onward.LSTM(3, 4, batch_first=True).export_onnx(tmp_path / "m.onnx")
    found = report("info", tmp_path / "m.onnx")
    assert found["outputs"][0] == {"name": "y", "dtype": "float32", "axes": ["batch", "time", 4]}
    assert found["stream"] == {"time_axis": 1, "latency": 0, "reason": "", "steps": {"x": 1}}
    assert found["layers"][0]["output_shape"] == ["B", "T", 4]
    printed = invoke("info", tmp_path / "m.onnx", expect=0).output
    assert ["input", "h0", "float32", "(1, batch, 4)", "may be omitted"] in rows(printed, 1)
    assert "along axis 1 of its input; its latency is 0 steps" in printed
    graph = Graph()
    added = [graph.add_input(name, np.float32, ("batch", "time", 2)) for name in ("far", "near")]
    for place, name in enumerate(added):
        steps = graph.add("Transpose", name, perm=[1, 0, 2])
        added[place] = graph.add_all("Recurrent", (steps, ""), 2, cell=onward.GRU(2, 3, rng=0).cell)[0]
    graph.outputs = (graph.add("Add", *added),)
    graph.declared_outputs = (Input("y", np.dtype(np.float32)),)
    Model(graph).save(tmp_path / "several")
    assert report("info", tmp_path / "several")["stream"]["steps"] == {"far": 1, "near": 1}
    printed = invoke("info", tmp_path / "several", expect=0).output
    assert "takes 1 of far and 1 of near along axis 1 of its inputs" in printed
    onward.Sequential(*layers[:1]).export_onnx(tmp_path / "conv.onnx")
    assert "There is no stream over time: " in invoke("info", tmp_path / "conv.onnx", expect=0).output


def test_shapes_are_products_of_named_axes(tmp_path: Path) -> None:
    """A size such as 2*time was a question mark."""
    x = np.zeros((2, 3, 5), np.float32)
    node = onnx.helper.make_node("ConvTranspose", ["x", "W"], ["y"], "doubled", strides=[2])
    model = onnx_nodes.model_of([node], {"x": x}, ["y"], {"W": np.ones((3, 4, 2), np.float32)})
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "time"
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, tmp_path / "m.onnx")
    assert report("info", tmp_path / "m.onnx")["layers"][0]["output_shape"][1:] == [4, "2*time"]


def test_an_input_that_a_call_passes_is_no_state(tmp_path: Path) -> None:
    """The advice was carry=wav from linear."""
    graph = Graph()
    wav = graph.add_input("wav", np.float32, ("batch", 4))
    graph.outputs = (graph.add("MatMul", wav, graph.add_constant(np.eye(4, dtype=np.float32))),)
    graph.declared_outputs = (Input("linear", np.dtype(np.float32), ("batch", 4)),)
    Model(graph).save(tmp_path / "m.safetensors")
    assert "carry=" not in report("info", tmp_path / "m.safetensors")["stream"]["reason"]

"""`onward run` on models of every kind: a call of the command gives the outputs of a call of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import support
from support.cli import invoke, message, report
from support.onnx_nodes import normal

import onward
from onward.graph import Graph, Input
from onward.model import Model
from onward.recipes.random_inputs import example_inputs

KERAS = support.DATA / "keras"
ANSWERS = np.load(KERAS / "answers.npz")
MODEL_FILES = [
    *sorted((support.DATA / "tflite").glob("*.tflite")),
    *sorted((support.DATA / "exported_program").glob("*.pt2")),
    *(KERAS / name for name in sorted({key.partition("/")[0] for key in ANSWERS}) if "weights" not in name),
]
FLOAT = np.dtype(np.float32)


def flat(results: Any) -> list[Any]:
    """The arrays of nested results, in order."""
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, list | tuple):
        return [array for result in results for array in flat(result)]
    return [np.asarray(results)]


def run(model: Path, inputs: dict[str, Any], folder: Path, suffix: str = ".npz") -> list[Any]:
    """The outputs of `onward run`, in order."""
    source = folder / f"inputs{suffix}"
    if suffix == ".npz":
        np.savez(source, **inputs)
    else:
        np.save(source, *inputs.values())
    invoke("run", model, source, "--out", folder / "outputs.npz", expect=0)
    with np.load(folder / "outputs.npz") as written:
        return [written[name] for name in written if name != "lengths"]


@pytest.mark.filterwarnings("ignore::onward.errors.KerasWarning")
@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_a_run_gives_the_outputs_of_a_call(path: Path, tmp_path: Path) -> None:
    model: Any = onward.load(path)
    names = sorted(key for key in ANSWERS if key.startswith(f"{path.name}/x"))
    if not isinstance(model, Model):  # layers, whose arrays are (T, B, F)
        np.testing.assert_allclose(
            run(path, {"x": ANSWERS[names[0]]}, tmp_path)[0], ANSWERS[f"{path.name}/y0"], atol=2e-6
        )
        return
    inputs: Any = dict(zip(model.inputs, map(ANSWERS.get, names), strict=False)) or example_inputs([model])
    expected = flat(model(**inputs))
    for suffix in (".npz", *([".npy"] if len(inputs) == 1 else [])):
        found = run(path, inputs, tmp_path, suffix)
        assert len(found) == len(expected)
        for y, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(y, other)


def channels_first() -> Model:
    """A GRU over (B, C, T)."""
    graph = Graph()
    x = graph.add("Transpose", graph.add_input("wave", FLOAT, ("B", 3, "T")), perm=[2, 0, 1])
    y, *_ = graph.add_all("Recurrent", (x,), 2, cell=onward.GRU(3, 5, rng=0).cell, reverse=True)
    return ending(graph, graph.add("Transpose", y, perm=[1, 2, 0]))


def convolution(batch: int | str) -> Model:
    """A convolution over (B, C, T), in which nothing shows which axis is time."""
    graph = Graph()
    x = graph.add_input("wave", FLOAT, (batch, 3, "T"))
    return ending(graph, graph.add("Conv", x, graph.add_constant(normal(5, 3, 4)), pads=[2, 1]))


def image_classifier() -> Model:
    graph = Graph()
    x = graph.add_input("image", FLOAT, ("batch", 2, 8, 6))
    x = graph.add("Relu", graph.add("Conv", x, graph.add_constant(normal(4, 2, 3, 3))))
    x = graph.add("ReduceMean", x, graph.add_constant(np.array([2, 3])), keepdims=0)
    return ending(graph, graph.add("Softmax", graph.add("MatMul", x, graph.add_constant(normal(4, 3)))))


def tokens() -> Model:
    graph = Graph()
    x = graph.add_input("ids", np.int64, ("batch", "time"))
    x = graph.add("Gather", graph.add_constant(normal(9, 4)), x)
    return ending(graph, graph.add("ReduceMax", x, graph.add_constant(np.array([1])), keepdims=0))


def time_and_batch_without_layers() -> Model:
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("time", "batch", 3))
    return ending(graph, graph.add("CumSum", graph.add("Mul", x, x), graph.add_constant(np.array(0))))


def several_outputs() -> Model:
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("B", "T", 3))
    graph.outputs = (graph.add("Relu", x), graph.add("ArgMax", x, axis=2, keepdims=0))
    graph.declared_outputs = (Input("positive"), Input("best"))
    return Model(graph)


def ending(graph: Graph, y: str) -> Model:
    graph.outputs, graph.declared_outputs = (y,), (Input("y", FLOAT),)
    return Model(graph)


GENERATED: dict[str, tuple[Callable[[], Model], tuple[int, ...]]] = {
    "channels_first": (channels_first, (6, 3, 10)),
    "convolution": (lambda: convolution("B"), (6, 3, 10)),
    "convolution_of_one_row": (lambda: convolution(1), (6, 3, 10)),
    "image_classifier": (image_classifier, (5, 2, 8, 6)),
    "tokens": (tokens, (6, 10)),
    "time_and_batch": (time_and_batch_without_layers, (6, 10, 3)),
    "several_outputs": (several_outputs, (6, 10, 3)),
}


@pytest.mark.parametrize("name", GENERATED)
def test_arrays_have_the_axes_that_a_model_declares(name: str, tmp_path: Path) -> None:
    build, shape = GENERATED[name]
    model, path = build(), tmp_path / "model.safetensors"
    model.save(path)
    x = abs(normal(*shape))
    x = (3 * x).astype(np.int64) % 9 if name == "tokens" else x
    rows = [x[:1], *(x[i : i + 1] for i in range(1, len(x)))] if name.endswith("one_row") else [x]
    expected = [np.concatenate(ys) for ys in zip(*(flat(model(row)) for row in rows), strict=True)]
    given = x.swapaxes(0, 1) if name == "time_and_batch" else x  # sequences are (N, T, F)
    expected = [y.swapaxes(0, 1) for y in expected] if name == "time_and_batch" else expected
    for suffix in (".npy", ".npz"):
        for y, other in zip(run(path, {"x": given}, tmp_path, suffix), expected, strict=True):
            np.testing.assert_array_equal(y, other)


def test_an_image_of_another_size_is_refused_in_terms_of_the_file(tmp_path: Path) -> None:
    """It was read as steps of features, and the advice was about columns."""
    image_classifier().save(tmp_path / "model.safetensors")
    np.save(tmp_path / "wrong.npy", normal(5, 2, 9, 7))
    words = message(invoke("run", tmp_path / "model.safetensors", tmp_path / "wrong.npy", expect=1))
    assert words.endswith("wrong.npy: x has shape (5, 2, 9, 7), but the model takes image (batch, 2, 8, 6)")


@pytest.mark.parametrize("name", ["channels_first", "convolution"])
def test_rows_of_a_table_are_turned_to_the_axes_of_the_model(name: str, tmp_path: Path) -> None:
    """(N, C, T) was refused, or fed in the wrong order."""
    model: Any = GENERATED[name][0]()
    model.save(tmp_path / "model.safetensors")
    x = normal(2, 10, 3)
    lines = [f"{n},{','.join(map(repr, map(float, step)))}" for n, rows in enumerate(x) for step in rows]
    (tmp_path / "x.csv").write_text("\n".join(["sequence,a,b,c", *lines]))
    invoke("run", tmp_path / "model.safetensors", tmp_path / "x.csv", "--out", tmp_path / "y.npy", expect=0)
    expected = model(x.swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    invoke("run", tmp_path / "model.safetensors", tmp_path / "x.csv", "--out", tmp_path / "y.csv", expect=0)
    header, *written = (tmp_path / "y.csv").read_text().splitlines()
    assert header == "sequence,step,output_0,output_1,output_2,output_3,output_4"
    values = np.array([list(map(float, line.split(",")[2:])) for line in written])
    np.testing.assert_allclose(values, expected.reshape(-1, 5), rtol=1e-6)


def test_images_are_classified(tmp_path: Path) -> None:
    model: Any = image_classifier()
    model.save(tmp_path / "model.safetensors")
    x = normal(5, 2, 8, 6)
    labels = model(x).argmax(axis=1)
    np.savez(tmp_path / "x.npz", x=x, y=labels)
    found = report("run", tmp_path / "model.safetensors", tmp_path / "x.npz")
    assert found["accuracy"] == 1.0 and found["predicted"] == labels.tolist()


def test_a_classifier_with_a_loop_runs_on_sequences(tmp_path: Path) -> None:
    """It was refused with "node ... cannot be converted to layers"."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, T, 3] x) => (float[N, 3] y)
      <int64 n = {3}, bool more = {1}, int64[1] axis = {1}> {
      mean = ReduceSum <keepdims = 0> (x, axis)
      y = Loop (n, more, mean) <body = b (int64 i, bool c, float[N, 3] s) => (bool c2, float[N, 3] s2) {
        c2 = Identity (c)
        s2 = Tanh (s)
      }>
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    x = normal(4, 7, 3)
    expected = np.tanh(np.tanh(np.tanh(x.sum(axis=1))))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", {"x": x}, tmp_path)[0], expected, atol=1e-6)
    lines = [f"{n},{','.join(map(repr, map(float, step)))}" for n, rows in enumerate(x) for step in rows]
    (tmp_path / "x.csv").write_text("\n".join(["sequence,a,b,c", *lines]))
    invoke("run", tmp_path / "m.onnx", tmp_path / "x.csv", "--out", tmp_path / "y.npy", expect=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)


def test_rows_of_a_fixed_batch_and_further_calls_are_joined(tmp_path: Path) -> None:
    graph = Graph()
    x, scale = graph.add_input("x", FLOAT, (1, 4)), graph.add_input("scale", FLOAT, ())
    ending(graph, graph.add("Mul", x, scale)).save(tmp_path / "model.safetensors")
    a = normal(6, 4)
    scale = np.float32(3)
    (y,) = run(tmp_path / "model.safetensors", {"x": a, "scale": scale}, tmp_path)
    np.testing.assert_array_equal(y, 3 * a)
    (y,) = run(tmp_path / "model.safetensors", {"x": a[:, None], "scale": scale}, tmp_path)
    np.testing.assert_array_equal(y, 3 * a[:, None])
    np.savez(tmp_path / "bad.npz", x=a, scale=np.ones(4, np.float32))
    failed = invoke("run", tmp_path / "model.safetensors", tmp_path / "bad.npz", expect=1)
    assert "different numbers of rows: x 6, scale 4" in message(failed)


def test_a_state_with_a_default_value_starts_at_it() -> None:
    """A model of TensorFlow Lite in integers started at 0 instead of the zero point."""
    model: Any = onward.load(support.DATA / "tflite" / "mww_vad.tflite")
    (x,) = example_inputs([model]).values()
    np.testing.assert_array_equal(model.of_sequences(x), model(x))

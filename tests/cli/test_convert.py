"""`onward convert`: from every format to every other, without losing anything silently; `onward quantize`."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import support
from onnx import helper
from support import onnx_nodes
from support.cli import invoke, message, report
from support.onnx_nodes import model_of

import onward
from onward import bundled
from onward.graph import Graph, Input
from onward.model import Model
from onward.recipes import text
from onward.tables import data, model_files
from onward.tables.layout import Saved, Selection

VOWELS = bundled.models()["vowels"]
TEST = bundled.datasets()["japanese_vowels_test"]
FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_round_trip_conversion_changes_nothing(tmp_path: Path, suffix: str) -> None:
    assert invoke("convert", "vowels", tmp_path / f"a{suffix}").exit_code == 0
    assert invoke("convert", tmp_path / f"a{suffix}", tmp_path / "b.safetensors").exit_code == 0
    onward.load(VOWELS).save(tmp_path / "own.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()


def source_of(kind: str, folder: Path) -> Path:
    """A model in each format that can be read."""
    path, data, gru = folder / f"source.{kind}", support.DATA, onward.GRU(3, 4, rng=0)
    match kind:
        case "safetensors" | "onnx":
            net = onward.Sequential(gru, onward.Last(), onward.Linear(4, 2, rng=1))
            net.save(path) if kind == "safetensors" else onward.export_onnx(net, path)
        case "bin":  # a state dict in safetensors
            path.write_bytes(safetensors.numpy.save(gru.state_dict()))
        case "npz":
            np.savez(path, **gru.state_dict())
        case "h5":
            shutil.copy(data / "keras" / "cudnn.h5", path)
        case "pt":
            shutil.copy(data / "torch" / "weights.pt", path)
        case "keras":  # without the mask, which no other format has
            with zipfile.ZipFile(data / "keras" / "tagger_3.keras") as old, zipfile.ZipFile(path, "w") as new:
                for name in old.namelist():
                    content = old.read(name)
                    new.writestr(name, content.replace(b'"mask_zero": true', b'"mask_zero": false'))
    return path


def output_of(path: Path) -> Any:
    """The output of a model, or of the first layer of a state dict, for a fixed input."""
    rng, net = np.random.default_rng(0), onward.load(path)
    if isinstance(net, dict):
        net = next(iter(net.values()))
    model: Any = net.layers() if isinstance(net, Model) else net
    if "Embedding" in repr(model):
        return model(rng.integers(0, 5, (2, 6)))
    y = model(rng.normal(0, 1, (2, 6, model.step_shape[0])))
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("target", ["safetensors", "onnx"])
@pytest.mark.parametrize("kind", ["safetensors", "onnx", "bin", "npz", "h5", "keras", "pt"])
def test_every_format_converts_to_every_other(tmp_path: Path, kind: str, target: str) -> None:
    source, result = source_of(kind, tmp_path), tmp_path / f"target.{target}"
    done = invoke("convert", source, result)
    if (kind, target) == ("pt", "onnx"):  # a state dict of several layers
        assert done.exit_code == 2 and "no forward()" in done.stderr.replace("\n", " ")
    else:
        assert done.exit_code == 0, done.output
        np.testing.assert_array_equal(output_of(result), output_of(source))


def test_an_onnx_file_runs_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "vowels.onnx"
    invoke("convert", "vowels", path, expect=0)
    assert report("run", path, TEST)["predicted"] == report("run", "vowels")["predicted"]


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_graph_that_is_not_a_chain_of_layers_converts_to_both_formats(tmp_path: Path, suffix: str) -> None:
    node = onnx.helper.make_node("Mul", ["x", "scale"], ["y"], "scaled")
    x = np.ones((4, 1, 12), np.float32)
    model = onnx_nodes.model_of([node], {"x": x}, ["y"], {"scale": np.full(12, 3, np.float32)})
    onnx.save(model, tmp_path / "m.onnx")
    invoke("convert", tmp_path / "m.onnx", tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(onward.load(tmp_path / f"out{suffix}")(x), 3 * x)


def test_a_state_dict_converts_to_tensors_but_not_to_a_graph(tmp_path: Path, state_dict: Path) -> None:
    assert invoke("convert", state_dict, tmp_path / "copy.safetensors").exit_code == 0
    for name, tensor in onward.load_tensors(state_dict).items():
        np.testing.assert_array_equal(onward.load_tensors(tmp_path / "copy.safetensors")[name], tensor)
    result = invoke("convert", state_dict, tmp_path / "m.onnx")
    assert (result.exit_code, "sequential(...)" in result.stderr) == (2, True)


def test_layers_without_names_are_named_by_their_kinds_and_long_lists_end(tmp_path: Path) -> None:
    gru = onward.GRU(3, 4, rng=0).state_dict()
    np.savez(tmp_path / "one.npz", **gru, other=np.ones(2))
    np.savez(tmp_path / "none.npz", **{f"t{n}": np.ones(2) for n in range(12)})
    for command in (["run", "one.npz", TEST], ["convert", "one.npz", "m.onnx"]):
        result = invoke(command[0], tmp_path / command[1], *command[2:])
        assert (result.exit_code, "contains layers (GRU) but no forward()" in message(result)) == (2, True)
    result = invoke("info", tmp_path / "none.npz")
    assert (result.exit_code, message(result).endswith("t8, t9 and 2 more tensors")) == (1, True)


@pytest.mark.parametrize("target", ["safetensors", "onnx"])
def test_options_supply_what_a_state_dict_does_not_record(tmp_path: Path, target: str) -> None:
    rnn = onward.RNN(3, 4, nonlinearity="relu", batch_first=True, rng=0)
    source, result = tmp_path / "rnn.bin", tmp_path / f"rnn.{target}"
    source.write_bytes(safetensors.numpy.save(rnn.state_dict()))
    reported = ["--nonlinearity", "relu", "--batch-first"]
    assert invoke("convert", source, result, *reported).exit_code == 0
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    net = onward.load(result)
    y = net.layers()(x) if target == "onnx" else net(x)[0]
    np.testing.assert_array_equal(y, rnn(x)[0])
    assert report("info", source, *reported)["layers"][0]["layer"] == repr(rnn)


def test_convert_refuses_to_lose_options_of_layers(tmp_path: Path) -> None:
    whole = support.DATA / "torch" / "whole.pt"
    result = invoke("convert", whole, tmp_path / "m.safetensors")
    reported = " ".join(result.stderr.split())
    assert (
        result.exit_code,
        "tensors alone do not determine lstm: LSTM(3, 4, batch_first=True" in reported,
    ) == (
        2,
        True,
    )
    assert not list(tmp_path.iterdir())


def test_convert_refuses_formats_that_it_cannot_write(tmp_path: Path) -> None:
    for target in (tmp_path / "vowels.pt", tmp_path / "nowhere" / "vowels.onnx"):
        result = invoke("convert", "vowels", target)
        assert (result.exit_code, "OUT" in result.stderr) == (2, True)


def test_convert_refuses_to_overwrite_its_input(tmp_path: Path) -> None:
    path = tmp_path / "gru.safetensors"
    onward.GRU(3, 4).save(path)
    before = path.read_bytes()
    assert "choose another name" in message(invoke("convert", path, path, expect=2))
    assert path.read_bytes() == before


def test_convert_prints_the_size_of_the_file(tmp_path: Path) -> None:
    out = tmp_path / "vowels.onnx"
    reported = report("convert", "vowels", out)
    assert reported == {"model": "vowels", "out": str(out), "file_bytes": out.stat().st_size}
    assert f"({out.stat().st_size / 1000:,.1f} kB)" in invoke("convert", "vowels", out, expect=0).output


def test_a_converted_model_keeps_the_columns_windows_and_classes_of_its_table(tmp_path: Path) -> None:
    selection = Selection(inputs=("a", "b"), group="who", window=4)
    net = onward.Sequential(onward.GRU(2, 3, rng=0), onward.Last(), onward.Linear(3, 2, rng=1))
    model_files.save(tmp_path / "a.safetensors", net, Saved(selection, ("cat", "dog")))
    invoke("convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors", expect=0)
    assert model_files.load_saved(tmp_path / "b.safetensors") == Saved(selection, ("cat", "dog"))


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_converted_text_model_samples_the_same_text(tmp_path: Path, suffix: str) -> None:
    converted = tmp_path / f"b{suffix}"
    invoke("convert", "shakespeare", converted, expect=0)
    _, vocabulary = text.load(converted)
    assert vocabulary.characters == text.load(bundled.models()["shakespeare"])[1].characters
    options = "--length", "40", "--seed", "3"
    one, other = (invoke("sample", model, *options, expect=0) for model in ("shakespeare", converted))
    assert one.stdout == other.stdout


def test_a_compiled_text_model_names_what_samples(tmp_path: Path) -> None:
    invoke("compile", "shakespeare", "-o", tmp_path / "b.onward", expect=0)
    assert (
        "use the file that it was compiled from" in invoke("sample", tmp_path / "b.onward", expect=1).stderr
    )


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_file_and_the_difference_match_those_of_model_quantize(tmp_path: Path, precision: str) -> None:
    out = tmp_path / "small.safetensors"
    reported = report("quantize", "vowels", "--to", precision, "-o", out)
    net: Any = onward.load(VOWELS)
    small = net.quantize(precision)
    small.save(tmp_path / "expected.safetensors")
    assert out.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    items = data.read(bundled.datasets()["japanese_vowels_test"]).items
    differences = np.abs(np.stack([small(x) for x in items]) - np.stack([net(x) for x in items]))
    assert reported["largest_difference"] == differences.max() > 0
    assert reported["mean_difference"] == pytest.approx(differences.mean(), rel=1e-5)
    assert reported["file_bytes_before"] == VOWELS.stat().st_size
    assert reported["file_bytes_after"] == out.stat().st_size < reported["file_bytes_before"]
    assert reported["bytes_after"] < reported["bytes_before"] == 4 * 12_345


def test_sizes_and_the_difference_are_printed(tmp_path: Path) -> None:
    output = invoke("quantize", "vowels", "--to", "int8", "-o", tmp_path / "s.safetensors", expect=0).output
    assert (
        "50.4 kB before" in output
        and "after" in output
        and "japanese_vowels_test differ by at most" in output
    )


def test_nothing_is_written_beyond_the_tolerance(tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    arguments = "quantize", "vowels", "--to", "int8", "-o", out, "--check", "japanese_vowels_train"
    result = invoke(*arguments, "--tolerance", "1e-4", expect=1)
    assert "exceeds the tolerance of 0.0001" in message(result) and "--to float16" in message(result)
    assert not out.exists()
    invoke(*arguments, "--tolerance", "10", expect=0)
    assert out.exists()


def test_a_single_layer_of_a_state_dict_is_quantized(tmp_path: Path) -> None:
    np.savez(tmp_path / "gru.npz", **onward.GRU(3, 33, rng=0).state_dict())
    reported = report("quantize", tmp_path / "gru.npz", "--to", "float16", "-o", tmp_path / "s.safetensors")
    assert reported["checked_on"] is None and "largest_difference" not in reported
    assert repr(onward.load(tmp_path / "s.safetensors")) == "GRU(3, 33).quantize('float16')"
    result = invoke("quantize", tmp_path / "gru.npz", "--to", "int8", "-o", tmp_path / "s.safetensors")
    assert "--check DATA shows" in result.output


def test_a_quantized_text_model_keeps_its_vocabulary(tmp_path: Path) -> None:
    vocabulary = text.Vocabulary("to be or not")
    V = len(vocabulary)
    net = onward.Sequential(
        onward.Embedding(V, 4, rng=0), onward.LSTM(4, 7, rng=1), onward.Linear(7, V, rng=2)
    )
    text.save(tmp_path / "net.safetensors", net, vocabulary)
    (tmp_path / "text.txt").write_text("not to be, or to be")
    reported = report(
        "quantize", tmp_path / "net.safetensors", "--to", "int8", "-o", tmp_path / "small.safetensors",
        "--check", tmp_path / "text.txt",
    )  # fmt: skip
    small, kept = text.load(tmp_path / "small.safetensors")
    assert kept.characters == vocabulary.characters
    numbers = vocabulary.encode("not to be or to be")
    assert reported["largest_difference"] == np.abs(small(numbers) - net(numbers)).max() > 0


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--to", "int8"], 2, "--out"),
        (["-o", "x.safetensors"], 2, "--to"),
        (["--to", "int4", "-o", "x.safetensors"], 2, "'float16', 'int8'"),
        (["--to", "int8", "-o", "x.onnx"], 2, ".safetensors"),
        (["--to", "int8", "-o", "x.safetensors", "--tolerance", "1"], 2, "--tolerance needs --check"),
        (["--to", "int8", "-o", "gru.safetensors"], 2, "choose another name"),
        (["--to", "int8", "-o", "x.safetensors", "--check", "vowels"], 2, "It is a bundled model"),
        (["--to", "int8", "-o", "x.safetensors", "--check", "japanese_vowels_test"], 1, "12"),
    ],
)
def test_mistakes_end_in_one_message(
    arguments: list[str], code: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onward.GRU(3, 4).save("gru.safetensors")
    assert hint in message(invoke("quantize", "gru.safetensors", *arguments, expect=code))
    assert not Path("x.safetensors").exists()


def test_a_whole_model_is_quantized_although_its_layers_are_nodes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 33), (33, 33)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    (tmp_path / "m.onnx").write_bytes(model_of(nodes, {"x": x}, ["y"], {"w": w}).SerializeToString())
    out = tmp_path / "small.safetensors"
    reported = report("quantize", tmp_path / "m.onnx", "--to", "int8", "-o", out)
    assert reported["bytes_after"] < reported["bytes_before"] / 2
    expected = onward.load(tmp_path / "m.onnx").quantize("int8")(x)
    assert np.array_equal(onward.load(out)(x), expected)


def test_a_model_of_products_without_recurrent_layers_is_quantized(tmp_path: Path) -> None:
    onward.Linear(33, 17).save(tmp_path / "linear.safetensors")
    reported = report(
        "quantize", tmp_path / "linear.safetensors", "--to", "int8", "-o", tmp_path / "x.safetensors"
    )
    assert reported["bytes_after"] < reported["bytes_before"] / 2


def test_a_model_without_matrices_has_nothing_to_quantize(tmp_path: Path) -> None:
    onward.Sequential(onward.LayerNorm(5)).save(tmp_path / "norm.safetensors")
    out = tmp_path / "x.safetensors"
    result = invoke("quantize", tmp_path / "norm.safetensors", "--to", "int8", "-o", out)
    assert result.exit_code == 1 and "no weights that int8 compresses" in message(result)
    assert not out.exists()


def packed_states() -> Model:
    """A chain that takes and returns its state with another rank than layers do."""
    graph = Graph()
    x, state = graph.add_input("x", FLOAT, ("T", 1, 3)), graph.add_input("state", FLOAT, (1, 1, 1, 4))
    h = graph.add("Squeeze", state, graph.add_constant(np.array([0])))
    y, h = graph.add_all("Recurrent", (x, "", h), 2, cell=onward.GRU(3, 4, rng=0).cell)
    graph.outputs = (y, graph.add("Unsqueeze", h, graph.add_constant(np.array([0]))))
    graph.declared_outputs = (Input("y", FLOAT, ("T", 1, 4)), Input("next", FLOAT, (1, 1, 1, 4)))
    return Model(graph)


def directions_apart() -> Model:
    """The directions of an LSTM are an axis of their own."""
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("T", 1, 3))
    layer = onward.LSTM(3, 4, bidirectional=True, rng=0)
    y, *_ = graph.add_all("Recurrent", (x,), 3, cell=layer.cell)
    y = graph.add("Reshape", y, graph.add_constant(np.array([0, 1, 2, 4])))
    graph.outputs = (graph.add("Transpose", y, perm=[0, 2, 1, 3]),)
    graph.declared_outputs = (Input("y", FLOAT, ("T", 2, 1, 4)),)
    return Model(graph)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
@pytest.mark.parametrize("build", [packed_states, directions_apart])
def test_a_model_verifies_against_its_conversion_both_ways(
    tmp_path: Path, suffix: str, build: Callable[[], Model]
) -> None:
    """Conversion to layers changed the states, or the axes of the output."""
    model, out = tmp_path / "model.safetensors", tmp_path / f"out{suffix}"
    build().save(model)
    invoke("convert", model, out, expect=0)
    for first, second in ((model, out), (out, model)):
        assert report("verify", first, "--against", second)["passed"]

"""`onward quantize`: the file it writes, and the differences that it reports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.cli import invoke, message, report
from support.onnx_nodes import model_of

import onward
from onward import bundled
from onward.recipes import text
from onward.tables import data

VOWELS = bundled.models()["vowels"]


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

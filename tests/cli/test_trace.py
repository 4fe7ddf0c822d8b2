"""`onward trace`: the summary that it prints and the files that it writes."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.sequence_graphs import detector, stepper

import onward
from onward import bundled

TEST = bundled.datasets()["japanese_vowels_test"]


def test_trace_summarizes_each_layer_and_writes_the_format_of_the_file_name(tmp_path: Path) -> None:
    result = report("trace", "vowels", TEST, "--sequence", "9", "--similar", "-o", tmp_path / "gates.png")
    assert result["steps"] == 23
    (layer,) = result["layers"]
    assert layer["layer"] == "0.l0"
    assert list(layer["saturated"]) == list("ifgo") and len(layer["open_steps"]) == 48
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert invoke("trace", "vowels", "-o", tmp_path / "gates.PDF").exit_code == 0
    assert (tmp_path / "gates.PDF").read_bytes().startswith(b"%PDF")
    output = invoke("trace", "vowels", "-o", tmp_path / "gates.NPZ").output
    assert "0.l0" in output and "dead units: the number of units whose hidden state varies" in output
    with np.load(tmp_path / "gates.NPZ") as saved:
        assert saved["0.l0.f"].shape == (19, 1, 48)


def test_trace_of_an_onnx_file_names_the_layers_as_the_file_does(tmp_path: Path) -> None:
    model = detector(12)  # a convolution with a stride, then a GRU
    model.export_onnx(tmp_path / "net.onnx")
    result = report("trace", tmp_path / "net.onnx", TEST, "-o", tmp_path / "gates.svg")
    assert result["steps"] == 19
    (layer,) = result["layers"]
    assert layer["layer"].endswith(".l0") and list(layer["saturated"]) == list("rzn")
    assert "input of the layer" in drawn_text(tmp_path / "gates.svg")


def test_trace_of_a_model_of_several_inputs_points_to_python(tmp_path: Path) -> None:
    stepper().save(tmp_path / "net.safetensors")
    result = invoke("trace", tmp_path / "net.safetensors", TEST, expect=2)
    assert "takes (x, state, rate), not one sequence" in message(result)


def drawn_text(path: Path) -> str:
    """The text of an SVG picture, in which matplotlib keeps each string as a comment."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL))


def test_trace_titles_the_picture_with_model_input_label_and_prediction(tmp_path: Path) -> None:
    picture = tmp_path / "gates.svg"
    assert invoke("trace", "vowels", TEST, "--sequence", "9", "-o", picture).exit_code == 0
    text = drawn_text(picture)
    assert "vowels on japanese_vowels_test, sequence 9: true label 0, predicted 0 (98%)" in text
    assert "layer 0.l0 (1 of 1)" in text and "probability of each class after each step" in text
    assert invoke("trace", "vowels", "--units", "0-2,40", "-o", picture).exit_code == 0
    assert "4 of 48 units" in drawn_text(picture)


def test_trace_draws_raw_outputs_of_a_regression_model(tmp_path: Path) -> None:
    net = onward.Sequential(onward.GRU(3, 4, rng=0), onward.Last(), onward.Linear(4, 2, rng=1))
    net.save(tmp_path / "regression.safetensors")
    x, y = np.ones((5, 6, 3), np.float32), np.ones((5, 2), np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    picture = tmp_path / "gates.svg"
    result = invoke("trace", tmp_path / "regression.safetensors", tmp_path / "data.npz", "-o", picture)
    assert result.exit_code == 0, result.output
    text = drawn_text(picture)
    assert "output y after each step" in text and "probability" not in text and "predicted" not in text


def test_trace_of_a_text_model_names_the_likeliest_next_characters(tmp_path: Path) -> None:
    picture = tmp_path / "gates.svg"
    result = report("trace", "shakespeare", "--text", "To be, or not", "-o", picture)
    assert result["steps"] == 13 and [layer["layer"] for layer in result["layers"]] == ["1.l0", "1.l1"]
    text = drawn_text(picture)
    assert "shakespeare reads 'To be, or not': likeliest next character ' ' (35%)" in text
    assert "layer 1.l0 (1 of 2; also 1.l1)" in text and "likeliest next characters after each step" in text


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["vowels", "--sequence", "370"], "370 sequences", 2),
        (["vowels", "--layer", "1.l0"], "choose from 0.l0", 2),
        (["vowels", "--units", "3-x"], "'3-x' is neither a unit number nor a range", 2),
        (["vowels", "--units", "48", "-o", "gates.png"], "units=48, but must be an integer from 0 to 47", 1),
        (["vowels", "-o", "gates.gif"], "must end in one of .png, .svg, .pdf, .npz", 2),
        (["vowels", "-o", "nowhere/gates.png"], "the directory nowhere does not exist", 2),
        (["vowels", str(TEST), "--text", "a"], "or --text, not both", 2),
        (["vowels", "--text", "a"], "is not a text model", 1),
        (["shakespeare"], "shakespeare is a text model: pass its input with --text", 2),
        (["shakespeare", "--text", ""], "must have at least one character", 2),
    ],
)
def test_trace_explains_invalid_arguments(arguments: list[str], message: str, exit_code: int) -> None:
    result = invoke("trace", *arguments)
    assert result.exit_code == exit_code and message in " ".join(result.output.split())


def test_a_sequence_without_steps_writes_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 12), np.float32), lengths=[0, 3])
    out = tmp_path / "gates.npz"
    result = invoke("trace", "vowels", tmp_path / "x.npz", "--out", out, expect=1)
    assert "no steps to summarize" in message(result) and not out.exists()

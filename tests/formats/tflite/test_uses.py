"""Models of TensorFlow Lite can do what all models can."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support import arrays_of
from support.cli import invoke, report

import onward
from onward.errors import ArgumentError
from onward.serve.steps import steps_of

FOLDER = support.DATA / "tflite"


@pytest.mark.parametrize("name", ["mww_vad", "keras_lstm_int8", "keras_gru"])
def test_a_saved_model_and_an_exported_one_give_the_same_answers(name: str, tmp_path: Path) -> None:
    model, x = onward.load(FOLDER / f"{name}.tflite"), arrays_of(FOLDER / f"{name}.npz")["x"][1]
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(x), model(x))
    model.export_onnx(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", **{model.inputs[0]: x})
    found = report("verify", FOLDER / f"{name}.tflite", tmp_path / "x.npz", "--against", tmp_path / "m.onnx")
    assert found


@pytest.mark.parametrize(("name", "steps"), [("mww_vad", 6), ("mww_okay_nabu", 1), ("keras_lstm_int8", 1)])
def test_a_qdq_model_is_a_few_steps_from_the_exact_integers(name: str, steps: int, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    invoke("convert", "--qdq", FOLDER / f"{name}.tflite", target, expect=0)
    model, arrays = onward.load(FOLDER / f"{name}.tflite", qdq=True), arrays_of(FOLDER / f"{name}.npz")
    run: Any = model.stream()
    for x, y in zip(arrays["x"], arrays["y0"], strict=True):
        found = run(x)
        assert found.dtype == y.dtype
        np.testing.assert_allclose(found.astype(int), y, atol=steps)
    again, x = onward.load(target), arrays["x"][0]
    np.testing.assert_array_equal(again(x)[0], model(x))  # an ONNX file also returns the states
    if name.startswith("mww"):  # recurrent layers have weights of real numbers
        assert all(array.dtype == np.int8 for array in model.state_dict().values() if array.size > 200)


@pytest.mark.parametrize("name", ["keras_lstm", "keras_gru", "keras_bilstm"])
def test_real_weights_can_be_quantized(name: str) -> None:
    model, x = onward.load(FOLDER / f"{name}.tflite"), arrays_of(FOLDER / f"{name}.npz")["x"][0]
    np.testing.assert_allclose(model.quantize("int8")(x), model(x), atol=0.05)


@pytest.mark.parametrize("name", ["mww_vad", "keras_lstm_int8", "keras_lstm"])
def test_a_server_steps_many_clients(name: str) -> None:
    model: Any = onward.load(FOLDER / f"{name}.tflite")
    blocks, streams = arrays_of(FOLDER / f"{name}.npz")["x"], [model.stream() for _ in range(3)]
    steps = steps_of(model, {})
    ids = steps.pool.open(3)
    for block in blocks[:4]:
        rows = [block, 0 * block, block]
        (y,) = steps.step(ids, [np.concatenate(rows)[:, None]])
        expected = [stream(row) for stream, row in zip(streams, rows, strict=True)]
        np.testing.assert_array_equal(y[:, 0], np.concatenate(expected))


def test_a_compiled_wake_word_streams(tmp_path: Path) -> None:
    model, blocks = onward.load(FOLDER / "mww_vad.tflite"), arrays_of(FOLDER / "mww_vad.npz")
    model.compile(tmp_path / "m.onward")
    stream = onward.load(tmp_path / "m.onward").stream()
    np.testing.assert_array_equal(np.stack([stream(x) for x in blocks["x"]]), blocks["y0"])


def test_a_compiled_wake_word_returns_its_variables(tmp_path: Path) -> None:
    model, x = onward.load(FOLDER / "mww_vad.tflite"), arrays_of(FOLDER / "mww_vad.npz")["x"][0]
    model.compile(tmp_path / "m.onward")
    compiled = onward.load(tmp_path / "m.onward")
    assert len(compiled.outputs) == 1
    np.testing.assert_array_equal(compiled(x), model(x))


def test_info_and_traces_name_the_layers() -> None:
    assert "mww_vad" in invoke("info", FOLDER / "mww_vad.tflite", expect=0).output
    model, x = onward.load(FOLDER / "keras_lstm.tflite"), arrays_of(FOLDER / "keras_lstm.npz")["x"][0]
    trace = model.trace(x)
    np.testing.assert_allclose(trace.y, model(x), atol=1e-6)


def test_the_refusal_to_trace_integers_names_tensors_of_the_file() -> None:
    model, x = (
        onward.load(FOLDER / "keras_lstm_int8.tflite"),
        arrays_of(FOLDER / "keras_lstm_int8.npz")["x"][0],
    )
    with pytest.raises(ArgumentError, match="such as tfl") as caught:
        model.trace(x)
    name = str(caught.value).rpartition("such as ")[2].split(", ")[0]
    assert model.trace(x, values=[name])[name].dtype == np.int8
    with pytest.raises(ArgumentError, match="no value ''"):  # it was an AssertionError
        model.trace(x, values=[""])

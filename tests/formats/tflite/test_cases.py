"""Files of TensorFlow Lite give the outputs of LiteRT's reference kernels, call by call, live and pooled."""

from typing import Any

import numpy as np
import pytest
import support
from support import arrays_of

import onward

FOLDER = support.DATA / "tflite"
INTEGERS = ["keras_lstm_int8", "mww_okay_nabu", "mww_vad"]
FLOATS = ["keras_bilstm", "keras_gru", "keras_lstm"]


def opened(name: str) -> tuple[Any, Any, Any]:
    """The model, the inputs and the expected outputs."""
    arrays = arrays_of(FOLDER / f"{name}.npz")
    return onward.load(FOLDER / f"{name}.tflite"), arrays["x"], arrays["y0"]


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_models_equal_the_reference_kernels_in_every_call_of_a_stream(name: str) -> None:
    model, x, y = opened(name)
    stream = model.stream()
    np.testing.assert_array_equal(np.stack([stream(block) for block in x]), y)


@pytest.mark.parametrize("name", FLOATS)
def test_float_models_are_close_to_the_reference_kernels(name: str) -> None:
    model, x, y = opened(name)
    run = model.stream() if model.carries else model
    np.testing.assert_allclose(np.stack([run(block) for block in x]), y, atol=1e-5)


@pytest.mark.parametrize("name", ["keras_lstm", *INTEGERS])
def test_calls_start_from_the_initial_state(name: str) -> None:
    model, x, y = opened(name)
    model(x[3])
    np.testing.assert_allclose(model(x[0]), y[0], atol=1e-6 * (y.dtype.kind == "f"))


@pytest.mark.parametrize("name", ["keras_lstm", *INTEGERS])
def test_pools_hold_the_state_of_every_row(name: str) -> None:
    model, x, _ = opened(name)
    pool, streams = model.pool(4), [model.stream() for _ in range(3)]
    ids = pool.open(3)
    for step in range(12):
        rows = [x[step + 4 * row] for row in range(1 + step % 3)]
        y = pool.step(ids[: len(rows)], np.concatenate(rows))
        alone = [stream(row) for stream, row in zip(streams, rows, strict=False)]
        np.testing.assert_array_equal(y, np.concatenate(alone))


def test_a_wake_word_runs_in_the_core_alone() -> None:
    model, x, _ = opened("mww_okay_nabu")
    model(x[0])
    (program,) = model.programs
    assert all(type(segment) is tuple for segment in program.segments)


def test_a_loop_that_writes_a_list_is_a_layer_and_streams() -> None:
    model, x, y = opened("keras_gru")
    model(x[0])
    (program,) = model.programs
    assert all(type(segment) is tuple for segment in program.segments)
    stream = model.stream()
    blocks = [stream(block) for block in np.split(x[0][0], [1, 5, 6])]
    np.testing.assert_array_equal(np.concatenate(blocks), model(x[0])[0])
    np.testing.assert_allclose(np.concatenate(blocks), y[0][0], atol=1e-5)


def test_the_names_are_those_of_the_signature() -> None:
    model, _, _ = opened("mww_vad")
    assert model.inputs[0] == "input_audio" and model.outputs[0] == "dense"
    with pytest.raises(onward.errors.FileError, match="signatures serving_default"):
        onward.load(FOLDER / "mww_vad.tflite", method="other")
    onward.load(FOLDER / "mww_vad.tflite", method="serving_default")

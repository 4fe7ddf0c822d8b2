"""Random models of Keras as TensorFlow Lite files beside LiteRT's reference kernels, call after call."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras
from support.frameworks import onnxruntime_session
from support.random_tflite import FORMS, RandomModel, Reference, converted
from support.randomized import random_cases

import onward

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.parametrize("seed", range(random_cases(6)))  # a conversion takes seconds
def test_a_converted_model_gives_the_answers_of_the_reference_kernels(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    form = FORMS[seed % len(FORMS)]
    check(converted(RandomModel(tf_keras, rng, form).build(), form, rng), rng, tmp_path)


def test_most_integers_of_qdq_files_are_at_most_a_step_from_the_reference_kernels(tmp_path: Path) -> None:
    steps: list[int] = []
    for seed in range(random_cases(6)):
        rng = np.random.default_rng(seed)
        content = converted(RandomModel(tf_keras, rng, "int8").build(), "int8", rng)
        (tmp_path / "m.tflite").write_bytes(content)
        onward.load(tmp_path / "m.tflite", qdq=True).export_onnx(tmp_path / "m.onnx")
        session, reference = onnxruntime_session(tmp_path / "m.onnx", optimize=False), Reference(content)
        ((shape, dtype),) = reference.inputs
        x = rng.integers(-128, 128, shape, dtype)
        (expected,), found = reference(x), session.run(None, {session.get_inputs()[0].name: x})[0]
        steps.append(np.abs(found.astype(int) - expected).max())
    assert max(steps) <= 16 and np.mean(np.array(steps) <= 1) >= 0.7, steps


def test_a_loop_that_starts_with_the_state_of_an_lstm_is_refused(tmp_path: Path) -> None:
    # the converter joins the zeros at which the GRU starts with the state that LiteRT keeps for the LSTM
    layers, rng = tf_keras.layers, np.random.default_rng(0)
    inputs = tf_keras.Input((8, 4), batch_size=1)
    x = layers.LSTM(6, return_sequences=True)(layers.GRU(6, return_sequences=True)(inputs))
    model = tf_keras.Model(inputs, layers.Dense(3)(layers.LSTM(6)(x)))
    check(converted(model, "dynamic", rng), rng, tmp_path)


def check(content: bytes, rng: np.random.Generator, tmp_path: Path) -> None:
    """Compare three calls of a file with those of the reference kernels."""
    (tmp_path / "m.tflite").write_bytes(content)
    reference, model = Reference(content), onward.load(tmp_path / "m.tflite")
    run: Any = model.stream() if model.carries else model
    ((shape, dtype),) = reference.inputs
    for _ in range(3):
        if (
            not model.carries
        ):  # LiteRT's loops write into constants of float16, from which its next call starts
            reference = Reference(content)
        x = (
            rng.normal(size=shape).astype(dtype)
            if dtype.kind == "f"
            else rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape, dtype)
        )
        (expected,), y = reference(x), run(x)
        if dtype.kind == "f":
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(y, expected)

"""Random models of Keras 3 with masks and branches: outputs, bits of single rows, and exports to ONNX."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from support.keras_models import with_random_weights
from support.random_keras import RandomModel, T, random_attention
from support.random_keras_operations import RandomOperations
from support.skips import counted_cases

import onward

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]


@pytest.mark.parametrize("seed", range(200))
def test_a_random_model_gives_the_outputs_of_keras(seed: int, tmp_path: Path) -> None:
    source = RandomModel(keras, np.random.default_rng(seed))
    model = with_random_weights(source.build())
    inputs = source.inputs(model)
    given: Any = inputs if len(inputs) > 1 else inputs[0]
    expected = [y.detach().numpy() for y in model(given, training=False)]
    suffix = ("keras", "h5")[seed % 2]
    model.save(tmp_path / f"m.{suffix}")
    opened: Any = onward.load(tmp_path / f"m.{suffix}")
    outputs = opened(given)
    for y, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
    alone = opened(*(x[2:3] for x in inputs))
    for y, row in zip(outputs, alone, strict=True):
        np.testing.assert_array_equal(y[2], row[0])
    opened.export_onnx(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    names = [each.name for each in session.get_inputs()]
    for y, other in zip(outputs, session.run(None, dict(zip(names, inputs, strict=True))), strict=True):
        np.testing.assert_allclose(other, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_attention_removes_the_masks_of_its_inputs_as_in_keras(seed: int, tmp_path: Path) -> None:
    """From version 3.8 on, MultiHeadAttention takes the masks of its inputs from the calls after it."""
    rng = np.random.default_rng(seed)
    model = with_random_weights(random_attention(keras, rng))
    x = rng.normal(size=(4, T, 3)).astype(np.float32)
    x[0, :2], x[1, -2:], x[2, 2] = 0, 0, 0
    model.save(tmp_path / "m.keras")
    outputs: Any = onward.load(tmp_path / "m.keras")(x)
    for y, wanted in zip(outputs, model(x, training=False), strict=True):
        np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", range(10))
def test_random_operations_give_the_outputs_of_keras_with_their_kinds_of_dtypes(
    batch: int, tmp_path: Path
) -> None:
    for case in counted_cases(30, first=1000 * batch, most=0.4):
        with case:
            source = RandomOperations(np.random.default_rng(case.seed))
            model = source.build()
            inputs = source.inputs(model)
            with case.skipping(Exception):  # what Keras describes, but cannot run on PyTorch
                expected = [y.detach().numpy() for y in keras.tree.flatten(model(inputs))]
            path = tmp_path / f"m.{('keras', 'h5')[case.seed % 2]}"
            model.save(path)
            outputs: Any = onward.load(path)(inputs)
            for y, wanted in zip(keras.tree.flatten(outputs), expected, strict=True):
                assert y.dtype.kind == wanted.dtype.kind
                np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)

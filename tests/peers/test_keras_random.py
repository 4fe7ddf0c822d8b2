"""Random models of Keras 3 with masks and branches: outputs, bits of single rows, and exports to ONNX."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from support.keras_models import with_random_weights
from support.random_keras import RandomModel

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

"""DTLN as published for TensorFlow Lite: two models whose states are inputs and outputs."""

import os
from pathlib import Path

import numpy as np
import pytest

import onward


@pytest.mark.parametrize("name", ["dtln_model_1", "dtln_model_quant_2"])
def test_both_models_stream_with_their_states(name: str) -> None:
    folder = Path(os.environ["ONWARD_CASES"]) / "tflite"
    model, case = onward.load(folder / f"{name}.tflite"), np.load(folder / f"{name}.npz")
    stream = model.stream(carry={model.inputs[1]: model.outputs[1]})
    for x, y in zip(case["x"], case["y0"], strict=True):
        np.testing.assert_allclose(stream(x), y, atol=2e-5)
    (state,) = stream.state.values()
    np.testing.assert_allclose(state, case["y1"][-1], atol=1e-4)

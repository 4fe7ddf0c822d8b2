"""Published models as plain C: the tests that are written with them pass, in float32 and in integers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import c_code

import onward

CASES = Path(os.environ["ONWARD_CASES"])
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Silero 6": ("silero_v6/silero_vad_v6.onnx", {"sizes": {"seq_len": 1}}),
    "DTLN 1": ("dtln/model_1.onnx", {"carry": {"input_3": "tf_op_layer_stack_2"}}),
    "DTLN 2": ("dtln/model_2.onnx", {"carry": {"input_5": "tf_op_layer_stack_5"}}),
    "GTCRN": ("gtcrn/gtcrn_simple.onnx", {}),
}
FAST = c_code.Target(("cc", "-march=native", "-O1"))


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model_has_the_bits_of_python(name: str, tmp_path: Path) -> None:
    file, options = MODELS[name]
    model = onward.load(CASES / file)
    found = c_code.checked(model, tmp_path / "model.c", FAST, stream=True, **options)
    rng = np.random.default_rng(0)
    data = {
        name: np.abs(rng.normal(0, 0.1, (20, *shape))).astype(np.float32)
        for name, shape in found.inputs.items()
    }
    small = c_code.checked(model, tmp_path / "small.c", FAST, stream=True, calibrate=data, **options)
    assert small.figures.weights < 0.5 * found.figures.weights and small.accuracy.relative_error < 0.3

"""Whole models that PyTorch exports give the same bits after they were saved and loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import modules
from support.onnx_nodes import open_model, outputs_of

import onward


@pytest.mark.parametrize("name", ["noise suppressor", "text reader", "tagger", "policy", "translator"])
def test_a_saved_onnx_model_gives_identical_bits(tmp_path: Path, name: str) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    model = open_model(onnx.load_from_string(modules.exported(whole.module(), inputs)))
    model.save(tmp_path / "m")
    again: Any = onward.load(tmp_path / "m")
    assert repr(again) == repr(model)
    expected, found = model(**inputs), outputs_of(again, **inputs)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)

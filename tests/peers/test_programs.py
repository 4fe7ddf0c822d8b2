"""Typical production models in PyTorch with open axes: one program for all lengths and batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import modules

import onward

# The open axes of the input, and how many programs the sizes need, with the reason if there are several.
OPEN: dict[str, tuple[dict[int, str], int]] = {
    "text reader": ({0: "batch", 3: "time"}, 1),
    "tagger": ({0: "batch", 1: "time"}, 1),
    "attention pooling": ({0: "batch", 1: "time"}, 1),
    "forecaster": ({0: "batch", 1: "time"}, 1),
    "speech recognizer": ({0: "batch", 3: "time"}, 1),
    "translator": ({0: "batch", 1: "time"}, 1),
    "acoustic model": ({0: "batch", 1: "time"}, 1),
    "keyword spotter": ({0: "batch", 2: "time"}, 1),
    "voice detector": ({1: "time"}, 1),
}


@pytest.mark.parametrize("name", OPEN)
def test_a_model_needs_one_program_for_all_sizes_of_at_least_two(name: str, tmp_path: Path) -> None:
    whole, (axes, programs) = modules.WHOLE[name], OPEN[name]
    torch.manual_seed(0)
    module = whole.module()
    ((key, shape),) = whole.inputs.items()
    path = tmp_path / "model.onnx"
    path.write_bytes(modules.exported(module, modules.inputs_of(whole.inputs, 0), dynamic_axes={key: axes}))
    model: Any = onward.load(path)
    rng = np.random.default_rng(0)
    for call in range(6):
        sizes = list(shape)
        for axis, meaning in axes.items():
            sizes[axis] = (
                int(rng.integers(2, 6)) if meaning == "batch" else int(shape[axis] * rng.uniform(0.3, 0.7))
            )
        inputs = modules.inputs_of({key: tuple(sizes)}, call)
        (expected,) = modules.answer(module, inputs)
        np.testing.assert_allclose(model(**inputs), expected, rtol=1e-4, atol=2e-5)
    assert len(model.programs) == programs
    for program in model.programs:
        assert set(program.axes.names) == set(axes.values()) and not program.axes.fixed

"""An LSTM that clips its cells, as TensorFlow Lite does, against a plain loop."""

from pathlib import Path

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError
from onward.textbook import sigmoid


def test_cells_are_clipped_before_the_output_and_the_next_step_read_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layer = onward.LSTM(3, 5, cell_clip=0.4, rng=1)
    weights = {name: rng.normal(0, 2, w.shape).astype(np.float32) for name, w in layer.state_dict().items()}
    layer.load_state_dict(weights)
    x = rng.normal(0, 2, (30, 2, 3)).astype(np.float32)
    W, R = (weights[f"weight_{part}_l0"].astype(np.float64) for part in ("ih", "hh"))
    b = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).astype(np.float64)
    h, c = np.zeros((2, 5)), np.zeros((2, 5))
    expected, clipped = [], 0
    for step in x:
        i, f, g, o = np.split(step @ W.T + h @ R.T + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        clipped += (np.abs(c) > 0.4).sum()
        c = np.clip(c, -0.4, 0.4)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    y, (_, c_n) = layer(x)
    assert clipped > 20
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(c_n[0], c, atol=1e-5)
    layer.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(x)[0], y)
    layer.export_onnx(tmp_path / "m.onnx")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(x)[0], y)
    stream = layer.stream(batch=2)
    np.testing.assert_array_equal(np.concatenate([stream(step[None]) for step in x]), y)


def test_the_limit_must_be_positive() -> None:
    with pytest.raises(ArgumentError, match="cell_clip"):
        onward.LSTM(3, 4, cell_clip=0)

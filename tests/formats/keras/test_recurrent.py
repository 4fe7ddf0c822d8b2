"""Recurrent layers of Keras with unusual options."""

from pathlib import Path

import numpy as np
import pytest
from support.keras_files import written

import onward


@pytest.mark.parametrize("gate", ["sigmoid", "sparsemax"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_functions_of_all_features_run_over_the_filters_of_a_conv_lstm(
    name: str, gate: str, tmp_path: Path
) -> None:
    """With windows of one place, each place is a cell of its own, whatever its neighbours hold."""
    rng = np.random.default_rng(0)
    shapes = [(1, 3, 16), (1, 4, 16), (16,)]
    weights = {f"cell/vars/{i}": rng.normal(size=shape) for i, shape in enumerate(shapes)}
    config = {"filters": 4, "kernel_size": [1], "activation": name, "recurrent_activation": gate}
    x = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    whole, alone = (
        onward.load(written(tmp_path / "x.keras", "ConvLSTM1D", config, weights, (5, places, 3)))
        for places in (6, 1)
    )
    expected = np.concatenate([alone(x[:, :, [place]]) for place in range(6)], 1)
    np.testing.assert_allclose(whole(x), expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_a_scanned_cell_has_the_equations_of_keras(name: str, tmp_path: Path) -> None:
    rng, H = np.random.default_rng(1), 3
    W, R, b = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3 * H), (H, 3 * H), (2, 3 * H)))
    weights = {f"cell/vars/{i}": weight for i, weight in enumerate((W, R, b))}
    config = {"units": H, "activation": "hard_tanh", "recurrent_activation": name}
    x = rng.normal(size=(4, 5, 2)).astype(np.float32)

    def gate(a: np.ndarray) -> np.ndarray:
        powers = np.exp(a)
        return powers / (powers.sum(-1, keepdims=True) if name == "softmax" else 1 + powers)

    h = np.zeros((4, H))
    for t in range(5):
        (x_z, x_r, x_n), (h_z, h_r, h_n) = (np.split(a, 3, 1) for a in (x[:, t] @ W + b[0], h @ R + b[1]))
        z, r = gate(x_z + h_z), gate(x_r + h_r)
        h = z * h + (1 - z) * np.clip(x_n + r * h_n, -1, 1)
    model = onward.load(written(tmp_path / "x.keras", "GRU", config, weights, (5, 2)))
    np.testing.assert_allclose(model(x), h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LayerNormalization", "GroupNormalization", "ReLU"])
def test_layers_of_which_keras_rounds_integers_are_refused(kind: str, tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {
        "GroupNormalization": {"groups": 1, "scale": False},
        "ReLU": {"max_value": 0.5},
    }
    weights = {} if kind == "ReLU" else {"vars/0": np.ones(2, np.float32)}
    config = {"scale": False, "dtype": "float32"} | options.get(kind, {})
    config = {key: value for key, value in config.items() if kind != "ReLU" or key != "scale"}
    path = written(tmp_path / "x.keras", kind, config, weights, (5, 2), dtype="int32")
    with pytest.raises(onward.errors.FileError, match=rf"layer it \({kind}\) takes int32"):
        onward.load(path)

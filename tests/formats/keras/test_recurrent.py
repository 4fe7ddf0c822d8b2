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

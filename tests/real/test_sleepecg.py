"""sleepecg's sleep stages: Keras 3, two bidirectional GRUs, masks at the start and in the middle."""

from typing import Any

import numpy as np
import pytest

import onward


def test_masked_steps_freeze_the_state_in_both_directions(case: Any) -> None:
    model: Any = onward.load(case.folder / "ws-gru-mesa.keras")
    y = model(case.inputs["ws_X"])
    np.testing.assert_allclose(y, case.expected["ws_probs"], atol=2e-6)
    alone = model(case.inputs["ws_X_record0_unmasked"][None])[0]
    np.testing.assert_allclose(alone, case.expected["ws_probs_record0_unmasked"], atol=2e-6)


def test_both_layers_are_traced_under_their_names_and_cannot_stream(case: Any) -> None:
    model, x = onward.load(case.folder / "ws-gru-mesa.keras"), case.inputs["ws_X"].astype(np.float32)
    trace = model.trace(x)
    names = [
        f"bidirectional{number}.l0{direction}" for number in ("", "_1") for direction in ("", "_reverse")
    ]
    assert list(trace.layers) == names
    np.testing.assert_array_equal(trace.y.swapaxes(0, 1), model(x))
    assert trace["bidirectional_1.l0.h"].shape == (240, 2, 8)
    with pytest.raises(
        onward.errors.ArgumentError, match=r"bidirectional .*reverse direction starts at the last"
    ):
        model.stream()

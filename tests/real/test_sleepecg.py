"""sleepecg's sleep stages: Keras 3, two bidirectional GRUs, masks at the start and in the middle."""

from typing import Any

import numpy as np

import onward


def test_masked_steps_freeze_the_state_in_both_directions(case: Any) -> None:
    model: Any = onward.load(case.folder / "ws-gru-mesa.keras")
    y = model(case.inputs["ws_X"])
    np.testing.assert_allclose(y, case.expected["ws_probs"], atol=2e-6)
    alone = model(case.inputs["ws_X_record0_unmasked"][None])[0]
    np.testing.assert_allclose(alone, case.expected["ws_probs_record0_unmasked"], atol=2e-6)

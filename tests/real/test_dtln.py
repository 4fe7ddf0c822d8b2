"""DTLN, a noise suppressor of two models whose states are inputs and outputs."""

from typing import Any

import numpy as np

import onward

CARRIES = {"input_3": "tf_op_layer_stack_2"}, {"input_5": "tf_op_layer_stack_5"}


def test_both_models_stream_with_named_carries(case: Any) -> None:
    for number, (x, y) in enumerate((("magnitudes", "masks"), ("estimates", "blocks")), start=1):
        stream = onward.load(case.folder / f"model_{number}.onnx").stream(carry=CARRIES[number - 1])
        live = [stream(block[None])[0] for block in case.inputs[x]]
        np.testing.assert_allclose(live, case.expected[y], atol=1e-5)
        (state,) = stream.state.values()
        np.testing.assert_allclose(state, case.expected[f"state_{number}"], atol=5e-4)

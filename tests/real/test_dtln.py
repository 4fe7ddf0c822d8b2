"""DTLN, a noise suppressor of two models whose states are inputs and outputs."""

from typing import Any

import numpy as np
import pytest

import onward

CARRIES = {"input_3": "tf_op_layer_stack_2"}, {"input_5": "tf_op_layer_stack_5"}


def test_both_models_stream_with_named_carries(case: Any) -> None:
    for number, (x, y) in enumerate((("magnitudes", "masks"), ("estimates", "blocks")), start=1):
        stream = onward.load(case.folder / f"model_{number}.onnx").stream(carry=CARRIES[number - 1])
        live = [stream(block[None])[0] for block in case.inputs[x]]
        np.testing.assert_allclose(live, case.expected[y], atol=1e-5)
        (state,) = stream.state.values()
        np.testing.assert_allclose(state, case.expected[f"state_{number}"], atol=5e-4)


@pytest.mark.parametrize("number", [1, 2])
def test_pools_run_files_that_fix_one_row(case: Any, number: int) -> None:
    model = onward.load(case.folder / f"model_{number}.onnx")
    blocks = case.inputs[("magnitudes", "estimates")[number - 1]]
    pool, streams = (
        model.pool(4, carry=CARRIES[number - 1]),
        [model.stream(carry=CARRIES[number - 1]) for _ in range(3)],
    )
    ids = pool.open(3)
    for step in range(10):
        x = blocks[[step, step + 20, step + 40]][: 1 + step % 3]
        y = pool.step(ids[: len(x)], x)
        alone = [stream(row[None]) for stream, row in zip(streams, x, strict=False)]
        np.testing.assert_array_equal(y, np.concatenate(alone))

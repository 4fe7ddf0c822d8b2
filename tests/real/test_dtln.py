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


@pytest.mark.parametrize("number", [1, 2])
def test_int8_copies_stream_and_pool_with_the_bits_of_single_calls(case: Any, number: int) -> None:
    model = onward.load(case.folder / f"model_{number}.onnx").quantize("int8")
    carry, blocks = CARRIES[number - 1], case.inputs[("magnitudes", "estimates")[number - 1]][:30]
    stream, pool = model.stream(carry=carry), model.pool(2, carry=carry)
    ids = pool.open(2)
    (state,) = stream.state.values()
    for block in blocks:
        y, state = model(block[None], state)
        np.testing.assert_array_equal(stream(block[None]), y)
        np.testing.assert_array_equal(pool.step(ids, np.stack([block, block])), np.concatenate([y, y]))


def test_the_cells_of_both_models_are_traced_under_their_names(case: Any) -> None:
    names = (["lstm_4.l0", "lstm_5.l0"], ["lstm_6.l0", "lstm_7.l0"])
    for number, x in enumerate(("magnitudes", "estimates"), start=1):
        model = onward.load(case.folder / f"model_{number}.onnx")
        state = np.zeros((1, 2, 128, 2), np.float32)
        trace = model.trace(case.inputs[x][0][None], state)
        assert list(trace.layers) == names[number - 1]
        _, after = model(case.inputs[x][0][None], state)
        for layer, name in enumerate(trace.layers):
            np.testing.assert_array_equal(trace[f"{name}.h"][0, 0], after[0, layer, :, 0])
            np.testing.assert_array_equal(trace[f"{name}.c"][0, 0], after[0, layer, :, 1])

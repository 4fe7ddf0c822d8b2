"""The server runs the published models that stream."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
from onward.serve.messages import Input
from onward.serve.steps import steps_of

CASES = Path(os.environ["ONWARD_CASES"])


@pytest.mark.parametrize(
    ("name", "options", "shape", "output"),
    [
        ("silero_vad/silero_vad.jit", {"sr": 16000}, (1, 512), "output"),
        ("silero_vad/silero_vad_16k_op15.onnx", {"sr": 16000}, (1, 576), "output"),
        ("silero_v6/silero_vad_v6.onnx", {}, (1, 576), "speech_probs"),
        ("dtln/model_1.onnx", {"carry": {"input_3": "tf_op_layer_stack_2"}}, (1, 1, 257), "activation_2"),
        ("dtln/model_2.onnx", {"carry": {"input_5": "tf_op_layer_stack_5"}}, (1, 1, 512), "conv1d_3"),
    ],
)
def test_messages_get_the_bits_of_a_stream(
    name: str, options: dict[str, Any], shape: tuple[int, ...], output: str
) -> None:
    model, rng = onward.load(CASES / name), np.random.default_rng(0)
    steps = steps_of(model, options)
    steps.warm_up()
    assert list(steps.output_names) == [output]
    assert steps.pool.runs_together
    ids, streams = steps.pool.open(5).tolist(), [model.stream(**options) for _ in range(5)]
    for n in (5, 2, 3, 1):
        x = rng.normal(0, 0.1, (n, *shape)).astype(np.float32)
        (y,) = steps.step(ids[:n], steps.inputs.arrays([Input(row.tobytes()) for row in x]))
        expected = [np.ravel(stream(row)) for stream, row in zip(streams, x, strict=False)]
        np.testing.assert_array_equal([np.ravel(row) for row in y], expected)

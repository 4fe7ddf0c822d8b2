"""Silero's voice detector of faster-whisper: frames along time, and states that are inputs and outputs."""

from typing import Any

import numpy as np

import onward


def test_live_frames_have_the_bits_of_one_call_over_all_frames(case: Any) -> None:
    model = onward.load(case.folder / "silero_vad_v6.onnx")
    assert model.carries == {"h": "hn", "c": "cn"}
    frames = case.inputs["input"]
    whole, h, c = model(frames, case.inputs["h"], case.inputs["c"])
    stream = model.stream()
    live = [stream(frames[:1]), *(stream(frame[None]) for frame in frames[1:50]), stream(frames[50:])]
    np.testing.assert_array_equal(np.concatenate(live), whole)
    np.testing.assert_equal(stream.state, {"h": h, "c": c})
    np.testing.assert_allclose(whole, case.expected["speech_probs"], atol=2e-6)


def test_a_pool_runs_frames_of_several_streams_as_rows(case: Any) -> None:
    model, frames = onward.load(case.folder / "silero_vad_v6.onnx"), case.inputs["input"]
    pool, streams = model.pool(4), [model.stream() for _ in range(3)]
    ids = pool.open(3)
    for step in range(10):
        x = frames[[step, step + 20, step + 40]][: 1 + step % 3]
        alone = [stream(row[None]) for stream, row in zip(streams, x, strict=False)]
        np.testing.assert_array_equal(pool.step(ids[: len(x)], x), np.concatenate(alone))

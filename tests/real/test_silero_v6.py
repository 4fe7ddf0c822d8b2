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


def test_an_int8_copy_streams_pools_and_traces_with_the_bits_of_its_own_call(case: Any) -> None:
    frames = case.inputs["input"]
    model = onward.load(case.folder / "silero_vad_v6.onnx").quantize("int8")
    whole, h, _ = model(frames, case.inputs["h"], case.inputs["c"])
    np.testing.assert_allclose(whole, case.expected["speech_probs"], atol=0.05)
    stream, pool = model.stream(), model.pool(2)
    ids = pool.open(2)
    np.testing.assert_array_equal(np.concatenate([stream(frame[None]) for frame in frames]), whole)
    pooled = [pool.step(ids[::-1], np.stack([frame, frame])) for frame in frames]
    np.testing.assert_array_equal(np.stack(pooled), np.stack([whole, whole], 1))
    trace = model.trace(frames, case.inputs["h"], case.inputs["c"])
    np.testing.assert_array_equal(trace["decoder.rnn.l0.h"][-1], h[0])

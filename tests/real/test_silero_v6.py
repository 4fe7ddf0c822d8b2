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

"""Silero's voice detector: a TorchScript program that keeps the state of an LSTM, run frame by frame."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from support import ROOT, pages
from support.onnx_nodes import open_model

import onward

WINDOWS = {16000: 512, 8000: 256}  # samples per call, by sampling rate


def speech(model: Any, audio: NDArray[Any], rate: int) -> NDArray[Any]:
    """Return the probability of speech in each window; the state is passed from call to call."""
    state: list[Any] = []
    probabilities = []
    for window in audio[: len(audio) // WINDOWS[rate] * WINDOWS[rate]].reshape(-1, WINDOWS[rate]):
        probability, *state = model(window[None], rate, *state)
        probabilities.append(probability.item())
    return np.array(probabilities)


def exact(case: Any) -> NDArray[Any]:
    """Return the probabilities that the ONNX file of the same network gives in float64."""
    model = onnx.load(case.folder / "silero_vad_16k_op15.onnx")
    in_float64(model.graph)
    return speech_probabilities(open_model(model), case.inputs["frames576"].astype(np.float64))


def test_the_program_detects_the_voices_of_the_original(case: Any) -> None:
    model = onward.load(case.folder / "silero_vad.jit")
    assert model.inputs == ("x", "sr", "_state", "_context", "_last_sr", "_last_batch_size")
    found, original = speech(model, case.inputs["audio_16k"], 16000), case.expected["prob"]
    reference = exact(case)
    rounding = np.abs(original - reference).max()  # float32 rounding in the original, whose states reach 34
    assert rounding < 2e-5
    assert np.abs(found - reference).max() < 2 * rounding
    again = speech(model, case.inputs["audio_16k"], 16000)  # a call does not change the model
    np.testing.assert_array_equal(again, found)
    stream = model.stream(sr=16000)
    windows = case.inputs["audio_16k"].reshape(-1, 1, 512)
    np.testing.assert_array_equal([stream(window).item() for window in windows], found)


def test_the_program_streams_pools_and_is_saved_as_one_graph(case: Any, tmp_path: Path) -> None:
    model = onward.load(case.folder / "silero_vad.jit")
    windows = case.inputs["audio_16k"][: 60 * 512].reshape(-1, 512)
    found = speech(model, windows.ravel(), 16000)
    pool = model.pool(4, sr=16000)
    ids = pool.open(2)
    streams = [model.stream(sr=16000) for _ in ids]
    for step in range(20):  # the second stream starts later
        rows = windows[[step, step + 40]][: 1 + (step > 3)]
        alone = [stream(row[None]) for stream, row in zip(streams, rows, strict=False)]
        np.testing.assert_array_equal(pool.step(ids[: len(rows)], rows), np.concatenate(alone))
    fixed = onward.load(case.folder / "silero_vad.jit", inputs={"sr": 16000})
    fixed.save(tmp_path / "m.safetensors")
    fixed.export_onnx(tmp_path / "m.onnx")
    for path in ("m.safetensors", "m.onnx"):
        restored = onward.load(tmp_path / path)
        stream = restored.stream(carry={"_state": "_state_out", "_context": "_context_out"})
        np.testing.assert_array_equal([stream(window[None]).item() for window in windows], found)


def test_every_second_sample_at_8_khz_gives_similar_decisions(case: Any) -> None:
    model = onward.load(case.folder / "silero_vad.jit")
    found = speech(model, case.inputs["audio_16k"][::2], 8000)
    assert np.mean((found > 0.5) == (case.expected["prob"][: len(found)] > 0.5)) > 0.95


def test_another_method_runs_the_whole_recording(case: Any) -> None:
    audio = case.inputs["audio_16k"][: 20 * 512]
    whole = onward.load(case.folder / "silero_vad.jit", method="audio_forward")(audio[None], 16000)[0]
    model = onward.load(case.folder / "silero_vad.jit")
    np.testing.assert_allclose(whole[0], speech(model, audio, 16000), rtol=0, atol=1e-6)


def test_a_part_of_the_program_gives_the_state_of_the_original(case: Any) -> None:
    decoder = onward.load(case.folder / "silero_vad.jit", part="_model.decoder")
    x, state, hidden = case.inputs["lstm_x"], np.zeros((2, 1, 128), np.float32), []
    for step in x:
        probability, state = decoder(step[:, :, None], state)
        hidden.append(state[0])
    np.testing.assert_allclose(hidden, case.expected["lstm_y"], atol=2e-6)
    np.testing.assert_allclose(state[1:], case.expected["cn"], atol=5e-5)
    assert probability.shape == (1, 1, 1)


def test_unsupported_rates_and_sizes_raise_the_error_of_the_code(case: Any) -> None:
    model = onward.load(case.folder / "silero_vad.jit")
    audio = case.inputs["audio_16k"][None]
    with pytest.raises(
        onward.errors.ArgumentError, match=r"vad_annotator.py, line \d+: the code raises .*Supported"
    ):
        model(audio[:, :512], 11025)
    with pytest.raises(onward.errors.ArgumentError, match="Provided number of samples is 600"):
        model(audio[:, :600], 16000)


def in_float64(graph: onnx.GraphProto) -> None:
    """Convert all tensors of a graph and of its branches to float64."""
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        kind.elem_type = TensorProto.DOUBLE if kind.elem_type == TensorProto.FLOAT else kind.elem_type
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] * attribute.HasField("t")
            if attribute.HasField("g"):
                in_float64(attribute.g)
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def speech_probabilities(graph: Any, frames: NDArray[Any]) -> NDArray[Any]:
    """The probability of speech in each frame; the state is passed from call to call."""
    state, probabilities = np.zeros((2, 1, 128), frames.dtype), []
    for frame in frames:
        probability, state = graph(frame[None], state, np.array(16000))
        probabilities.append(probability.item())
    return np.array(probabilities)


def test_the_onnx_graph_with_its_lstm_in_a_branch_detects_the_same(case: Any) -> None:
    path, frames, original = (
        case.folder / "silero_vad_16k_op15.onnx",
        case.inputs["frames576"],
        case.expected["prob"],
    )
    model = onnx.load(path)
    in_float64(model.graph)
    exact = speech_probabilities(open_model(model), frames.astype(np.float64))
    rounding = np.abs(original - exact).max()  # float32 rounding in the original, whose states reach 34
    assert rounding < 2e-5
    assert np.abs(speech_probabilities(onward.load(path), frames) - exact).max() < 2 * rounding


def test_a_stream_feeds_the_state_back_with_the_bits_of_the_calls_by_hand(case: Any) -> None:
    model, frames = onward.load(case.folder / "silero_vad_16k_op15.onnx"), case.inputs["frames576"]
    stream = model.stream(sr=16000)  # the state is found by its name
    live = np.array([stream(frame[None]).item() for frame in frames])
    np.testing.assert_array_equal(live, speech_probabilities(model, frames))


def test_page_about_silero_runs_with_the_published_file(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(case.folder / "silero_vad_16k_op15.onnx", "silero_vad.onnx")
    page = ROOT / "docs" / "how_to" / "silero_vad.md"
    assert page in pages.pages_of("tests")
    pages.run(page, "tests")

"""Silero's voice detector: TorchScript with convolutions and an LSTM cell, run frame by frame."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from support.onnx_nodes import open_model

import onward


@pytest.fixture
def parts(case: Any) -> Any:
    return onward.load(case.folder / "silero_vad.jit")


def test_all_layers_are_found_with_their_options(parts: Any) -> None:
    found = {path.removeprefix("_model."): repr(layer) for path, layer in parts.items() if "8k" not in path}
    assert found == {
        "encoder.0.reparam_conv": "Conv1d(129, 128, 3, padding=1)",
        "encoder.1.reparam_conv": "Conv1d(128, 64, 3, stride=2, padding=1)",
        "encoder.2.reparam_conv": "Conv1d(64, 64, 3, stride=2, padding=1)",
        "encoder.3.reparam_conv": "Conv1d(64, 128, 3, padding=1)",
        **{f"encoder.{layer}.activation": "Activation('relu')" for layer in range(4)},
        "decoder.rnn": "LSTM(128, 128)",
        "decoder.decoder.1": "Activation('relu')",
        "decoder.decoder.2": "Conv1d(128, 1, 1)",
        "decoder.decoder.3": "Activation('sigmoid')",
    }
    assert parts.reasons["_model.stft"] == "STFT, which Onward does not support"


def lstm_input(case: Any, parts: Any) -> NDArray[Any]:
    """The input of the LSTM (T, 128) for frames of audio: convolutions of the magnitudes of an STFT."""
    basis = onward.load_tensors(case.folder / "silero_vad.jit")["_model.stft.forward_basis_buffer"]
    transform = onward.Conv1d(1, len(basis), basis.shape[2], stride=128, bias=False)
    transform.load_state_dict({"weight": basis})
    frames = np.pad(case.inputs["frames576"], ((0, 0), (0, 64)), mode="reflect")
    real, imaginary = np.split(transform(frames[:, None]), 2, axis=1)
    y = np.sqrt(real**2 + imaginary**2)
    for layer in range(4):
        y = np.maximum(parts[f"_model.encoder.{layer}.reparam_conv"](y), 0)
    return y[..., 0]


def test_arrays_are_those_of_the_original(case: Any, parts: Any) -> None:
    x = lstm_input(case, parts)
    np.testing.assert_allclose(x, case.inputs["lstm_x"][:, 0], atol=2e-4, rtol=1e-4)
    y, (h, c) = parts["_model.decoder.rnn"](case.inputs["lstm_x"])
    np.testing.assert_allclose(y, case.expected["lstm_y"], atol=2e-6)
    np.testing.assert_allclose(h, case.expected["hn"], atol=2e-6)
    np.testing.assert_allclose(c, case.expected["cn"], atol=5e-5)


def voice(parts: Any, frames: NDArray[Any]) -> NDArray[Any]:
    """The probability of speech in each frame, with one call per frame."""
    stream = parts["_model.decoder.rnn"].stream()
    y = np.stack([stream(frame) for frame in frames])
    relu, conv, sigmoid = (parts[f"_model.decoder.decoder.{k}"] for k in (1, 2, 3))
    return sigmoid(conv(relu(y).T))[0]


def test_streaming_detects_the_voices_of_the_original(case: Any, parts: Any) -> None:
    np.testing.assert_allclose(voice(parts, case.inputs["lstm_x"][:, 0]), case.expected["prob"], atol=2e-6)
    # the layers before add hundreds of products in another order, and states reach 34
    np.testing.assert_allclose(voice(parts, lstm_input(case, parts)), case.expected["prob"], atol=5e-5)


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

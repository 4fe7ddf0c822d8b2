"""BeatNet's beat tracker: a PyTorch state dict with a convolution before the LSTM, run frame by frame."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import onward


@pytest.fixture
def parts(case: Any) -> Any:
    return onward.load(case.folder / "model_1_weights.pt")


def front(case: Any, parts: Any) -> NDArray[Any]:
    """The input of the LSTM for each frame: (T, 150)."""
    tensors = onward.load_tensors(case.folder / "model_1_weights.pt")
    conv = onward.Conv1d(1, 2, 10)
    conv.load_state_dict({name: tensors[f"conv1.{name}"] for name in ("weight", "bias")})
    y = onward.MaxPool1d(2)(np.maximum(conv(case.inputs["features"][:, None]), 0))
    return parts["linear0"](y.reshape(len(y), -1))


def test_the_convolution_is_left_over_with_a_reason(parts: Any) -> None:
    assert list(parts) == ["linear0", "lstm", "linear"]
    assert "does not record" in parts.reasons["conv1"]


def test_arrays_are_those_of_the_original(case: Any, parts: Any) -> None:
    x = front(case, parts)
    np.testing.assert_allclose(x, case.inputs["lstm_x"][0], atol=5e-6)
    y, (h, c) = parts["lstm"](case.inputs["lstm_x"].swapaxes(0, 1), (case.inputs["h0"], case.inputs["c0"]))
    for mine, name in ((y.swapaxes(0, 1), "lstm_y"), (h, "hn"), (c, "cn")):
        np.testing.assert_allclose(mine, case.expected[name], atol=2e-5)
    logits = parts["linear"](parts["lstm"](x)[0])
    np.testing.assert_allclose(logits.T, case.expected["logits"][0], atol=5e-5)
    np.testing.assert_allclose(onward.Softmax()(logits).T, case.expected["prob"], atol=2e-5)


def test_streaming_gives_the_bits_of_a_call(case: Any, parts: Any) -> None:
    x = front(case, parts)
    y, _ = parts["lstm"](x)
    stream = parts["lstm"].stream()
    for frame, whole in zip(x, y, strict=True):
        np.testing.assert_array_equal(stream(frame), whole)
    logits = parts["linear"](y)
    np.testing.assert_allclose(logits.T, case.expected["streaming_logits"], atol=5e-5)


def test_beats_are_found_where_they_were_composed(case: Any, parts: Any) -> None:
    beat, downbeat, _ = onward.Softmax()(parts["linear"](parts["lstm"](front(case, parts))[0])).T
    active = np.flatnonzero(np.maximum(beat, downbeat) > 0.5) * 0.02
    assert set(np.round(active * 2) / 2) == set(np.arange(1, 16) / 2)

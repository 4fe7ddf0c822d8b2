"""A wake word is heard once, at its end, whatever the blocks; inputs have the quantization of the file."""

from typing import Any

import numpy as np
import pytest
from support import DATA

from onward.errors import ArgumentError, DtypeError
from onward.formats.tflite.read import Tensor, read
from onward.recipes import WakeWord, wake_word

MODEL = DATA / "tflite" / "mww_okay_nabu.tflite"


class Frontend:
    """Returns the features of the case, one frame after the other, as the front end does for sound."""

    def __init__(self) -> None:
        main = read(MODEL.read_bytes()).subgraphs[0]
        x = main.tensors[main.inputs[0]]
        steps = np.load(MODEL.with_suffix(".npz"))["x"].reshape(-1, 40).astype(np.float32)
        self.frames, self.place = (steps - x.zero_point) * np.float32(x.scale), 0

    def reset(self) -> None:
        self.place = 0

    def process_samples(self, sound: bytes) -> Any:
        assert len(sound) == 320
        self.place += 1
        self.features = self.frames[self.place - 1].tolist()
        return self


@pytest.fixture(autouse=True)
def frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_word, "_frontend", Frontend)


@pytest.mark.parametrize("size", [1, 100, 160, 1000])
def test_probabilities_are_means_of_the_outputs_of_the_model(size: int) -> None:
    outputs = np.load(MODEL.with_suffix(".npz"))["y0"].ravel() / 256
    word, sound = WakeWord(MODEL), np.zeros(160 * 3 * len(outputs), np.int16)
    heard = [word(block) for block in np.split(sound, range(size, len(sound), size))]
    assert heard[-1].probability == pytest.approx(outputs[-5:].mean())
    means = np.convolve(outputs, np.full(5, 0.2))[4 : len(outputs)]
    first = 4 + int(np.argmax(means > 0.97))
    detections = [seconds for each in heard for seconds in each.detections]
    assert detections == [pytest.approx((first + 1) * 0.03)]
    word.reset()
    assert word(sound[:4800]) == (pytest.approx(outputs[5:10].mean()), [])


def test_real_numbers_are_rounded_and_clipped_to_the_integers_of_a_border() -> None:
    tensor = Tensor("x", "int8", (1, 3, 40), scales=np.float32([0.1]), zero_points=np.array([-128]))
    found = wake_word.quantized(np.array([0, 0.26, 12.7, 100, -5], np.float32), tensor)
    assert found.dtype == np.int8 and found.tolist() == [-128, -125, -1, 127, -128]


def test_other_models_and_samples_are_refused() -> None:
    with pytest.raises(ArgumentError, match="expected one input"):
        WakeWord(DATA / "tflite" / "keras_lstm.tflite")
    with pytest.raises(ArgumentError, match="cutoff=2"):
        WakeWord(MODEL, cutoff=2)
    with pytest.raises(DtypeError, match="expected int16"):
        WakeWord(MODEL)(np.zeros(160))

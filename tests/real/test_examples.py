"""The examples run the published models that they are for."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.examples import example, write_wav

CASES = Path(os.environ["ONWARD_CASES"])


@pytest.mark.parametrize("live", [False, True], ids=["at once", "live"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [  # from silero_vad.utils_vad.get_speech_timestamps_from_probs, with the original models' probabilities
        ("silero_vad/silero_vad.jit", [(6176, 30688), (46112, 88032)]),
        ("silero_vad/silero_vad_16k_op15.onnx", [(6176, 30688), (46112, 88032)]),
        ("silero_v6/silero_vad_v6.onnx", [(6176, 30176), (46624, 87008)]),
    ],
)
def test_voice_detector_finds_the_segments_of_silero(
    name: str, expected: list[tuple[int, int]], live: bool, tmp_path: Path
) -> None:
    module = example("voice_detector")
    audio = np.load(CASES / "silero_vad" / "inputs.npz")["audio_16k"]
    write_wav(tmp_path / "speech.wav", audio)
    detector = module.Detector(CASES / name)
    blocks = module.read(tmp_path / "speech.wav", module.WINDOW if live else -1)
    assert list(module.segments((p for block in blocks for p in detector(block)), len(audio))) == expected


def test_noise_suppressor_gives_the_sound_of_dtln() -> None:
    folder = CASES / "dtln"
    suppressor = example("noise_suppressor").Suppressor(folder / "model_1.onnx", folder / "model_2.onnx")
    audio = np.load(folder / "inputs.npz")["audio"]
    clean = np.concatenate([suppressor(block) for block in audio.reshape(-1, 128)])
    np.testing.assert_allclose(clean, np.load(folder / "expected.npz")["audio"], atol=1e-5)

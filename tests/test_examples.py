"""Run the examples and check what they do; tests/real runs those of published models on the models."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DATA
from support.examples import detector_of_voices, dtln_stage, example, write_wav

import onward


def test_textbook_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("textbook_training").train(epochs=6, units=16) > 0.6
    assert "epoch 6: loss 0." in capsys.readouterr().out


def test_scikit_learn_example_recognizes_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("sklearn_classifier").main(epochs=10) > 0.8
    assert "best parameters: {'cell': " in capsys.readouterr().out


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    """Run an example from its command line."""
    monkeypatch.setattr(sys, "argv", ["example", *map(str, arguments)])
    module.main()


def test_voice_detector_finds_the_same_segments_live_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, rng = example("voice_detector"), np.random.default_rng(0)
    onward.export_onnx(detector_of_voices(), tmp_path / "vad.onnx")
    loud = np.repeat([0, 1, 0, 1, 0, 0, 1, 0.0], [30, 20, 1, 25, 60, 10, 3, 40])  # windows
    sound = rng.uniform(-0.5, 0.5, len(loud) * 512) * np.repeat(loud, 512)
    write_wav(tmp_path / "x.wav", sound[:-100])
    printed = []
    for options in ((), ("--live",)):
        run(module, monkeypatch, tmp_path / "vad.onnx", tmp_path / "x.wav", *options)
        printed.append(capsys.readouterr().out)
    # the pause of one window is no end, and the last sound is too short
    assert printed[0] == printed[1] == f"{(30 * 512 - 480) / 16000:.3f} {(76 * 512 + 480) / 16000:.3f}\n"


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [  # from silero_vad.utils_vad.get_speech_timestamps_from_probs, silero-vad 6.2.3
        ([0.9] * 8, []),
        ([0.9] * 9, [(0, 4508)]),
        ([0.1] + [0.9] * 9 + [0.1] * 5, [(32, 5600)]),
        ([0.9] * 9 + [0.4] * 9 + [0.1] * 4, [(0, 11164)]),
        ([0.9] * 9 + [0.1] * 3 + [0.9] + [0.1] * 5, [(0, 7136)]),
        ([0.9] * 9 + [0.1] * 5 + [0.4] * 3 + [0.9] * 9 + [0.1] * 5, [(0, 5088), (8224, 13792)]),
        ([], []),
    ],
)
def test_segments_are_those_of_silero(probabilities: list[float], expected: list[tuple[int, int]]) -> None:
    segments = example("voice_detector").segments
    assert list(segments(probabilities, max(0, len(probabilities) * 512 - 100))) == expected


def test_noise_suppressor_runs_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, rng = example("noise_suppressor"), np.random.default_rng(0)
    paths = [tmp_path / "1.onnx", tmp_path / "2.onnx"]
    onward.export_onnx(dtln_stage(257), paths[0])
    onward.export_onnx(dtln_stage(512), paths[1])
    sound = np.round(rng.uniform(-0.2, 0.2, 1000) * 32768) / 32768
    write_wav(tmp_path / "noisy.wav", sound)
    run(module, monkeypatch, *paths, tmp_path / "noisy.wav", tmp_path / "clean.wav")
    assert "real-time factor 0." in capsys.readouterr().out
    # both stages halve the sound at first, then a quarter more per block; the windows add up to four
    scale = 1 - 0.5 ** np.arange(1, 9)
    padded = np.pad(sound, (384, 24))
    expected = np.zeros(8 * 128 + 384)
    for i, s in enumerate(scale):
        expected[i * 128 :][:512] += s * s * padded[i * 128 :][:512]
    (clean,) = example("voice_detector").read(tmp_path / "clean.wav")
    np.testing.assert_allclose(clean[:1000], np.clip(expected[:1000], -1, 1), atol=2e-4)


def test_the_wake_word_is_heard_in_a_recording(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymicro_features")
    folder = DATA / "tflite"
    run(example("wake_word"), monkeypatch, folder / "mww_okay_nabu.tflite", folder / "okay_nabu.wav")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("heard after 2.") and lines[1].endswith("1.00")


def test_forecaster_of_keras_forecasts_the_rows_of_keras(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DATA / "keras"
    files = (folder / "forecaster.keras", folder / "forecaster.csv")
    run(example("forecast"), monkeypatch, *files, "--columns", "load", "temperature", "--window", "48")
    lines = capsys.readouterr().out.splitlines()
    expected = np.loadtxt(folder / "forecaster_answer.csv", delimiter=",", skiprows=1)
    assert lines[0] == "load,temperature"
    np.testing.assert_allclose(np.loadtxt(lines[1:], delimiter=","), expected, atol=2e-3)


def test_forecasts_of_several_rows_are_cut_to_the_steps() -> None:
    series = np.arange(10, dtype=np.float32)[:, None]
    found = example("forecast").forecast(lambda x: x[:, -1:] + [[[1], [2], [3]]], series, window=4, steps=5)
    np.testing.assert_array_equal(found[:, 0], [10, 11, 12, 13, 14])


def test_policy_remembers_the_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(example("policy"), monkeypatch, "--environments", "200", "--steps", "60")
    assert capsys.readouterr().out.startswith("100.0% of the episodes ended in a reward")

"""`onward compile`: files that run in C."""

from pathlib import Path

import numpy as np
from support.cli import invoke, message, report
from support.examples import detector_of_voices

import onward


def test_a_compiled_model_has_the_outputs_of_the_model(tmp_path: Path) -> None:
    model, path = detector_of_voices(), tmp_path / "vad.onward"
    onward.export_onnx(model, tmp_path / "vad.onnx")
    found = report("compile", tmp_path / "vad.onnx", "-o", path, "--fix", "sr=16000")
    assert found["inputs"] == ["input", "state"] and found["outputs"] == ["output", "stateN"]
    assert found["file_bytes"] == path.stat().st_size and found["call_programs"] and found["block_programs"]
    rng = np.random.default_rng(0)
    for batch in (1, 4):
        x, state = (rng.normal(size=s).astype(np.float32) for s in ((batch, 576), (2, batch, 128)))
        for y, expected in zip(onward.load(path)(x, state), model(x, state, np.int64(16000)), strict=True):
            np.testing.assert_array_equal(y, expected)


def test_it_shows_what_the_file_holds(tmp_path: Path) -> None:
    bidirectional = onward.LSTM(3, 4, bidirectional=True, rng=0)
    bidirectional.save(tmp_path / "x.safetensors")
    shown = " ".join(
        invoke("compile", tmp_path / "x.safetensors", "-o", tmp_path / "x.onward", expect=0).output.split()
    )
    assert "Calls: 1 program." in shown and "No streams: node 0 (Recurrent): cannot stream" in shown


def test_errors_tell_what_to_do(tmp_path: Path) -> None:
    onward.export_onnx(detector_of_voices(), tmp_path / "x.onnx")
    out = ("-o", tmp_path / "x.onward")
    for arguments, expected in (
        ((*out, "--fix", "sr"), "expected NAME=NUMBER, such as sr=16000"),
        ((*out, "--fix", "sr=high"), "'high' is not a number"),
        ((*out, "--fix", "rate=1"), "unknown inputs: rate"),
        (("-o", tmp_path / "x.bin"), "must end in one of .onward"),
    ):
        result = invoke("compile", tmp_path / "x.onnx", *arguments)
        assert result.exit_code in (1, 2) and expected in message(result), message(result)
    assert not (tmp_path / "x.onward").exists()

"""`onward compile`: files that run in C."""

from pathlib import Path

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.examples import detector_of_voices

import onward
from onward.errors import FileError
from onward.tables.model_files import load_saved


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
    assert "Calls: 4 programs." in shown and "No streams: node 0 (Recurrent): cannot stream" in shown


def test_a_compiled_model_is_verified_against_its_source_with_inputs_that_it_declares(tmp_path: Path) -> None:
    compiled, layers = tmp_path / "x.onward", tmp_path / "x.safetensors"
    onward.Sequential(onward.GRU(3, 4, rng=0), onward.Linear(4, 2, rng=1)).save(layers)
    invoke("compile", layers, "-o", compiled, expect=0)
    for model, other in ((compiled, layers), (layers, compiled)):
        assert "All outputs agree" in invoke("verify", model, "--against", other, expect=0).output


def test_errors_tell_what_to_do(tmp_path: Path) -> None:
    onward.export_onnx(detector_of_voices(), tmp_path / "x.onnx")
    out = ("-o", tmp_path / "x.onward")
    for arguments, expected in (
        ((*out, "--fix", "sr"), "'sr'; expected NAME=VALUE with a number or a JSON list, such as sr=16000"),
        ((*out, "--fix", "sr=high"), "'sr=high'; expected NAME=VALUE with a number"),
        ((*out, "--fix", 'sr="16000"'), "expected NAME=VALUE with a number"),
        ((*out, "--fix", "rate=1"), "unknown inputs: rate"),
        ((*out, "--fix", "carry=1"), "unknown inputs: carry"),  # an argument of compile
        (("-o", tmp_path / "x.bin"), "must end in one of .onward"),
    ):
        result = invoke("compile", tmp_path / "x.onnx", *arguments)
        assert result.exit_code in (1, 2) and expected in message(result), message(result)
    assert not (tmp_path / "x.onward").exists()


def test_a_compiled_model_keeps_columns_classes_and_scaling(tmp_path: Path) -> None:
    rng, table = np.random.default_rng(0), tmp_path / "x.csv"
    names = ("cat", "dog")
    rows = [
        f"{sequence},{rng.normal(sequence % 2):.3f},{rng.normal():.3f},{names[sequence % 2]}"
        for sequence in range(12)
        for _ in range(3 + sequence % 4)
    ]
    table.write_text("\n".join(["animal,a,b,kind", *rows]) + "\n")
    plain, compiled = tmp_path / "m.safetensors", tmp_path / "m.onward"
    columns = ("--group", "animal", "--target", "kind", "--input", "b,a")
    report("train", "table", table, *columns, "--epochs", 1, "--hidden", 8, "--bidirectional", "-o", plain)
    found = report("compile", plain, "-o", compiled)
    assert found["file_bytes"] == compiled.stat().st_size
    assert load_saved(compiled) == load_saved(plain)
    for path in (plain, compiled):
        report("run", path, table, "--out", path.with_suffix(f"{path.suffix}.csv"))
    outputs = (tmp_path / "m.onward.csv").read_text()
    assert outputs == (tmp_path / "m.safetensors.csv").read_text() and "predicted,cat,dog" in outputs
    shown, described = invoke("info", compiled, expect=0).output, report("info", compiled)
    assert "programs, not layers" in shown and "targets kind" in shown and "There is no stream" in shown
    (x,), (y,) = described["inputs"], described["outputs"]
    assert (x["name"], x["dtype"], x["axes"][-1]) == ("x", "float32", 2) and y["axes"][-1] == 2
    for command in (("convert", compiled, tmp_path / "y.onnx"), ("info", "--graph", compiled)):
        assert "the model that was compiled" in message(invoke(*command))
    content = compiled.read_bytes()
    compiled.write_bytes(content[:-1] + b"x")
    with pytest.raises(FileError, match="its checksum is wrong"):
        onward.load(compiled)


@pytest.mark.parametrize(
    "command", ["compile", "convert", "explore", "export-c", "quantize", "serve", "trace"]
)
def test_commands_that_need_layers_refuse_a_compiled_model(tmp_path: Path, command: str) -> None:
    lstm, out = tmp_path / "m.safetensors", str(tmp_path / "out")
    onward.Sequential(onward.LSTM(3, 4, rng=0), onward.Linear(4, 2, rng=1)).save(lstm)
    invoke("compile", lstm, "-o", tmp_path / "m.onward")
    np.save(tmp_path / "x.npy", np.zeros((2, 5, 3), np.float32))
    arguments = {
        "compile": ("-o", f"{out}.onward"),
        "convert": (f"{out}.onnx",),
        "explore": ("--save", out),
        "export-c": ("-o", f"{out}.c"),
        "quantize": ("-o", f"{out}.safetensors", "--to", "int8"),
        "trace": (tmp_path / "x.npy",),
    }
    told = message(invoke(command, tmp_path / "m.onward", *arguments.get(command, ()), expect=1))
    assert "m.onward is compiled: it holds programs, not layers, for `onward run`" in told

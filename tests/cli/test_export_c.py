"""`onward export-c`: models as C."""

from pathlib import Path

import numpy as np
from support import c_code
from support.cli import invoke, message, report
from support.examples import detector_of_voices

import onward
from onward.graph import Graph, Input
from onward.model import Model


def test_the_command_writes_c_whose_test_passes(tmp_path: Path) -> None:
    onward.export_onnx(detector_of_voices(), tmp_path / "vad.onnx")
    sizes = ("--fix", "sr=16000", "--size", "sequence=576")
    found = report("export-c", tmp_path / "vad.onnx", "--stream", *sizes, "-o", tmp_path / "vad.c")
    assert found["inputs"] == {"input": [1, 576]} and found["state"] == 1024
    assert [Path(file).name for file in found["files"]] == ["vad.c", "vad.h", "vad_test.c"]
    program = c_code.compiled([tmp_path / "vad.c", tmp_path / "vad_test.c"])
    assert c_code.run(program).startswith("PASS")


def test_sizes_are_printed_and_nothing_is_written_if_there_is_no_c(tmp_path: Path) -> None:
    onward.GRU(3, 4, bidirectional=True, rng=0).save(tmp_path / "gru.safetensors")
    command = ("export-c", tmp_path / "gru.safetensors", "-o", tmp_path / "gru.c")
    for more, expected in (
        (("--stream",), "cannot stream"),
        ((), "the axis time of x is open"),
        (("--size", "time"), "expected AXIS=N, such as time=16"),
        (("--size", "time=1.5"), "expected AXIS=N, such as time=16"),  # which was a size of 1
        (("--prefix", "a-b", "--size", "time=5"), "must be a name of C"),
        (("--fix", "prefix=3", "--size", "time=5"), "unknown inputs: prefix"),
        (("--fix", "time_axis=3", "--size", "time=5"), "unknown inputs: time_axis"),
    ):
        result = invoke(*command, *more)
        assert result.exit_code in (1, 2) and expected in message(result), message(result)
    assert not list(tmp_path.glob("*.c"))
    shown = invoke(*command, "--size", "time=5", expect=0).output
    assert "constants, in flash" in shown and "multiply-adds" in shown and "gru_test.c" in shown


def test_the_files_have_the_name_of_out_and_functions_that_of_prefix(tmp_path: Path) -> None:
    onward.GRU(3, 4, rng=0).save(tmp_path / "gru.safetensors")
    out = tmp_path / "my-model.c"
    found = report("export-c", tmp_path / "gru.safetensors", "-o", out, "--stream", "--prefix", "cell")
    assert [Path(file).name for file in found["files"]] == ["my-model.c", "my-model.h", "my-model_test.c"]
    assert "void cell_step(" in out.with_suffix(".h").read_text()
    assert c_code.run(c_code.compiled([out, tmp_path / "my-model_test.c"])).startswith("PASS")


def test_calibration_prints_its_accuracy_and_takes_single_arrays(tmp_path: Path) -> None:
    onward.GRU(3, 20, rng=0).save(tmp_path / "gru.safetensors")
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(tmp_path / "named.npz", x=x)
    np.save(tmp_path / "single.npy", x)
    command = ("export-c", tmp_path / "gru.safetensors", "-o", tmp_path / "gru.c", "--stream", "--calibrate")
    found = report(*command, tmp_path / "named.npz")
    assert 0 < found["relative_error"] < 0.1
    again = report(*command, tmp_path / "single.npy", "--data", tmp_path / "named.npz")
    assert again["relative_error"] == found["relative_error"]
    program = c_code.compiled([tmp_path / "gru.c", tmp_path / "gru_test.c"])
    assert c_code.run(program).startswith("PASS")


def test_int8_prints_its_accuracy_on_data(tmp_path: Path) -> None:
    onward.GRU(3, 20, rng=0).save(tmp_path / "gru.safetensors")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    command = ("export-c", tmp_path / "gru.safetensors", "-o", tmp_path / "gru.c", "--stream", "--int8")
    found = report(*command, "--data", tmp_path / "data.npz")
    assert 0 < found["relative_error"] < 0.1 and found["largest_difference"] < 0.1
    assert "relative error" in invoke(*command, expect=0).output
    program = c_code.compiled([tmp_path / "gru.c", tmp_path / "gru_test.c"])
    assert c_code.run(program).startswith("PASS")


def test_an_input_named_like_an_argument_is_not_fixed(tmp_path: Path) -> None:
    """It replaced the argument."""
    graph = Graph()
    x, rows = graph.add_input("x", np.float32, (5,)), graph.add_input("rows", np.float32, ())
    graph.outputs, graph.declared_outputs = (graph.add("Add", x, rows),), (Input("y"),)
    Model(graph).save(tmp_path / "sum.safetensors")
    command = ("export-c", tmp_path / "sum.safetensors", "-o", tmp_path / "sum.c")
    assert "the input rows cannot be fixed" in message(invoke(*command, "--fix", "rows=1", expect=2))

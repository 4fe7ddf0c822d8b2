"""`onward run` and `onward quantize --check` with models that take the arrays of an .npz file in one call."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.onnx_nodes import normal

import onward
from onward.graph import Graph, Input, Model


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Any]:
    """A model with two inputs and three outputs, an .npz file of inputs, and the outputs."""
    graph = Graph()
    x, z = graph.add_input("x", np.float32, ("B", 4)), graph.add_input("z", np.float32, ("B", 3))
    products = [
        graph.add("MatMul", name, graph.add_constant(abs(normal(n, 5)))) for name, n in ((x, 4), (z, 3))
    ]
    total = graph.add("Add", *products)
    graph.outputs = (total, graph.add("Log", total), graph.add("ArgMax", total, axis=1))
    graph.declared_outputs = tuple(Input(name) for name in ("total", "log", "best"))
    model = Model(graph)
    model.save(tmp_path / "model.safetensors")
    inputs = {"z": normal(6, 3), "x": normal(6, 4)}
    np.savez(tmp_path / "inputs.npz", **inputs)  # type: ignore[arg-type]  # NumPy's stub takes the names for options
    return tmp_path / "model.safetensors", tmp_path / "inputs.npz", model(**inputs)


def test_run_passes_arrays_by_name_and_writes_every_output(
    files: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    path, inputs, expected = files
    out = tmp_path / "outputs.npz"
    reported = report("run", path, inputs, "--out", out, "--on-error", "keep")
    with np.load(out) as written:
        assert list(written) == ["total", "log", "best"]
        for name, y in zip(written, expected, strict=True):
            np.testing.assert_array_equal(written[name], y)
    total = reported["outputs"][0]
    assert (total["name"], total["shape"], total["max"]) == ("total", [6, 5], expected[0].max())
    shown = invoke("run", path, inputs, "--on-error", "keep", expect=0).output
    assert "best" in shown and "(6, 1)" in shown and "One call in" in shown


def test_outputs_that_are_nan_stop_a_run(files: tuple[Path, Path, Any], tmp_path: Path) -> None:
    path, inputs, expected = files
    assert np.isnan(expected[1]).any()
    result = invoke("run", path, inputs, "--out", tmp_path / "outputs.npz", expect=1)
    assert "NaN in the outputs log" in message(result) and not (tmp_path / "outputs.npz").exists()


def test_options_of_sequences_and_other_formats_are_refused(files: tuple[Path, Path, Any]) -> None:
    path, inputs, _ = files
    for option in ("--window", "--workers", "--input"):
        assert "only for sequences" in message(invoke("run", path, inputs, option, "3", expect=2))
    assert "must end in one of .npz" in message(invoke("run", path, inputs, "--out", "y.csv", expect=2))
    assert "overwrite INPUT" in message(invoke("run", path, inputs, "--out", inputs, expect=2))


def test_quantize_compares_all_outputs_of_one_call(files: tuple[Path, Path, Any], tmp_path: Path) -> None:
    path, _, _ = files
    arrays = {"x": abs(normal(2, 4)), "z": abs(normal(2, 3))}  # their logarithms are finite
    np.savez(tmp_path / "positive.npz", **arrays)  # type: ignore[arg-type]  # as above
    model: Any = onward.load(path)
    small, out = model.quantize("int8"), tmp_path / "small.safetensors"
    arguments = ("quantize", path, "--to", "int8", "-o", out, "--check", tmp_path / "positive.npz")
    pairs = zip(model(**arrays)[:2], small(**arrays)[:2], strict=True)
    assert report(*arguments)["largest_difference"] == max(np.abs(a - b).max() for a, b in pairs) > 0
    out.unlink()
    result = invoke(*arguments, "--tolerance", "1e-9", expect=1)
    assert "exceeds the tolerance" in message(result) and not out.exists()


def test_damaged_arrays_are_a_message(files: tuple[Path, Path, Any]) -> None:
    """`run` ended in BadZipFile for a file that starts as .npz."""
    path, inputs, _ = files
    whole, rng, refused = inputs.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        content = bytearray(whole[: int(rng.integers(1, len(whole))) if rng.random() < 0.5 else None])
        for place in rng.integers(0, len(content), 3):
            content[place] ^= int(rng.integers(1, 256))
        inputs.write_bytes(content)
        result = invoke("run", path, inputs)
        refused += result.exit_code
        assert result.exit_code == 0 or message(result).startswith("Error: ")
    assert refused > 50


def test_a_model_of_several_inputs_is_not_compared_with_layers(files: tuple[Path, Path, Any]) -> None:
    told = message(invoke("verify", files[0], "--against", "vowels", expect=1))
    assert "layers take one array, not x, z" in told

"""`verify` finds differences, their position, and rows, threads and instruction sets that change bits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.cli import invoke, report
from support.onnx_nodes import model_of, open_model

import onward
from onward import errors
from onward.graph.over_time.named_carries import from_zeros
from onward.layers.graphs import graph_of
from onward.model import Model

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def test_the_largest_difference_is_found_with_its_position() -> None:
    layer, x = onward.LSTM(3, 7), normal(5, 4, 3)
    y, (h, c) = layer(x)
    wrong = y.copy()
    wrong[3, 2, 6] += 0.5
    assert onward.verify(layer, [x], [y, h, c])
    result = onward.verify(layer, [x], [wrong])
    assert not result
    assert result.outputs[0].position == (3, 2, 6)
    assert result.outputs[0].largest == pytest.approx(0.5, rel=1e-5)
    assert result.outputs[0].mean == pytest.approx(0.5 / y.size, rel=1e-4)


def test_nan_equals_nan_only() -> None:
    layer, x = onward.Linear(3, 2), normal(4, 3)
    y = layer(x)
    wrong = y.copy()
    wrong[0, 0] = np.nan
    assert not onward.verify(layer, [x], [wrong])
    x[1] = np.nan
    assert onward.verify(layer, [x], [layer(x)])


def test_bits_are_compared_for_rows_threads_and_instruction_sets() -> None:
    layer, x = onward.GRU(3, 33, batch_first=True), normal(5, 9, 3)
    result = onward.verify(layer, [x], layer(x)[:1])
    assert result.same_bits == {
        "rows": True,
        "blocks of time": True,
        "threads": True,
        "instruction sets": True,
    }
    assert 0 < result.cost["float16"] < result.cost["int8"] < 0.1  # type: ignore[operator]


def test_a_model_whose_rows_depend_on_each_other_is_reported() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    x = normal(5, 3)
    model = open_model(model_of(nodes, {"x": x}, ["y"], {}))
    result = onward.verify(model, {"x": x}, {"y": x - x.max(0)})
    assert result
    assert result.same_bits["rows"] is False


def test_blocks_of_time_are_compared_with_the_whole_call() -> None:
    x = normal(9, 2, 3)
    streams = onward.Sequential(onward.LSTM(3, 7), onward.Linear(7, 2))
    assert onward.verify(streams, [x], [streams(x)]).same_bits["blocks of time"] is True
    last = onward.Sequential(onward.GRU(3, 7, batch_first=True), onward.Last(batch_first=True))
    assert onward.verify(last, [x], [last(x)]).same_bits["blocks of time"] is True
    both = onward.LSTM(3, 7, bidirectional=True)
    assert "does not stream" in str(onward.verify(both, [x], [both(x)[0]]).same_bits["blocks of time"])


LASTS: dict[str, Callable[[int], list[Any]]] = {
    "dense": lambda n: [onward.Linear(n, 2, rng=1)],
    "layers": lambda n: [onward.Linear(n, 4, rng=1), onward.LayerNorm(4), onward.Softmax()],
}


@pytest.mark.parametrize("kind", ["layers", "file"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("end", LASTS)
def test_blocks_of_time_have_the_bits_of_the_whole_call(
    kind: str, batch_first: bool, every_step: bool, end: str, tmp_path: Path
) -> None:
    order = {"batch_first": batch_first}
    last = [] if every_step else [onward.Last(**order)]
    model: Any = onward.Sequential(
        onward.LSTM(3, 7, rng=0, **order), onward.GRU(7, 5, rng=2, **order), *last, *LASTS[end](5)
    )
    x = normal(4, 17, 3)
    y = model(x)
    if kind == "file":
        model.export_onnx(tmp_path / "model.onnx")
        model = onward.load(tmp_path / "model.onnx")
    assert onward.verify(model, [x], [y]).same_bits["blocks of time"] is True


def test_a_stream_with_other_bits_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(9, 2, 3)
    for last in ([], [onward.Last()]):
        model = onward.Sequential(onward.GRU(3, 7, rng=0), *last)
        other = onward.Sequential(onward.GRU(3, 7, rng=1), *last).stream(2)
        monkeypatch.setattr(onward.Sequential, "stream", lambda *_, other=other: other)
        assert onward.verify(model, [x], [model(x)]).same_bits["blocks of time"] is False


@pytest.mark.parametrize("first", [onward.Linear(3, 5, rng=0), onward.Embedding(9, 5, rng=0)])
def test_an_export_is_verified_against_its_source(first: Any, tmp_path: Path) -> None:
    source, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    onward.Sequential(first, onward.LSTM(5, 7, rng=1), onward.Linear(7, 9, rng=2)).save(source)
    invoke("convert", source, path, expect=0)
    for arguments in ((source, "--against", path), (path, "--against", source)):
        found = report("verify", *arguments)
        assert found["passed"]
        assert found["outputs"][0]["largest"] == 0


def chain(bias: float, names: str = "node") -> Any:
    """Return a model of four products, the third of which has a bias."""
    nodes, weights, value = [], {}, "x"
    for i in range(4):
        weights[f"W{i}"] = np.eye(3, dtype=np.float32) / 2 - i / 10
        weights[f"b{i}"] = np.full(3, bias if i == 2 else 0.5, np.float32)
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"g{i}"], name=f"{names}_{i}"))
        nodes.append(helper.make_node("Tanh", [f"g{i}"], [f"t{i}"], name=f"{names}_tanh_{i}"))
        value = f"t{i}"
    return open_model(model_of(nodes, {"x": np.zeros((5, 3), np.float32)}, [value], weights))


@pytest.mark.parametrize("names", ["node", "other"])
def test_the_first_nodes_that_differ_are_named(names: str) -> None:
    x = normal(5, 3)
    result = onward.verify(chain(0.5), [x], chain(0.25, names))
    assert not result and not isinstance(result.divergence, (str, type(None)))
    assert "node_2 " in result.divergence.node and f"{names}_2 " in result.divergence.other
    assert onward.verify(chain(0.5), [x], chain(0.5, names)).divergence is None
    layers = [onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=rng)) for rng in (1, 2)]
    found = onward.verify(layers[0], [normal(5, 2, 3)], layers[1]).divergence
    assert found is not None and "MatMul" in str(found)


def test_outputs_are_matched_by_name() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])]
    x = normal(5, 3)
    model = open_model(model_of(nodes, {"x": x}, ["a", "b"], {}))
    assert onward.verify(model, {"x": x}, {"b": np.abs(x)})
    with pytest.raises(errors.ArgumentError, match="expected outputs c; the model returns a, b"):
        onward.verify(model, {"x": x}, {"c": x})
    with pytest.raises(errors.ShapeError, match=r"a has shape \(5, 3\)"):
        onward.verify(model, {"x": x}, {"a": x[:4]})


@pytest.mark.parametrize("expected", [[], {}, lambda x: {}], ids=["list", "dict", "function"])
def test_a_comparison_of_no_outputs_does_not_pass(expected: Any) -> None:
    with pytest.raises(errors.ArgumentError, match="expected outputs none; the model returns output 0"):
        onward.verify(onward.Linear(3, 2), [normal(5, 3)], expected)


@pytest.mark.parametrize("inputs", [{"x": 0, "lengths": 0, "y": 0}, [0, 0, 0], []])
def test_inputs_that_layers_do_not_take_are_named(inputs: Any) -> None:
    """Calls of layers with them raised TypeError."""
    x = normal(5, 2, 3)
    arrays = [x for _ in inputs] if isinstance(inputs, list) else {name: x for name in inputs}
    with pytest.raises(errors.ArgumentError, match=r"Linear does not take \("):
        onward.verify(onward.Linear(3, 2), arrays, [x])


def test_an_infinite_difference_is_null_in_json(tmp_path: Path) -> None:
    saved, inputs, outputs = (tmp_path / name for name in ("m.safetensors", "x.npz", "y.npz"))
    model, x = onward.Linear(3, 2), normal(5, 3)
    model.save(saved)
    np.savez(inputs, x)
    np.savez(outputs, np.full((5, 2), np.inf))
    result = invoke("verify", saved, inputs, outputs, "--json", expect=1)
    assert json.loads(result.stdout, parse_constant=pytest.fail)["outputs"][0]["largest"] is None


def test_an_array_is_not_a_list_of_its_rows() -> None:
    model, x = onward.Linear(3, 2), normal(1, 3)
    for inputs, expected in ((x, [model(x)]), ([x], model(x))):
        with pytest.raises(errors.ArgumentError, match=r"pass \[x\], \[y\]"):
            onward.verify(model, inputs, expected)


def test_two_files_of_one_model_are_compared(tmp_path: Path) -> None:
    a, b, x = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "x.npz"))
    for path in (a, b):
        onward.Sequential(onward.LSTM(3, 7), onward.Linear(7, 2)).save(path)
    np.savez(x, normal(5, 2, 3))
    same = report("verify", a, x, "--against", a)
    assert same["passed"] and same["outputs"][0]["largest"] == 0
    result = invoke("verify", a, x, "--against", b, expect=1)
    assert "Outputs differ" in result.output
    assert "The first outputs that differ are those of node" in result.output
    assert report("verify", a, "--against", a)["passed"]  # with random inputs
    invoke("verify", a, "--against", b, expect=1)
    invoke("verify", a, expect=2)
    missing = invoke("verify", a, "--against", tmp_path / "missing.safetensors", expect=2)
    assert "Invalid value for '--against'" in missing.output


def test_random_inputs_leave_out_states_that_layers_do_not_take(tmp_path: Path) -> None:
    paths = tmp_path / "layer.onnx", tmp_path / "layer.safetensors"
    layer = onward.LSTM(3, 7)
    layer.export_onnx(paths[0])
    layer.save(paths[1])
    for first, second in (paths, paths[::-1]):
        assert report("verify", first, "--against", second)["passed"]


def test_random_inputs_leave_out_states_that_another_whole_model_does_not_take(tmp_path: Path) -> None:
    paths = tmp_path / "states.onnx", tmp_path / "zeros.safetensors"
    layer = onward.LSTM(3, 7, bidirectional=True, rng=0)
    layer.export_onnx(paths[0])
    Model(from_zeros(graph_of(layer))).save(paths[1])
    for first, second in (paths, paths[::-1]):
        found = report("verify", first, "--against", second)
        assert found["passed"] and found["outputs"][0]["largest"] == 0


def test_random_inputs_have_the_sizes_that_the_other_file_fixes(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = model_of([node], {"x": normal(2, 41, 20)}, ["y"])
    open_path, fixed_path = tmp_path / "open.onnx", tmp_path / "fixed.onnx"
    open_path.write_bytes(proto.SerializeToString())
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 41
    fixed_path.write_bytes(proto.SerializeToString())
    for first, second in ((open_path, fixed_path), (fixed_path, open_path)):
        reported = report("verify", first, "--against", second)
        assert reported["passed"] and reported["outputs"][0]["shape"][1] == 41


def test_the_command_compares_with_expected_outputs(tmp_path: Path) -> None:
    saved, inputs, outputs = (tmp_path / name for name in ("m.safetensors", "x.npz", "y.npz"))
    model, x = onward.Sequential(onward.GRU(3, 7), onward.Linear(7, 2)), normal(5, 2, 3)
    model.save(saved)
    np.savez(inputs, x)
    np.savez(outputs, model(x))
    result = invoke("verify", saved, inputs, outputs, expect=0)
    assert "All outputs agree" in result.output
    np.savez(outputs, model(x) + 1)
    failed = invoke("verify", saved, inputs, outputs, "--json", expect=1)
    assert json.loads(failed.stdout)["passed"] is False
    invoke("verify", saved, inputs, expect=2)

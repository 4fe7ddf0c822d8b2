"""Models that Onward exports, run by onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import export_models, modules
from support.onnx_nodes import open_model, outputs_of

import onward


def assert_onnxruntime_agrees(net: onward.Sequential, path: Path, lengths: bool) -> None:
    onward.export_onnx(net, path, lengths=lengths)
    session = onnxruntime.InferenceSession(path)
    for T, B in ((6, 4), (1, 1), (30, 2)):
        feeds = export_models.random_inputs(onnx.load(path), T, B)
        for theirs, mine in zip(
            session.run(None, feeds), export_models.expected_outputs(net, feeds), strict=True
        ):
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), export_models.OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_onnxruntime_gives_the_same_outputs(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = export_models.recurrent_model(cell, batch_first, bidirectional)
    assert_onnxruntime_agrees(net, tmp_path / "m.onnx", lengths)


@pytest.mark.parametrize(("batch_first", "bidirectional"), export_models.OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM", "projection"])
def test_onnxruntime_keeps_the_initial_state_of_rows_of_length_zero(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool
) -> None:
    net = (
        export_models.projected_model(batch_first, bidirectional)
        if cell == "projection"
        else export_models.recurrent_model(cell, batch_first, bidirectional)
    )
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=True)
    feeds = export_models.random_inputs(onnx.load(tmp_path / "m.onnx"), 6, 5)
    feeds["lengths"][:] = 0, 3, 0, 6, 1
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(None, feeds), strict=True))
    graph: Any = onward.load(tmp_path / "m.onnx")
    mine = dict(zip(names, outputs_of(graph, **feeds), strict=True))
    for name, expected in zip(names, export_models.expected_outputs(net, feeds), strict=True):
        np.testing.assert_allclose(theirs[name], expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(mine[name], expected)
        if name.endswith("_n"):
            for state in (theirs[name], mine[name]):
                np.testing.assert_array_equal(state[:, [0, 2]], feeds[name[:-2] + "0"][:, [0, 2]])


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), export_models.OPTIONS)
def test_onnxruntime_runs_projections(
    tmp_path: Path, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = export_models.projected_model(batch_first, bidirectional)
    assert_onnxruntime_agrees(net, tmp_path / "m.onnx", lengths)


@pytest.mark.parametrize("layer", export_models.STATELESS_LAYERS, ids=repr)
def test_onnxruntime_gives_the_same_outputs_for_stateless_layers(tmp_path: Path, layer: Any) -> None:
    assert_onnxruntime_agrees(onward.Sequential(layer), tmp_path / "m.onnx", lengths=False)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_onnxruntime_gives_the_same_outputs_for_random_models(
    tmp_path: Path, seed: int, lengths: bool
) -> None:
    assert_onnxruntime_agrees(export_models.random_model(seed), tmp_path / "m.onnx", lengths)


def assert_onnxruntime_agrees_on_a_graph(file: bytes, inputs: dict[str, Any], path: Path) -> None:
    """Check that an opened and exported model gives onnxruntime the outputs of the original."""
    onward.export_onnx(open_model(onnx.load_from_string(file)), path)
    original, session = onnxruntime.InferenceSession(file), onnxruntime.InferenceSession(path)
    for theirs, expected in zip(session.run(None, inputs), original.run(None, inputs), strict=True):
        np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", modules.WHOLE)
def test_onnxruntime_gives_the_same_outputs_for_exported_graphs(tmp_path: Path, name: str) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    file = modules.exported(whole.module(), inputs)
    assert_onnxruntime_agrees_on_a_graph(file, inputs, tmp_path / "m.onnx")


@pytest.mark.parametrize("seed", range(30))
def test_onnxruntime_gives_the_same_outputs_for_exported_random_graphs(tmp_path: Path, seed: int) -> None:
    module, inputs = modules.random_module(seed)
    assert_onnxruntime_agrees_on_a_graph(modules.exported(module, inputs), inputs, tmp_path / "m.onnx")


def assert_almost_all_rows_agree(theirs: Any, mine: Any, axis: int) -> None:
    """Check that at most one row of the batch differs, by a rounding that fell the other way."""
    others = tuple(other for other in range(theirs.ndim) if other != axis)
    differences = np.abs(theirs - mine).max(others)
    assert (differences > 1e-5).sum() <= 1
    assert differences.max() < 0.05


@pytest.mark.parametrize("precision", [*export_models.PRECISIONS, ""])
@pytest.mark.parametrize("layer", export_models.FUNCTION_LAYERS, ids=repr)
def test_onnxruntime_runs_layers_that_no_operator_expresses(
    tmp_path: Path, layer: Any, precision: str
) -> None:
    layer = layer.quantize(precision) if precision else layer
    onward.export_onnx(layer, tmp_path / "m.onnx", lengths=True)
    feeds = export_models.random_inputs(onnx.load(tmp_path / "m.onnx"), 9, 5)
    feeds["lengths"][:] = 9, 0, 3, 1, 9
    theirs = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, feeds)
    expected = export_models.expected_outputs(onward.Sequential(layer), feeds)
    for other, mine in zip(theirs, expected, strict=True):
        if precision == "int8":
            assert_almost_all_rows_agree(other, mine, 1)
        else:
            np.testing.assert_allclose(other, mine, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", modules.WHOLE)
def test_onnxruntime_gives_the_outputs_of_a_quantized_graph(tmp_path: Path, name: str) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    model: Any = open_model(onnx.load_from_string(modules.exported(whole.module(), inputs)))
    small = model.quantize("int8")
    onward.export_onnx(small, tmp_path / "m.onnx")
    again: Any = onward.load(tmp_path / "m.onnx")
    theirs = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, inputs)
    for other, mine, same in zip(
        theirs, outputs_of(small, **inputs), outputs_of(again, **inputs), strict=True
    ):
        np.testing.assert_array_equal(same, mine)
        # a number halfway between two integers may round the other way
        np.testing.assert_allclose(other, mine, rtol=0, atol=0.05)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "dilation": 3}, {"padding": "same"}], ids=repr)
@pytest.mark.parametrize("axes", [1, 2])
def test_onnxruntime_quantizes_each_window_of_a_convolution(
    tmp_path: Path, axes: int, options: dict[str, Any], groups: int
) -> None:
    layer = getattr(onward, f"Conv{axes}d")(6, 4, 3, groups=groups, bias=groups == 1, rng=0, **options)
    net = onward.Sequential(layer).quantize("int8")
    assert_onnxruntime_agrees(net, tmp_path / "m.onnx", lengths=False)

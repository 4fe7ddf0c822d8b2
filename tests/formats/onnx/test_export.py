"""Models exported as ONNX: valid, bitwise equal when loaded again, and clear errors for the rest."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import cases
from support.export_models import (
    FUNCTION_LAYERS,
    OPTIONS,
    PRECISIONS,
    SIZES,
    STATELESS_LAYERS,
    expected_outputs,
    projected_model,
    random_inputs,
    random_model,
    recurrent_layer,
    recurrent_model,
)
from support.in_one_test import in_one_test
from support.onnx_nodes import normal, outputs_of

import onward
from onward import errors
from onward.core import activations
from onward.formats.onnx import writer
from onward.graph import Graph, Input, Model


def assert_same_bits(graph: Any, net: onward.Sequential, feeds: dict[str, Any]) -> None:
    for mine, expected in zip(outputs_of(graph, **feeds), expected_outputs(net, feeds), strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_an_exported_model_is_valid_and_preserves_the_bits(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = recurrent_model(cell, batch_first, bidirectional)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph = onward.load(tmp_path / "m.onnx")
    assert isinstance(graph, Model)
    for T, B in ((6, 4), (1, 1)):
        feeds = random_inputs(model, T, B)
        assert_same_bits(graph, net, feeds)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_an_exported_recurrent_layer_preserves_the_bits(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    layer = recurrent_layer(cell, (4, 5), num_layers=2, batch_first=batch_first, bidirectional=bidirectional)
    onward.export_onnx(layer, tmp_path / "m.onnx", lengths=lengths)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = random_inputs(onnx.load(tmp_path / "m.onnx"), 6, 4)
    assert_same_bits(graph, onward.Sequential(layer), feeds)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM", "projection"])
def test_the_layers_of_an_exported_model_preserve_the_bits(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    # two directions with a projection become two parallel nodes, not a chain
    net = (
        projected_model(batch_first, False)
        if cell == "projection"
        else recurrent_model(cell, batch_first, bidirectional)
    )
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = random_inputs(onnx.load(tmp_path / "m.onnx"), 6, 4)
    given = {"lengths": feeds["lengths"]} if lengths else {}
    np.testing.assert_array_equal(graph.layers()(feeds["x"], **given), net(feeds["x"], **given))


def test_exported_per_step_layers_stream(tmp_path: Path) -> None:
    names = "relu silu relu6 selu gelu mish hard_sigmoid_keras2 hard_swish elu softsign".split()
    between: list[Any] = [onward.Activation(name) for name in names]
    between += [onward.Activation("affine", 0.4, 0.1), onward.Activation("scaled_tanh", 0.9, 0.7)]
    net = onward.Sequential(
        onward.GRU(3, 5, rng=0), onward.LayerNorm(5, bias=False), *between, onward.Linear(5, 4, rng=1),
        onward.LayerNorm(4), onward.Softmax(),
    )  # fmt: skip
    onward.export_onnx(net, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    assert [type(layer) for layer in graph.layers()] == [type(layer) for layer in net]
    x = np.random.default_rng(0).normal(0, 2, (6, 3)).astype(np.float32)
    np.testing.assert_array_equal(graph.stream()(x), net(x))


@pytest.mark.parametrize(
    "layer",
    [
        onward.RNN(3, 4, nonlinearity=(("leaky_relu", 0.2), "softsign"), bidirectional=True, clip=0.5, rng=0),
        onward.GRU(3, 4, activations=("hard_sigmoid", ("scaled_tanh", 0.9, 0.7)), clip=0.4, rng=0),
        onward.LSTM(3, 4, peephole=True, coupled=True, clip=0.3, rng=0),
        onward.LSTM(3, 4, activations=(("elu", 0.5), "linear", "hard_sigmoid_keras2"), rng=0),
    ],
    ids=repr,
)
def test_every_option_of_a_cell_is_exported(tmp_path: Path, layer: Any) -> None:
    onward.export_onnx(layer, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = random_inputs(onnx.load(tmp_path / "m.onnx"), 6, 4)
    for mine, other in zip(
        outputs_of(graph, **feeds), expected_outputs(onward.Sequential(layer), feeds), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)  # ONNX has alpha and beta in float32


@pytest.mark.parametrize("layer", STATELESS_LAYERS, ids=repr)
def test_exported_stateless_layers_preserve_the_bits(tmp_path: Path, layer: Any) -> None:
    onward.export_onnx(onward.Sequential(layer), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = random_inputs(model, 6, 4)
    np.testing.assert_array_equal(outputs_of(graph, **feeds)[0], layer(feeds["x"]))


@in_one_test("seed", range(150))
def test_exported_random_models_preserve_the_bits_and_declare_their_shapes(tmp_path: Path, seed: int) -> None:
    net = random_model(seed)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=seed % 2 == 1)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    feeds = random_inputs(model, 6, 4)
    graph: Any = onward.load(tmp_path / "m.onnx")
    expected = expected_outputs(net, feeds)
    assert_same_bits(graph, net, feeds)
    sizes = SIZES | {"time": 6, "batch": 4}
    of_input, of_output = (v[0].type.tensor_type.shape.dim for v in (model.graph.input, model.graph.output))
    for declared, actual in zip(of_output, expected[0].shape, strict=True):
        # Convolutions and pooling change a length.
        if declared.ByteSize() or of_input[-1].dim_param != "length":
            assert declared.dim_value == actual or sizes[declared.dim_param] == actual


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
def test_projection_is_exported_as_a_function(
    tmp_path: Path, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = projected_model(batch_first, bidirectional)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph: Any = onward.load(tmp_path / "m.onnx")
    for T, B in ((6, 9), (1, 1), (0, 2)):
        feeds = random_inputs(model, T, B)
        if lengths:
            feeds["lengths"][0] = 0
        elif T == 0:
            continue  # there is no last step
        assert_same_bits(graph, net, feeds)


def test_a_function_of_a_later_version_is_refused(tmp_path: Path) -> None:
    onward.export_onnx(onward.Sequential(onward.Activation("silu")), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    next(opset for opset in model.opset_import if opset.domain == "onward").version = 2
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(errors.FileError, match=r"onward.silu\).*not 2"):
        onward.load(tmp_path / "m.onnx")


def test_float64_is_exported_as_float64(tmp_path: Path) -> None:
    layer = onward.GRU(3, 4, dtype="float64", rng=0)
    onward.export_onnx(layer, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(0, 1, (5, 2, 3))
    y, h = graph(x, np.zeros((1, 2, 4)))
    np.testing.assert_array_equal(y, layer(x)[0])
    assert y.dtype == h.dtype == np.float64


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("precision", ["int8", ""])
@pytest.mark.parametrize("layer", FUNCTION_LAYERS, ids=repr)
def test_layers_that_no_operator_expresses_preserve_the_bits(
    tmp_path: Path, layer: Any, precision: str, lengths: bool
) -> None:
    layer = layer.quantize(precision) if precision else layer
    onward.export_onnx(layer, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph: Any = onward.load(tmp_path / "m.onnx")
    for T, B in ((9, 5), (1, 1), (0, 2)):
        feeds = random_inputs(model, T, B)
        assert_same_bits(graph, onward.Sequential(layer), feeds)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", range(15))
def test_exported_quantized_random_models_preserve_the_bits(
    tmp_path: Path, seed: int, precision: str
) -> None:
    net = random_model(seed).quantize(precision)
    onward.export_onnx(net, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    feeds = random_inputs(model, 6, 4)
    graph: Any = onward.load(tmp_path / "m.onnx")
    assert_same_bits(graph, net, feeds)


def test_quantized_matrices_keep_their_size_in_the_file(tmp_path: Path) -> None:
    net = onward.Sequential(onward.Linear(64, 64, rng=0), onward.LSTM(64, 64, rng=0))
    sizes = []
    for model in (net, net.quantize("float16"), net.quantize("int8")):
        onward.export_onnx(model, tmp_path / "m.onnx")
        sizes.append((tmp_path / "m.onnx").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]
    assert sizes[2] < 0.35 * sizes[0]


PROJECTED = {"type": "LSTM", "input_size": 3, "hidden_size": 4, "proj_size": 2}


def edited_call(path: Path, **attributes: Any) -> None:
    """Change the attributes of the call of a layer in a file."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "lstm")
    kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(*item) for item in attributes.items())])
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"layer": "[" * 10_000}, "does not describe a mapping"),
        ({"layer": "3"}, "does not describe a mapping"),
        ({"layer": '{"type": "Linear", "in_features": 2, "out_features": 3}'}, "weight is missing"),
        ({"layer": '{"type": "ReLU6"}'}, "layer of type 'ReLU6'"),
        ({"layer": '{"type": "Dropout"}'}, "is not expected"),
        (
            {"layer": json.dumps(PROJECTED | {"batch_first": True})},
            "with the time axis first",
        ),
        ({"layer": '{"type": "LSTM", "input_size": 3, "hidden_size": 1000000000000}'}, "shape|missing|size"),
        ({"weights": ["weight_ih_l0"]}, "missing"),
    ],
)
def test_a_damaged_call_of_a_layer_is_refused(
    tmp_path: Path, attributes: dict[str, Any], problem: str
) -> None:
    onward.export_onnx(onward.LSTM(3, 4, proj_size=2), tmp_path / "m.onnx")
    edited_call(tmp_path / "m.onnx", **attributes)
    with pytest.raises(errors.FileError, match=problem):
        onward.load(tmp_path / "m.onnx")


def test_a_model_too_large_for_protocol_buffers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward.formats.onnx.export.MAX_BYTES", 100)
    with pytest.raises(errors.ArgumentError, match="bytes as ONNX; Protocol Buffers allow 100: save"):
        onward.export_onnx(onward.LSTM(3, 4), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_export_needs_no_onnx_package(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['onnx'] = None; import onward;"
        f"onward.export_onnx(onward.LSTM(3, 4, proj_size=2), {str(tmp_path / 'm.onnx')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)


def test_an_exported_scan_that_captures_nothing_keeps_its_inputs(tmp_path: Path) -> None:
    """All but its first input became captured values, as in the ConvLSTM layers of Keras files."""
    body, graph, dtype = Graph(), Graph(), np.dtype(np.float32)
    h, x_t = (body.add_input(name, dtype) for name in ("h", "x_t"))
    new = body.add("Tanh", body.add("Add", h, x_t))
    body.outputs = (new, body.add("Neg", new))
    body.declared_outputs = tuple(Input(name, dtype) for name in body.outputs)
    inputs = graph.add_input("h0", dtype, ("B", 3)), graph.add_input("x", dtype, ("T", "B", 3))
    graph.outputs = graph.add_all("Scan", inputs, 2, body=body, num_scan_inputs=1)
    graph.declared_outputs = Input("h_n", dtype), Input("y", dtype)
    model = Model(graph)
    model.export_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    feeds = normal(2, 3), normal(5, 2, 3)
    for mine, expected in zip(
        outputs_of(onward.load(tmp_path / "m.onnx"), *feeds), model(*feeds), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


WIDE: list[Any] = [
    *(cases.spatial(index, "float64")[0] for index in range(len(cases.SPATIAL))),
    *(
        onward.Sequential(
            onward.Linear(7, 5, dtype="float64", rng=0), onward.Activation(name, *(0.3, 0.7)[: f.takes])
        )
        for name, f in activations.FUNCTIONS.items()
    ),
    onward.LayerNorm(7, 0.3, dtype="float64"),
    onward.GRU(7, 5, clip=0.1, dtype="float64", rng=0),
    onward.GRU(7, 5, reset_after=False, clip=0.1, bidirectional=True, dtype="float64", rng=0),
    onward.RNN(7, 5, 2, nonlinearity=("leaky_relu", 0.1), dtype="float64", rng=0),
    onward.LSTM(7, 5, activations=("hard_sigmoid", "tanh", "tanh"), dtype="float64", rng=0),
    onward.LSTM(7, 5, activations=("sigmoid", ("elu", 0.3), "selu"), dtype="float64", rng=0),
]


@pytest.mark.parametrize("layer", WIDE, ids=repr)
def test_a_model_in_float64_keeps_its_bits_although_attributes_are_float32(
    tmp_path: Path, layer: Any
) -> None:
    """The numbers of activations, clip and eps were rounded to float32."""
    onward.export_onnx(layer, tmp_path / "m.onnx", check=False)
    exported = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(exported, full_check=True)
    net = layer if isinstance(layer, onward.Sequential) else onward.Sequential(layer)
    assert_same_bits(onward.load(tmp_path / "m.onnx"), net, random_inputs(exported, 20, 4))


def test_an_export_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = (
        tmp_path / "m.onnx",
        onward.Sequential(onward.Linear(3, 4, rng=0), onward.Activation("tanh")),
    )
    onward.export_onnx(model, path)
    before = path.read_bytes()

    def wrong(operation: str) -> Any:
        return lambda writer, node, inputs, outputs: bool(writer.node(operation, inputs, *outputs))

    problems = {"Sigmoid": "gives other outputs", "Flatten": "gives other", "Conv": "does not run: node"}
    for operation, problem in problems.items():
        monkeypatch.setitem(writer.SPECIAL, "Tanh", wrong(operation))
        with pytest.raises(
            errors.ArgumentError, match=f"nothing was written, because the ONNX file {problem}"
        ):
            model.export_onnx(path)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    monkeypatch.setitem(writer.SPECIAL, "Tanh", wrong("Unknown"))
    with pytest.raises(errors.ArgumentError, match=r"cannot be opened: node .*Unknown"):
        model.export_onnx(path)
    model.export_onnx(path, check=False)
    assert path.read_bytes() != before


def test_a_model_with_random_numbers_is_exported(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("N", 3))
    graph.outputs = (graph.add("RandomNormalLike", x),)
    graph.declared_outputs = (Input("y", np.dtype(np.float32)),)
    Model(graph).export_onnx(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").exists()


def test_a_loop_without_a_condition_and_carried_values_keeps_its_captured_values(tmp_path: Path) -> None:
    """The file left out the empty condition, and the first captured value took its place."""
    body, graph, dtype = Graph(), Graph(), np.dtype(np.float32)
    for name, kind in (("i", np.dtype(np.int64)), ("on", np.dtype(bool)), ("x", dtype)):
        body.add_input(name, kind)
    body.outputs = ("on", body.add("Tanh", "x"))
    body.declared_outputs = (Input("on", np.dtype(bool)), Input("y", dtype))
    count, x = graph.add_input("count", np.int64, ()), graph.add_input("x", dtype, ("N", 3))
    graph.outputs = (graph.add("Loop", count, "", x, body=body, captured=1),)
    graph.declared_outputs = (Input("y", dtype, ("", "N", 3)),)
    Model(graph).export_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    (y,) = outputs_of(onward.load(tmp_path / "m.onnx"), np.array(2), normal(2, 3))
    np.testing.assert_array_equal(y, Model(graph)(np.array(2), normal(2, 3)))


def test_a_loop_without_a_condition_and_other_values_has_one_in_the_file(tmp_path: Path) -> None:
    """Where onnxruntime moves a loop out of a branch, it drops the last inputs that are omitted."""
    body, branch, graph, dtype = Graph(), Graph(), Graph(), np.dtype(np.float32)
    for name, kind in (("i", np.dtype(np.int64)), ("on", np.dtype(bool))):
        body.add_input(name, kind)
    body.outputs = ("on", body.add("Cast", "i", to=dtype))
    body.declared_outputs = (Input("on", np.dtype(bool)), Input("y", dtype))
    branch.outputs = (branch.add("Loop", branch.add_constant(np.array(3)), "", body=body),)
    branch.declared_outputs = (Input("y", dtype),)
    condition = graph.add_input("condition", np.bool_, ())
    graph.outputs = (graph.add("If", condition, then_branch=branch, else_branch=branch),)
    graph.declared_outputs = (Input("y", dtype),)
    Model(graph).export_onnx(tmp_path / "m.onnx")
    written = onnx.load(tmp_path / "m.onnx").graph.node[0].attribute[0].g.node
    (loop,) = [node for node in written if node.op_type == "Loop"]
    assert len(loop.input) == 2 and all(loop.input)


def test_quantization_of_8_bits_and_unused_parts_are_written_as_onnxruntime_takes_them(
    tmp_path: Path,
) -> None:
    """It fails to optimize int8 nodes of opset 21, and crashes on omitted parts of a Split."""
    graph = Graph()
    x, scale = graph.add_input("x", np.int8, (1, 4)), graph.add_constant(np.float32(0.5))
    y = graph.add("DequantizeLinear", x, scale, graph.add_constant(np.int8(3)))
    part, _ = graph.add_all("Split", [graph.add("QuantizeLinear", y, scale)], 2, axis=1, num_outputs=2)
    graph.outputs = (part,)
    graph.declared_outputs = (Input(part, np.dtype(np.uint8), (1, 2)),)
    model = Model(graph.without_unused())
    model.export_onnx(tmp_path / "m.onnx")
    file = onnx.load(tmp_path / "m.onnx")
    assert file.opset_import[0].version == 18
    (split,) = (node for node in file.graph.node if node.op_type == "Split")
    assert len(split.output) == 2 and all(split.output)
    numbers = np.array([[-5, 3, 9, 100]], np.int8)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(numbers), [[0, 0]])

"""ONNX files: recurrent nodes in every position and with every option, and damaged or hostile files."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import hostile, onnx_nodes
from support.onnx_nodes import normal, open_model

import onward
from onward import errors
from onward.core.equivalents import ATTRIBUTES
from onward.graph import Model
from onward.layers.base import Layer

T, B, I, H = 5, 3, 4, 7  # noqa: E741 - axis letters


def weights(op: str, directions: int = 1) -> dict[str, Any]:
    G = onnx_nodes.GATES[op]
    return {
        "W": normal(directions, G * H, I),
        "R": normal(directions, G * H, H),
        "B": normal(directions, 2 * G * H),
    }


def lstm_file(path: Path, **attributes: Any) -> Path:
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=H, **attributes)
    model = onnx_nodes.model_of([node], {"X": normal(T, B, I)}, ["Y", "Y_h", "Y_c"], weights("LSTM"))
    onnx.save(model, path)
    return path


def layer_of(given: dict[str, Any]) -> onward.LSTM:
    """The LSTM layer with the weights of an LSTM node; reorders the gates independently of Onward."""

    def reordered(a: Any) -> Any:
        i, o, f, c = np.split(a, 4)
        return np.concatenate([i, f, c, o])

    layer = onward.LSTM(I, H)
    b_W, b_R = np.split(given["B"][0], 2)
    layer.load_state_dict(
        {
            "weight_ih_l0": reordered(given["W"][0]),
            "weight_hh_l0": reordered(given["R"][0]),
            "bias_ih_l0": reordered(b_W),
            "bias_hh_l0": reordered(b_R),
        }
    )
    return layer


def test_a_file_gives_the_bits_of_the_layer(tmp_path: Path) -> None:
    model = onward.load(lstm_file(tmp_path / "m.onnx"))
    assert isinstance(model, Model)
    assert (model.inputs[0], model.outputs) == ("X", ("Y", "Y_h", "Y_c"))
    x = normal(T, B, I)
    y, (h, c) = layer_of(weights("LSTM"))(x)
    for answers in (model(x), model(X=x), model(x.tolist()), pickle.loads(pickle.dumps(model))(x)):
        for mine, expected in zip(answers, (y[:, None], h, c), strict=True):
            np.testing.assert_array_equal(mine, expected)


def test_a_model_does_not_change_with_its_file(tmp_path: Path) -> None:
    path, x, bias = tmp_path / "m.onnx", normal(5, 3), normal(3)
    onnx.save(
        onnx_nodes.model_of([helper.make_node("Add", ["x", "b"], ["y"])], {"x": x}, ["y"], {"b": bias}), path
    )
    model: Any = onward.load(path)
    path.write_bytes(bytes(path.stat().st_size))  # in place, under the memory map
    np.testing.assert_array_equal(model(x), x + bias)


def test_constants_stay_in_the_memory_of_the_file(tmp_path: Path) -> None:
    """Each was copied while its model was opened."""
    onward.Sequential(onward.LSTM(3, 4), onward.Linear(4, 2)).export_onnx(tmp_path / "model.onnx")
    constants = onward.load(tmp_path / "model.onnx").graph.constants
    assert constants
    assert not any(array.flags.owndata or array.flags.writeable for array in constants.values())


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    assert isinstance(onward.load(lstm_file(tmp_path / "model.bin")), Model)
    onward.Sequential(onward.LSTM(2, 3)).save(tmp_path / "saved.onnx")
    assert isinstance(onward.load(tmp_path / "saved.onnx"), onward.Sequential)


@pytest.mark.parametrize("op", onnx_nodes.GATES)
def test_reverse_equals_the_second_direction_of_bidirectional(op: str) -> None:
    given = weights(op, 2)
    feeds = {"X": normal(T, B, I), "lengths": np.array([5, 2, 0], np.int32), "h0": normal(2, B, H)}
    node = helper.make_node(
        op, ["X", "W", "R", "B", "lengths", "h0"], ["Y", "Y_h"], direction="bidirectional"
    )
    both = open_model(onnx_nodes.model_of([node], feeds, ["Y", "Y_h"], given))(**feeds)
    node = helper.make_node(op, ["X", "W", "R", "B", "lengths", "h0"], ["Y", "Y_h"], direction="reverse")
    second = {name: array[1:] for name, array in given.items()}
    feeds["h0"] = feeds["h0"][1:]
    reverse = open_model(onnx_nodes.model_of([node], feeds, ["Y", "Y_h"], second))(**feeds)
    np.testing.assert_array_equal(reverse[0][:, 0], both[0][:, 1])
    np.testing.assert_array_equal(reverse[1][0], both[1][1])
    assert not both[0][2:, :, 1].any() and not both[1][:, 2].any()


@pytest.mark.parametrize("op", onnx_nodes.GATES)
@pytest.mark.parametrize("seed", range(5))
def test_layout_swaps_time_and_batch(op: str, seed: int) -> None:
    case = onnx_nodes.draw(np.random.default_rng(seed), op=op, layout=1)
    time_first = case.time_first()
    found, expected = (open_model(each.model)(**each.feeds) for each in (case, time_first))
    for mine, other in zip(found, case.as_declared(expected), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("op", onnx_nodes.GATES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2), ("float64", 1e-6), ("float32", 0)]
)
def test_outputs_have_the_dtype_of_the_inputs(op: str, dtype: str, tolerance: float) -> None:
    kind = getattr(TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper()))
    given = {"X": normal(T, B, I), **weights(op)}
    node = helper.make_node(op, list(given), ["Y", "Y_h"])
    expected = open_model(onnx_nodes.model_of([node], given, ["Y", "Y_h"], opset=22))(**given)
    feeds = {name: a.astype(helper.tensor_dtype_to_np_dtype(kind)) for name, a in given.items()}
    for mine, other in zip(
        open_model(onnx_nodes.model_of([node], feeds, ["Y", "Y_h"], opset=22))(**feeds), expected, strict=True
    ):
        assert mine.dtype == feeds["X"].dtype
        np.testing.assert_allclose(mine.astype(np.float64), other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("op", onnx_nodes.GATES)
def test_every_opset_gives_the_same_outputs(tmp_path: Path, op: str) -> None:
    feeds = {"X": normal(T, B, I), "lengths": np.array([5, 2, 0], np.int32)}
    answers = []
    for opset in range(1, 23):
        # removed in opset 7, where an output exists if it has a name
        options = {"output_sequence": 1} if opset < 7 else {}
        node = helper.make_node(op, ["X", "W", "R", "B", "lengths"], ["Y", "Y_h"], hidden_size=H, **options)
        onnx.save(onnx_nodes.model_of([node], feeds, ["Y", "Y_h"], weights(op), opset), tmp_path / "m.onnx")
        model: Any = onward.load(tmp_path / "m.onnx")
        answers.append(model(**feeds))
    for answer in answers[1:]:
        for mine, first in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(mine, first)


@pytest.mark.parametrize("op", onnx_nodes.GATES)
def test_every_subset_of_outputs_is_computed(op: str) -> None:
    names = ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    x, answers = normal(T, B, I), {}
    for kept in itertools.product((True, False), repeat=len(names)):
        outputs = [name if keep else "" for name, keep in zip(names, kept, strict=True)]
        node = helper.make_node(op, ["X", "W", "R", "B"], outputs)
        own = [name for name in outputs if name]
        if own:
            graph = open_model(onnx_nodes.model_of([node], {"X": x}, own, weights(op)))
            for name, mine in zip(own, graph(x), strict=True):
                np.testing.assert_array_equal(mine, answers.setdefault(name, mine))


def in_body(kind: str) -> list[onnx.NodeProto]:
    """Nodes that apply an LSTM to X inside a body that also computes its weights W, R and B."""
    inner = [
        helper.make_node("Neg", ["minus_W"], ["W_inside"]),
        helper.make_node("LSTM", ["X_inside", "W_inside", "R", "B"], ["Y_inside"], hidden_size=H),
    ]

    def value(name: str, kind: int = TensorProto.FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    if kind == "If":
        taken = [helper.make_node("Identity", ["X"], ["X_inside"]), *inner]
        other = [helper.make_node("Identity", ["X"], ["other"])]
        yes = helper.make_graph(taken, "yes", [], [value("Y_inside")])
        no = helper.make_graph(other, "no", [], [value("other")])
        return [helper.make_node("If", ["true"], ["Y"], then_branch=yes, else_branch=no)]
    if kind == "Loop":
        taken = [
            helper.make_node("Identity", ["X"], ["X_inside"]),
            *inner,
            helper.make_node("Identity", ["going"], ["go_on"]),
        ]
        bools = [value("round", TensorProto.INT64, []), value("going", TensorProto.BOOL, [])]
        body = helper.make_graph(
            taken, "body", bools, [value("go_on", TensorProto.BOOL, []), value("Y_inside")]
        )
        return [
            helper.make_node("Loop", ["two", ""], ["twice"], body=body),
            helper.make_node("Gather", ["twice", "one"], ["Y"], axis=0),
        ]
    body = helper.make_graph(inner, "body", [value("X_inside")], [value("Y_inside")])
    return [
        helper.make_node("Unsqueeze", ["X", "axis"], ["alone"]),
        helper.make_node(
            "Scan",
            ["alone"],
            ["Y_first"],
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[3],
            scan_output_axes=[4],
        ),
        helper.make_node("Squeeze", ["Y_first", "axis_4"], ["Y"]),
    ]


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_a_node_in_a_body_runs_in_the_core(kind: str) -> None:
    given = weights("LSTM")
    constants = {
        **given,
        "minus_W": -given.pop("W"),
        "true": np.array(True),
        "one": np.array(1),
        "two": np.array(2),
        "axis": np.array([3]),
        "axis_4": np.array([4]),
    }
    x = normal(T, B, I)
    model = open_model(onnx_nodes.model_of(in_body(kind), {"X": x}, ["Y"], constants))
    expected, _ = layer_of(weights("LSTM"))(x)
    for _ in range(2):
        (y,) = model(x)
        np.testing.assert_array_equal(y, expected[:, None])


def test_a_node_in_a_function_runs_in_the_core_with_the_attributes_of_the_call() -> None:
    """The onnx package's LSTM ignores lengths and a direction set by the function's attribute."""
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "lengths"], ["Y"], hidden_size=H)
    node.attribute.append(
        onnx.AttributeProto(name="direction", ref_attr_name="way", type=onnx.AttributeProto.STRING)
    )
    opset = [helper.make_opsetid("", 14)]
    function = helper.make_function(
        "mine", "Encoder", ["X", "W", "R", "B", "lengths"], ["Y"], [node], opset, ["way"]
    )
    call = helper.make_node("Encoder", ["X", "W", "R", "B", "lengths"], ["Y"], domain="mine", way="reverse")
    feeds = {"X": normal(T, B, I), "lengths": np.array([5, 2, 1], np.int32)}
    model = onnx_nodes.model_of([call], feeds, ["Y"], weights("LSTM"))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(function)
    (y,) = open_model(model)(**feeds)
    expected, _ = layer_of(weights("LSTM"))(feeds["X"][:1, 2:])
    np.testing.assert_array_equal(y[:1, 0, 2:], expected)
    assert not y[1:, 0, 2].any()


def test_weights_that_are_inputs_are_read_at_every_call() -> None:
    feeds = {"X": normal(T, B, I), **weights("LSTM")}
    node = helper.make_node("LSTM", list(feeds), ["Y"])
    model = open_model(onnx_nodes.model_of([node], feeds, ["Y"]))
    (before,) = model(**feeds)
    feeds["R"] *= -1  # in place, so that the array object stays the same
    (after,) = model(**feeds)
    assert np.abs(before - after).max() > 1e-3


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"direction": "sideways"}, "direction"),
        ({"layout": 2}, "layout"),
        ({"activations": ["Sigmoid", "Tanh", "Sine"]}, "Sine"),
        ({"activations": ["Sigmoid", "Tanh"]}, "activations"),
        ({"clip": -1.0}, "clip"),
    ],
)
def test_unsupported_options_are_named_at_load_time(
    tmp_path: Path, attributes: dict[str, Any], named: str
) -> None:
    with pytest.raises(errors.FileError, match=rf"m.onnx.*node Y, Y_h, Y_c \(LSTM\).*{named}"):
        onward.load(lstm_file(tmp_path / "m.onnx", **attributes))


def test_unknown_operators_are_named_at_load_time(tmp_path: Path) -> None:
    node = helper.make_node("QAttention", ["X"], ["Y"], "middle", domain="com.microsoft")
    model = onnx_nodes.model_of([node], {"X": normal(T, B, I)}, ["Y"])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(errors.FileError, match=r"node middle \(com.microsoft.QAttention\)"):
        onward.load(tmp_path / "m.onnx")


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    model: Any = onward.load(lstm_file(tmp_path / "m.onnx"))
    x = normal(T, B, I)
    for call, error, message in (
        (lambda: model(), errors.SignatureError, "missing inputs: X"),
        (lambda: model(x, X=x), errors.SignatureError, "passed twice: X"),
        (lambda: model(x, Z=x), errors.SignatureError, "unknown inputs: Z"),
        (lambda: model(x[0]), errors.ShapeError, "X has shape"),
        (lambda: model(x.astype(complex)), errors.DtypeError, "X has dtype complex128"),
        (lambda: model(x[..., 1:]), errors.OnwardError, r"node LSTM .*takes .T, B, 4."),
    ):
        with pytest.raises(error, match=message):
            call()


def external(path: Path, location: str, **says: str) -> Path:
    lstm_file(path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, "length": str(len(raw)), **says}.items():
        tensor.external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())
    (path.parent / "weights.bin").write_bytes(b"1234" + raw)
    (path.parent.parent / "outside.bin").write_bytes(raw)
    return path


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model" / "m.onnx", "weights.bin", offset="4")
    lstm_file(tmp_path / "whole.onnx")
    x = normal(T, B, I)
    mine: Any = onward.load(path)
    whole: Any = onward.load(tmp_path / "whole.onnx")
    for a, b in zip(mine(x), whole(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../outside.bin", {}),
        ("/etc/passwd", {}),
        ("link.bin", {}),
        ("", {}),
        ("nothing.bin", {}),
        ("weights.bin", {"offset": "8"}),
        ("weights.bin", {"offset": "-1"}),
        ("weights.bin", {"length": str(2**62)}),
    ],
)
def test_external_data_outside_the_folder_is_refused(
    tmp_path: Path, location: str, says: dict[str, str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "outside.bin")
    hostile.refused(external(tmp_path / "model" / "m.onnx", location, **says))


@pytest.mark.parametrize("dims", [[2**40], [2**62, 2**62], [-1], [3]])
def test_a_tensor_whose_size_contradicts_its_shape_is_named(tmp_path: Path, dims: list[int]) -> None:
    model = onnx.load(lstm_file(tmp_path / "m.onnx"))
    model.graph.initializer[1].dims[:] = dims
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert "the tensor R has" in hostile.refused(tmp_path / "m.onnx")


def test_loading_computes_nothing_that_could_grow(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([2**40], np.int64))
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], "bomb"),
    ]
    onnx.save(onnx_nodes.model_of(nodes, {}, ["zeros"]), tmp_path / "m.onnx")
    model: Any = onward.load(tmp_path / "m.onnx")
    with pytest.raises(errors.LimitError, match="node bomb"):
        model()


def test_the_time_of_nested_bodies_is_bounded_by_the_file(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["true"], ["y0"])]
    for depth in range(1, 12):
        body = helper.make_graph(nodes, "g", [], [onnx.ValueInfoProto(name=f"y{depth - 1}")])
        nodes = [helper.make_node("If", ["true"], [f"y{depth}"], then_branch=body, else_branch=body)]
    onnx.save(onnx_nodes.model_of(nodes, {}, ["y11"], {"true": np.array(True)}), tmp_path / "m.onnx")
    with hostile.bounded():
        assert onward.load(tmp_path / "m.onnx")()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_familiar_attribute_of_a_graph_raises_an_error_with_the_equivalent(
    tmp_path: Path, name: str
) -> None:
    graph = onward.load(lstm_file(tmp_path / "model.onnx"))
    with pytest.raises(errors.LayerAttributeError) as error:
        getattr(graph, name)
    assert str(error.value) == f"Model has no attribute {name!r}: {ATTRIBUTES[name]}"


def test_a_graph_is_no_layer_but_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = onward.load(lstm_file(tmp_path / "model.onnx"))
    assert not isinstance(graph, Layer)
    assert graph.eval() is graph
    graph.summary()
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "LSTM"
    assert str(graph).splitlines()[1].split()[1] == "LSTM"


def test_inputs_in_order_include_those_with_defaults_once_a_plan_exists() -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "y"], ["o"])]
    x, w, y = (np.array([i, i + 1], np.float32) for i in range(3))
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "w", "y", "o")]
    default = numpy_helper.from_array(w + 10, "w")
    model = open_model(
        helper.make_model(helper.make_graph(nodes, "g", infos[:3], infos[3:], [default]), ir_version=8)
    )
    np.testing.assert_array_equal(model(x=x, y=y)[0], (x + w + 10) * y)
    with pytest.raises(errors.SignatureError, match="missing inputs: y"):
        model(x, w)
    np.testing.assert_array_equal(model(x, w, y)[0], (x + w) * y)


@pytest.mark.parametrize("depth", [1, 3])
def test_bodies_use_what_a_call_passes_for_a_default_value(depth: int) -> None:
    """They used the default value."""
    output = helper.make_tensor_value_info("y0", TensorProto.FLOAT, [3])
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y0"])], "inner", [], [output])
    for level in range(1, depth + 1):
        other = helper.make_node("Sub", ["x", "w"], [f"n{level}"])
        name = helper.make_tensor_value_info(f"n{level}", TensorProto.FLOAT, [3])
        branches = {"then_branch": branch, "else_branch": helper.make_graph([other], "other", [], [name])}
        choice = helper.make_node("If", ["condition"], [f"y{level}"], **branches)
        output = helper.make_tensor_value_info(f"y{level}", TensorProto.FLOAT, [3])
        branch = helper.make_graph([choice], f"level {level}", [], [output])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xw"]
    inputs.insert(1, helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    w = numpy_helper.from_array(np.ones(3, np.float32), "w")
    model = open_model(helper.make_model(helper.make_graph(branch.node, "g", inputs, branch.output, [w])))
    x, five = np.arange(3, dtype=np.float32), np.full(3, 5, np.float32)
    for condition, sign in ((True, 1), (False, -1)):
        for _ in range(2):  # a call without the input must not decide the next one
            np.testing.assert_array_equal(model(x, np.array(condition))[0], x + sign)
            np.testing.assert_array_equal(model(x, np.array(condition), five)[0], x + 5 * sign)

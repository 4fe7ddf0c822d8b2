"""ONNX files are opened, run and written where the onnx package is not installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.onnx_nodes import normal

import onward
from onward.errors import FileError

BLOCKED = """
import sys
for name in ("onnx", "onnxruntime", "ml_dtypes", "google.protobuf"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
import numpy as np
import onward
"""


def run(script: str, *arguments: Path) -> str:
    """Run a script in a process that has none of the packages for ONNX, and return what it prints."""
    command = [sys.executable, "-c", BLOCKED + script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def save_model(path: Path) -> onnx.ModelProto:
    """A convolution, an LSTM inside a branch, normalization and a head, as the onnx package writes them."""
    weights = {
        "K": normal(4, 3, 5), "W": normal(1, 28, 4), "R": normal(1, 28, 7), "B": normal(1, 56),
        "D": normal(7, 2), "zero": np.zeros((), np.float32), "directions": np.array([1]),
    }  # fmt: skip
    lstm = helper.make_node("LSTM", ["steps", "W", "R", "B"], ["Y"], hidden_size=7)
    squeezed = helper.make_node("Squeeze", ["Y", "directions"], ["s"])
    branches = [
        helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("h", TensorProto.FLOAT, None)])
        for nodes in (
            [lstm, squeezed, helper.make_node("Tanh", ["s"], ["h"])],
            [lstm, squeezed, helper.make_node("Neg", ["s"], ["h"])],
        )
    ]
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["features"], pads=[2, 2]),
        helper.make_node("Transpose", ["features"], ["steps"], perm=[2, 0, 1]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["h"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("MatMul", ["h", "D"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, path)
    return model


def test_a_file_runs(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.onnx")
    inputs = {"negative": -np.abs(normal(5, 3, 11)), "positive": np.abs(normal(2, 3, 50))}
    np.savez(tmp_path / "inputs.npz", **inputs)
    run(
        "model = onward.load(sys.argv[1]); inputs = np.load(sys.argv[2])\n"
        "np.savez(sys.argv[3], **{name: model(inputs[name]) for name in inputs})",
        *(tmp_path / name for name in ("model.onnx", "inputs.npz", "outputs.npz")),
    )
    outputs = np.load(tmp_path / "outputs.npz")
    for name, x in inputs.items():
        (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-5)


def test_a_model_is_exported(tmp_path: Path) -> None:
    run(
        "model = onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))\n"
        "onward.export_onnx(model, sys.argv[1]); onward.load(sys.argv[1])",
        tmp_path / "exported.onnx",
    )
    onnx.checker.check_model(onnx.load(tmp_path / "exported.onnx"), full_check=True)
    model = onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))
    x, state = normal(50, 5, 3), np.zeros((1, 5, 7), np.float32)
    y, *_ = onward.load(tmp_path / "exported.onnx")(x, state, state)
    np.testing.assert_array_equal(y, model(x))


def test_an_operator_of_the_onnx_package_names_the_extra(tmp_path: Path) -> None:
    node = helper.make_node("RoiAlign", ["x", "boxes", "rows"], ["y"], "regions")
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, 4]),
        helper.make_tensor_value_info("rows", TensorProto.INT64, [None]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    printed = run(
        "from onward.errors import FileError\n"
        "try: onward.load(sys.argv[1])\n"
        "except FileError as error: print(error)",
        tmp_path / "model.onnx",
    )
    assert "node regions (RoiAlign)" in printed
    assert "pip install 'onnx>=" in printed and "(the extra onnx)" in printed


def test_an_unknown_operator_says_what_to_do(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.onnx")
    model.graph.node[0].op_type = "Convolute"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(FileError, match="the operator Convolute of opset 18 is not supported: export"):
        onward.load(tmp_path / "model.onnx")


def test_an_operator_that_the_onnx_package_refuses_is_named(tmp_path: Path) -> None:
    """It raises RuntimeError for a missing attribute."""
    nodes = [helper.make_node("TfIdfVectorizer", ["x"], ["y"], "count")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    with pytest.raises(FileError, match=r"node count \(TfIdfVectorizer\): .*'mode' is expected"):
        onward.load(tmp_path / "model.onnx")

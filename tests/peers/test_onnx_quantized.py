"""Quantized models and nodes against onnxruntime on one thread."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime import quantization
from support import modules, onnx_nodes
from support.evaluate import evaluate
from support.frameworks import onnxruntime_session
from support.onnx_nodes import open_model
from support.running import runs_in_core, simplified

RNG = np.random.default_rng(0)


def planned(model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """Run a model in Onward, and check that nothing ran in NumPy."""
    graph = open_model(model)
    results = graph(**feeds)
    assert runs_in_core(graph, *feeds.values())
    return results


def test_random_nodes_give_the_outputs_of_onnxruntime() -> None:
    """A value halfway between two bytes may round either way, about once in hundreds of nodes."""
    rng, steps_off, nodes = np.random.default_rng(0), 0, 500
    for number in range(nodes):
        case, _ = onnx_nodes.draw_quantized(rng)
        expected = onnxruntime_session(case.model).run(None, case.feeds)
        off = max(
            np.abs(mine - theirs).max()
            for mine, theirs in zip(open_model(case.model)(**case.feeds), expected, strict=True)
        )
        assert off < 0.02, f"node {number}: {case.attributes}"
        steps_off += off > 1e-5
    assert steps_off < nodes / 100


def integers(dtype: Any, *shape: int) -> Any:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def integer_nodes() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Nodes with integer outputs, their inputs and their constants."""
    for _ in range(40):
        a, w = (np.uint8 if RNG.integers(2) else np.int8 for _ in range(2))
        rows, K, columns = (int(n) for n in RNG.integers(1, 70, 3))
        x, W = integers(a, rows, K), integers(w, K, columns)
        zeros = {"x_zero": integers(a), "W_zero": integers(w, columns) if RNG.integers(2) else integers(w)}
        names = ["x", "W", "x_zero", "W_zero"]
        yield helper.make_node("MatMulInteger", names, ["y"]), {"x": x}, {"W": W, **zeros}
        scales = {
            "x_scale": np.float32(RNG.uniform(0.01, 0.1)),
            "W_scale": RNG.uniform(0.01, 0.1, np.shape(zeros["W_zero"])).astype(np.float32),
            "y_scale": np.float32(RNG.uniform(0.1, 9)),
            "y_zero": integers(a),
        }
        names = ["x", "x_scale", "x_zero", "W", "W_scale", "W_zero", "y_scale", "y_zero"]
        if a == np.uint8:
            yield (
                helper.make_node("QLinearMatMul", names, ["y"]),
                {"x": x},
                {"W": W, **zeros, **scales},
            )
        x, W = integers(np.uint8, 2, 4, 9, 8), integers(w, 6, 2, 3, 2)
        attributes = {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}
        constants = {"W": W, "x_zero": integers(np.uint8), "W_zero": integers(w)}
        names = ["x", "W", "x_zero", "W_zero"]
        yield helper.make_node("ConvInteger", names, ["y"], **attributes), {"x": x}, constants
        names = ["x", "x_scale", "x_zero", "W", "W_scale", "W_zero", "y_scale", "y_zero", "bias"]
        constants |= {
            **scales,
            "W_scale": np.float32(0.02),
            "y_zero": integers(np.uint8),
            "bias": RNG.integers(-9999, 9999, 6, np.int32),
        }
        yield helper.make_node("QLinearConv", names, ["y"], **attributes), {"x": x}, constants
        floats = RNG.standard_normal((5, 7, 3)).astype(np.float32)
        scale, zero = np.float32(RNG.uniform(0.001, 0.1, 7)), integers(w, 7)
        constants = {"scale": scale, "zero": zero}
        names = ["x", "scale", "zero"]
        yield helper.make_node("QuantizeLinear", names, ["y"]), {"x": floats}, constants
        yield helper.make_node("DequantizeLinear", names, ["y"]), {"x": integers(w, 5, 7, 3)}, constants
        yield helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"]), {"x": floats}, {}


def test_integer_outputs_are_exactly_those_of_onnxruntime() -> None:
    for node, feeds, constants in integer_nodes():
        model = onnx_nodes.model_of([node], feeds, list(node.output), constants)
        del model.graph.output[:]
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in node.output)
        theirs = onnxruntime_session(model).run(None, feeds)
        for mine, expected in zip(planned(model, feeds), theirs, strict=True):
            assert mine.dtype == expected.dtype
            np.testing.assert_array_equal(mine, expected, err_msg=node.op_type)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "acoustic model",
        "noise suppressor",
        "text reader",
        "tagger",
        "forecaster",
        "keyword spotter",
    ],
)
def test_dynamically_quantized_models_match_onnxruntime(name: str, per_channel: bool, tmp_path: Path) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    source, target = tmp_path / "model.onnx", tmp_path / "quantized.onnx"
    source.write_bytes(modules.exported(whole.module(), inputs))
    kind = quantization.QuantType.QUInt8
    quantization.quantize_dynamic(source, target, per_channel=per_channel, weight_type=kind)
    model = onnx.load(target)
    theirs = onnxruntime_session(model).run(None, inputs)
    for mine, expected in zip(planned(model, inputs), theirs, strict=True):
        # a value halfway between two bytes may round either way
        np.testing.assert_allclose(mine, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_scaled_products_match_onnxruntime() -> None:
    for kind, per_column, has_bias in itertools.product((np.uint8, np.int8), (False, True), (False, True)):
        K, columns = 33, 50
        x = RNG.standard_normal((2, 5, K)).astype(np.float32)
        sizes = [columns] if per_column else []
        constants = {
            "W": integers(kind, K, columns),
            "W_scale": RNG.uniform(0.01, 0.1, sizes).astype(np.float32),
            "W_zero": integers(kind, *sizes),
            "bias": RNG.standard_normal(columns).astype(np.float32),
            "x_scale": np.float32(0.02),
            "x_zero": integers(np.uint8),
        }
        bias = "bias" if has_bias else ""
        for operation, feeds, names in [
            ("DynamicQuantizeMatMul", {"x": x}, ["x", "W", "W_scale", "W_zero", bias]),
            (
                "MatMulIntegerToFloat",
                {"x": integers(np.uint8, 2, 5, K)},
                ["x", "W", "x_scale", "W_scale", "x_zero", "W_zero", bias],
            ),
        ]:
            used = {name: constants[name] for name in names if name in constants}
            node = helper.make_node(operation, names, ["y"], domain="com.microsoft")
            model = onnx_nodes.model_of([node], feeds, ["y"], used)
            del model.graph.output[:]
            model.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
            (expected,) = onnxruntime_session(model).run(None, feeds)
            (y,) = planned(model, feeds)
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
            (y,) = evaluate(simplified(open_model(model)), *feeds.values())
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


class Calibration(quantization.CalibrationDataReader):
    """Random inputs."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._left = iter([inputs])

    def get_next(self) -> Any:
        return next(self._left, None)


@pytest.mark.parametrize("form", [quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator])
@pytest.mark.parametrize("name", ["keyword spotter", "text reader", "voice detector"])
def test_statically_quantized_models_match_onnxruntime(name: str, form: Any, tmp_path: Path) -> None:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    source, target = tmp_path / "model.onnx", tmp_path / "quantized.onnx"
    source.write_bytes(modules.exported(whole.module(), inputs))
    quantization.quantize_static(source, target, Calibration(inputs), form)
    model = onnx.load(target)
    theirs = onnxruntime_session(model, optimize=False).run(None, inputs)
    for mine, expected in zip(planned(model, inputs), theirs, strict=True):
        # the output of the spotter is quantized in steps of 1/255
        np.testing.assert_allclose(
            mine, expected, rtol=0, atol=max(0.01 * np.abs(expected).max(), 1.01 / 255)
        )

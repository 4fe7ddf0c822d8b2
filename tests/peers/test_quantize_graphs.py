"""Whole graphs are quantized: recurrent layers and constant matrices, within a stated error."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import modules
from support.onnx_nodes import open_model, outputs_of

import onward
from onward.errors import ArgumentError, PrecisionError
from onward.graph import Graph, Model


def opened(name: str) -> tuple[Any, dict[str, Any]]:
    whole = modules.WHOLE[name]
    inputs = modules.inputs_of(whole.inputs, 0)
    return open_model(onnx.load_from_string(modules.exported(whole.module(), inputs))), inputs


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("name", ["voice detector", "noise suppressor", "text reader", "tagger", "policy"])
def test_a_quantized_model_is_small_close_and_saved_unchanged(
    tmp_path: Path, name: str, precision: str
) -> None:
    model, inputs = opened(name)
    small = model.quantize(precision)
    expected = outputs_of(model, **inputs)
    for y, exact in zip(outputs_of(small, **inputs), expected, strict=True):
        assert np.abs(y - exact).max() < (0.002 if precision == "float16" else 0.1) * max(
            1, np.abs(exact).max()
        )
    model.save(tmp_path / "model")
    small.save(tmp_path / "small")
    sizes = [(tmp_path / file).stat().st_size for file in ("model", "small")]
    if name != "tagger":  # whose embedding is not quantized
        assert sizes[1] < (0.6 if precision == "float16" else 0.4) * sizes[0]
    again: Any = onward.load(tmp_path / "small")
    for y, same in zip(outputs_of(again, **inputs), outputs_of(small, **inputs), strict=True):
        np.testing.assert_array_equal(y, same)


def test_the_steps_of_an_unrolled_loop_share_one_quantized_layer() -> None:
    model, _ = opened("translator")
    (loop,) = (node for node in model.quantize("int8").graph.nodes if node.operation == "Loop")
    assert [node.operation for node in loop.attributes["body"].nodes].count("Step") == 1


def product(W: Any, operation: str = "MatMul", **attributes: Any) -> Model:
    graph = Graph()
    x = graph.add_input("x", np.float32)
    graph.outputs = (graph.add(operation, x, graph.add_constant(W, "W"), **attributes),)
    return Model(graph)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}])
def test_int8_has_one_scale_for_each_output(attributes: dict[str, Any]) -> None:
    W = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32)
    W *= np.float32(10) ** np.arange(33, dtype=np.float32)[:33] / np.float32(1e16)  # a scale of its own each
    small = product(W.T.copy() if attributes else W, "Gemm", **attributes).quantize("int8")
    step = np.abs(W).max(axis=0) / 127
    error = np.abs(small(np.eye(7, dtype=np.float32)) - W)
    assert (error <= step * 0.5001).all()


def test_a_large_difference_is_refused_and_stated() -> None:
    W = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    x, model = np.ones((2, 7), np.float32), product(W)
    model.quantize("int8", check=x, tolerance=1)
    model.quantize("int8", check={"x": x}, tolerance=1)
    with pytest.raises(PrecisionError, match="int8 changes outputs by up to"):
        model.quantize("int8", check=(x,), tolerance=1e-9)


def test_a_graph_without_weights_is_refused() -> None:
    graph = Graph()
    graph.outputs = (graph.add("Relu", graph.add_input("x", np.float32)),)
    with pytest.raises(ArgumentError, match="no recurrent layers and no products"):
        Model(graph).quantize("int8")

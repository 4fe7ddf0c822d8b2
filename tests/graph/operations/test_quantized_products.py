"""Products and convolutions with weights in float16 and int8: their numbers, and the same bits everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate
from support.onnx_nodes import outputs_of

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Model

PRECISIONS = ["float16", "int8"]


def random(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape).astype(np.float32)


def model_of(operation: str, W: Any, bias: Any = None, **attributes: Any) -> Model:
    graph = Graph()
    inputs = [graph.add_constant(W, "W"), *([] if bias is None else [graph.add_constant(bias, "bias")])]
    x = graph.add_input("x", np.float32)
    graph.outputs = (graph.add(operation, x, *inputs, **attributes),)
    return Model(graph)


def rounded(rows: Any) -> tuple[Any, Any]:
    """Return rows (.., K) as integers, and their scales (.., 1)."""
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    return np.rint(rows * (np.float32(127) / largest)).astype(np.int64), largest / np.float32(127)


def product(rows: Any, W: Any, bias: Any, precision: str) -> Any:
    """rows (.., K) times W (O, K) by definition, in float64."""
    if precision == "float16":
        return rows.astype(np.float64) @ W.astype(np.float16).astype(np.float64).T + bias
    (q, scale), (q_W, scale_W) = rounded(rows), rounded(W)
    return (q @ q_W.T) * (scale.astype(np.float64) * scale_W[:, 0]) + bias


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("B", "K", "N"), [(1, 1, 1), (5, 33, 7), (17, 130, 70), (100, 7, 129)])
def test_a_product_computes_with_the_quantized_matrix(
    isa: str, precision: str, B: int, K: int, N: int
) -> None:
    x, W, bias = random(B, K), random(K, N), random(N)
    small = model_of("MatMul", W, bias).quantize(precision)
    y = small(x)
    np.testing.assert_allclose(y, product(x, W.T, bias, precision), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y, evaluate(small.graph, x)[0])
    np.testing.assert_array_equal(y, np.concatenate([small(row[None]) for row in x]))
    with onward.num_threads(3):
        np.testing.assert_array_equal(y, small(x))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"transA": 1, "alpha": 0.5, "beta": 2.0}])
def test_gemm_keeps_its_attributes(precision: str, has_bias: bool, attributes: dict[str, Any]) -> None:
    x, W, C = random(5, 7), random(7, 3), random(1, 3) if has_bias else None
    stored = W.T.copy() if "transB" in attributes else W
    small = model_of("Gemm", stored, C, **attributes).quantize(precision)
    expected = product(x, attributes.get("alpha", 1) * W.T, 0, precision)
    if C is not None:
        expected = expected + attributes.get("beta", 1) * C
    np.testing.assert_allclose(
        small(x.T.copy() if "transA" in attributes else x), expected, rtol=1e-5, atol=1e-5
    )


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one axis": ((3, 5, 40), (7, 5, 3), {"pads": [1, 1]}),
    "stride and dilation": ((2, 8, 50), (17, 8, 5), {"strides": [3], "dilations": [2]}),
    "groups": ((2, 6, 20), (4, 3, 4), {"group": 2}),
    "two axes": ((2, 3, 9, 11), (5, 3, 3, 2), {"pads": [1, 0, 1, 1], "strides": [1, 2]}),
    "kernel of one": ((1, 33, 10), (7, 33, 1), {}),
}


def windows(x: Any, kernel: Any, a: dict[str, Any]) -> Any:
    """Return the windows (N, *out, C, *kernel) of x (N, C, *in), one by one."""
    n = len(kernel)
    strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    pads = a.get("pads", [0] * 2 * n)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    out = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    result = np.empty((x.shape[0], *out, x.shape[1], *kernel), np.float32)
    for place in np.ndindex(*out):
        taps = [
            slice(i * s, i * s + (k - 1) * d + 1, d)
            for i, s, k, d in zip(place, strides, kernel, dilations, strict=True)
        ]
        result[(slice(None), *place)] = x[(slice(None), slice(None), *taps)]
    return result


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_computes_with_the_quantized_filters(isa: str, precision: str, name: str) -> None:
    shape, filters, attributes = CONVOLUTIONS[name]
    x, W, bias, groups = random(*shape), random(*filters), random(filters[0]), attributes.get("group", 1)
    parts = []
    for own_x, own_W, own_bias in zip(
        np.split(x, groups, 1), np.split(W, groups), np.split(bias, groups), strict=True
    ):
        seen = windows(own_x, filters[2:], attributes)
        rows = seen.reshape(*seen.shape[: x.ndim - 1], -1)
        parts.append(product(rows, own_W.reshape(len(own_W), -1), own_bias, precision))
    small = model_of("Conv", W, bias, **attributes).quantize(precision)
    y = small(x)
    np.testing.assert_allclose(y, np.moveaxis(np.concatenate(parts, -1), -1, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y, evaluate(small.graph, x)[0])
    np.testing.assert_array_equal(y, np.concatenate([small(row[None]) for row in x]))
    with onward.num_threads(2):
        np.testing.assert_array_equal(y, small(x))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_quantized_convolution_streams_with_the_bits_of_the_whole_sequence(precision: str) -> None:
    graph = Graph()
    W, bias = graph.add_constant(random(7, 5, 3), "W"), graph.add_constant(random(7), "bias")
    x = graph.add_input("x", np.float32, (1, 5, "time"))
    graph.outputs = (graph.add("Conv", x, W, bias, pads=[2, 0]),)
    small, x = Model(graph).quantize(precision), random(1, 5, 40)
    stream = small.stream(time_axis=2)
    y = [stream(x[..., t : t + 8]) for t in range(0, 40, 8)]
    np.testing.assert_array_equal(np.concatenate([*y, stream.finish()], 2), small(x))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_depthwise_filters_stay_as_they_are(precision: str) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32)
    depthwise = graph.add("Conv", x, graph.add_constant(random(6, 1, 3), "depthwise"), group=6)
    graph.outputs = (graph.add("Conv", depthwise, graph.add_constant(random(4, 6, 1), "W")),)
    small = Model(graph).quantize(precision)
    assert [node.operation for node in small.graph.nodes] == ["Conv", "QuantizedConv"]
    assert small.graph.constants["depthwise"].dtype == np.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_quantized_weights_are_exported(precision: str, tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (2, 5, 40))
    y = graph.add("Conv", x, graph.add_constant(random(7, 5, 3), "W"), graph.add_constant(random(7), "b"))
    graph.outputs = (graph.add("MatMul", y, graph.add_constant(random(38, 3), "V")),)
    model, sample = Model(graph), random(2, 5, 40)
    small = model.quantize(precision)
    small.export_onnx(tmp_path / "small.onnx")
    np.testing.assert_array_equal(outputs_of(onward.load(tmp_path / "small.onnx"), sample)[0], small(sample))


def test_matrices_too_wide_for_exact_sums_are_refused() -> None:
    with pytest.raises(ArgumentError, match="int8 supports at most"):
        model_of("MatMul", np.ones((2**17 + 1, 1), np.float32)).quantize("int8")

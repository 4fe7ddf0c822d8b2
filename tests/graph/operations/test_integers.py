"""Quantized operations in the core give exactly the numbers of NumPy's integer arithmetic."""

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model
from support.running import bound, runs_in_core, simplified

import onward

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def integers(dtype: str, *shape: int) -> Any:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def run(nodes: list[Any], inputs: dict[str, Any], weights: dict[str, Any], outputs: Any = ("y",)) -> Any:
    """Run a model twice, all of it in the core, and return its outputs."""
    graph = open_model(model_of(nodes, inputs, list(outputs), weights))
    graph(**inputs)
    results = graph(**inputs)
    assert runs_in_core(graph, *inputs.values())
    return results


def exact_product(x: Any, x_zero: Any, W: Any, W_zero: Any) -> Any:
    return (x.astype(np.int64) - np.int64(x_zero)) @ (W.astype(np.int64) - np.asarray(W_zero, np.int64))


@pytest.mark.parametrize(("a", "b"), list(itertools.product(["uint8", "int8"], repeat=2)))
@pytest.mark.parametrize("per_column", [False, True])
def test_integer_products_are_exact(a: str, b: str, per_column: bool, isa: str) -> None:
    for rows, K, columns in [(1, 1, 1), (1, 33, 17), (5, 256, 33), (17, 7, 64), (3, 129, 100), (40, 64, 16)]:
        x, W, x_zero = integers(a, 2, rows, K), integers(b, K, columns), integers(a)
        W_zero = integers(b, *([columns] if per_column else []))
        weights = {"W": W, "z": W_zero}
        nodes = [helper.make_node("MatMulInteger", ["x", "W", "x_zero", "z"], ["y"])]
        inputs = {"x": x, "x_zero": np.array([x_zero])}
        (y,) = run(nodes, inputs, weights)
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, exact_product(x, x_zero, W, W_zero))


@pytest.mark.parametrize("value", [-128, 127])
def test_products_of_extreme_numbers_do_not_saturate(value: int, isa: str) -> None:
    x, W = np.full((3, 65), 255, np.uint8), np.full((65, 20), value, np.int8)
    (y,) = run([helper.make_node("MatMulInteger", ["x", "W"], ["y"])], {"x": x}, {"W": W})
    np.testing.assert_array_equal(y, np.full((3, 20), 65 * 255 * value))


@pytest.mark.parametrize(
    ("x_shape", "W_shape", "attributes"),
    [
        ((2, 3, 20), (5, 3, 4), {}),
        ((1, 3, 20), (5, 3, 4), {"strides": [3], "pads": [2, 1]}),
        ((2, 4, 20), (6, 2, 3), {"group": 2, "pads": [2, 0]}),
        ((2, 6, 20), (6, 1, 3), {"group": 6, "dilations": [2], "pads": [4, 0]}),
        ((2, 3, 9, 8), (17, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((1, 4, 9, 8), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_LOWER"}),
    ],
)
def test_integer_convolutions_match_convolutions_in_float64(
    x_shape: Any, W_shape: Any, attributes: Any, isa: str
) -> None:
    torch = pytest.importorskip("torch")
    x, W, x_zero = integers("uint8", *x_shape), integers("int8", *W_shape), integers("uint8")
    nodes = [helper.make_node("ConvInteger", ["x", "W", "x_zero", "z"], ["y"], **attributes)]
    W_zero = integers("int8")
    (y,) = run(nodes, {"x": x, "x_zero": np.array([x_zero])}, {"W": W, "z": W_zero})
    centered = torch.tensor(x.astype(np.float64) - float(x_zero))
    if "pads" in attributes or "auto_pad" in attributes:
        n = len(x_shape) - 2
        pads = attributes.get("pads", [1] * 2 * n)
        sides = [side for axis in reversed(range(n)) for side in (pads[axis], pads[axis + n])]
        centered = torch.nn.functional.pad(centered, sides)
    convolve = torch.nn.functional.conv1d if len(x_shape) == 3 else torch.nn.functional.conv2d
    expected = convolve(
        centered,
        torch.tensor(W.astype(np.float64) - float(W_zero)),
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    )
    np.testing.assert_array_equal(y, expected.numpy())


def dynamically_quantized(x: Any) -> tuple[Any, Any, Any]:
    low, high = min(np.float32(0), x.min()), max(np.float32(0), x.max())
    scale = np.float32(high - low) / np.float32(255) or np.float32(1)
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), scale, zero.astype(np.uint8)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 33), (1, 1, 64)])
@pytest.mark.parametrize("shift", [0, 3, -3])
def test_dynamic_quantization_rounds_to_even(shape: Any, shift: float, isa: str) -> None:
    x = normal(*shape) + np.float32(shift)
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])]
    for mine, expected in zip(
        run(nodes, {"x": x}, {}, ["y", "scale", "zero"]), dynamically_quantized(x), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)
    halves = np.arange(-128, 128, dtype=np.float32) + np.float32(0.5)
    halves[[0, -1]] = -128, 127
    (y, scale, zero) = run(nodes, {"x": halves}, {}, ["y", "scale", "zero"])
    assert scale == 1 and zero == 128
    np.testing.assert_array_equal(y.astype(int) - 128, np.rint(halves))


def test_dynamic_quantization_of_zeros_and_nan(isa: str) -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])]
    y, scale, zero = run(nodes, {"x": np.zeros(5, np.float32)}, {}, ["y", "scale", "zero"])
    assert not y.any() and scale == 1 and zero == 0
    y, scale, zero = run(nodes, {"x": np.float32([1, np.nan, -2])}, {}, ["y", "scale", "zero"])
    assert np.isnan(scale)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantization_and_its_inverse_match_numpy(dtype: str, axis: int | None, isa: str) -> None:
    x = normal(4, 3, 21)
    n = [] if axis is None else [x.shape[axis]]
    scale, zero = (0.01 + RNG.random(n)).astype(np.float32) / 30, integers(dtype, *n)
    aligned = [1] * 3
    if axis is not None:
        aligned[axis] = -1
    s, z = scale.reshape(aligned), zero.reshape(aligned)
    limits = np.iinfo(dtype)
    q = np.clip(np.rint(x / s) + z, limits.min, limits.max).astype(dtype)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attributes),
    ]
    mine, y = run(nodes, {"x": x}, {"scale": scale, "zero": zero}, ["q", "y"])
    np.testing.assert_array_equal(mine, q)
    np.testing.assert_array_equal(y, (q.astype(np.int32) - z).astype(np.float32) * s)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_dynamically_quantized_linear_layer_is_one_product(
    per_column: bool, swapped: bool, isa: str
) -> None:
    W, bias = integers("int8", 33, 50), normal(50)
    W_scale = np.asarray(0.01 + RNG.random([50] if per_column else []) / 50, np.float32)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["q", "W", "x_zero"], ["sums"]),
        helper.make_node("Mul", ["x_scale", "W_scale"], ["scale"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=1),
        helper.make_node("Mul", ["scale", "floats"] if swapped else ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["bias", "scaled"] if swapped else ["scaled", "bias"], ["y"]),
    ]
    weights = {"W": W, "W_scale": W_scale, "bias": bias}
    for rows in (1, 17, 150):
        x = normal(rows, 33)
        (y,) = run(nodes, {"x": x}, weights)
        q, scale, zero = dynamically_quantized(x)
        expected = exact_product(q, zero, W, 0).astype(np.float32) * (scale * W_scale) + bias
        np.testing.assert_array_equal(y, expected)
    graph = open_model(model_of(nodes, {"x": x}, ["y"], weights))
    graph(x)
    assert bound(graph, x).segments == [(0, 3)]  # without a copy to the output


def test_a_product_that_others_read_stays_an_integer_product() -> None:
    x, W = integers("uint8", 5, 7), integers("int8", 7, 9)
    nodes = [
        helper.make_node("MatMulInteger", ["x", "W"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=1),
    ]
    sums, y = run(nodes, {"x": x}, {"W": W}, ["sums", "y"])
    np.testing.assert_array_equal(sums, exact_product(x, 0, W, 0))
    np.testing.assert_array_equal(y, sums.astype(np.float32))


def test_a_cast_to_integers_and_back_still_truncates() -> None:
    W = normal(6, 1, 3)
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["z"], group=6),
        helper.make_node("Cast", ["z"], ["whole"], to=6),
        helper.make_node("Cast", ["whole"], ["y"], to=1),
    ]
    x = normal(2, 6, 20) * 9
    (y,) = run(nodes, {"x": x}, {"W": W})
    assert (y == np.trunc(y)).all() and y.any()


def test_a_depthwise_convolution_of_bytes_returns_float32_if_only_floats_are_read() -> None:
    W = integers("int8", 6, 1, 3)
    nodes = [
        helper.make_node("ConvInteger", ["x", "W"], ["sums"], group=6),
        helper.make_node("Cast", ["sums"], ["y"], to=1),
    ]
    x = integers("uint8", 2, 6, 20)
    (y,) = run(nodes, {"x": x}, {"W": W})
    (sums,) = run([helper.make_node("ConvInteger", ["x", "W"], ["y"], group=6)], {"x": x}, {"W": W})
    np.testing.assert_array_equal(y, sums.astype(np.float32))


def requantized(sums: Any, scale: Any, zero: Any) -> Any:
    limits = np.iinfo(zero.dtype)
    rounded = np.rint(sums.astype(np.float32) * np.float32(scale)) + zero
    return np.clip(rounded, limits.min, limits.max).astype(zero.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantized_products_match_numpy(dtype: str, isa: str) -> None:
    x, W = integers(dtype, 2, 5, 65), integers("int8", 65, 18)
    x_zero, W_zero, y_zero = integers(dtype), integers("int8", 18), integers(dtype)
    x_scale, W_scale, y_scale = (
        np.float32(0.02),
        np.float32(0.01) + RNG.random(18).astype(np.float32),
        np.float32(9),
    )
    names = ["x", "x_scale", "x_zero", "W", "W_scale", "W_zero", "y_scale", "y_zero"]
    weights = dict(zip(names[1:], (x_scale, x_zero, W, W_scale, W_zero, y_scale, y_zero), strict=True))
    (y,) = run([helper.make_node("QLinearMatMul", names, ["y"])], {"x": x}, weights)
    scale = x_scale * W_scale / y_scale
    np.testing.assert_array_equal(y, requantized(exact_product(x, x_zero, W, W_zero), scale, y_zero))


def test_quantized_convolutions_match_numpy(isa: str) -> None:
    x, W, bias = (
        integers("uint8", 2, 5, 6, 5),
        integers("int8", 7, 5, 1, 1),
        RNG.integers(-999, 999, 7, np.int32),
    )
    x_zero, W_zero, y_zero = integers("uint8"), integers("int8", 7), integers("uint8")
    x_scale, W_scale, y_scale = (
        np.float32(0.02),
        np.float32(0.01) + RNG.random(7).astype(np.float32),
        np.float32(5),
    )
    names = ["x", "x_scale", "x_zero", "W", "W_scale", "W_zero", "y_scale", "y_zero", "bias"]
    weights = dict(zip(names[1:], (x_scale, x_zero, W, W_scale, W_zero, y_scale, y_zero, bias), strict=True))
    (y,) = run([helper.make_node("QLinearConv", names, ["y"])], {"x": x}, weights)
    sums = exact_product(x.transpose(0, 2, 3, 1), x_zero, W[..., 0, 0].T, W_zero) + bias
    expected = requantized(sums, x_scale * W_scale / y_scale, y_zero).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y, expected)


def test_threads_do_not_change_integer_products() -> None:
    x, W = normal(700, 100), integers("int8", 100, 90)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["q", "W", "x_zero"], ["y"]),
    ]
    with onward.num_threads(1):
        (one,) = run(nodes, {"x": x}, {"W": W})
    with onward.num_threads(2):
        np.testing.assert_array_equal(run(nodes, {"x": x}, {"W": W})[0], one)


@pytest.mark.parametrize("operation", ["Conv", "MatMul", "Gemm", "Transpose"])
@pytest.mark.parametrize("per_unit", [False, True])
def test_products_of_dequantized_arrays_are_integer_products(operation: str, per_unit: bool) -> None:
    """As others, if exporters transpose the matrix after they dequantize it."""
    is_transposed, operation = operation == "Transpose", operation.replace("Transpose", "MatMul")
    x, bias, units = normal(4, 33), normal(18), 18
    W = integers("int8", 33, units)
    scale = (0.01 + RNG.random(units if per_unit else 1) / 50).astype(np.float32)
    W_zero = integers("int8", len(scale)) if per_unit else integers("int8", 1)
    matrix, axis = {"Conv": (W.T[..., None], 0), "MatMul": (W, 1), "Gemm": (W.T, 0)}[operation]
    if is_transposed:
        matrix, axis = matrix.T, -2
    weights = {
        **{"W": np.ascontiguousarray(matrix), "W_scale": scale, "W_zero": W_zero, "bias": bias},
        **{"x_scale": np.float32(0.03), "x_zero": np.uint8(120)},
    }
    if not per_unit:
        weights |= {"W_scale": scale.reshape(()), "W_zero": W_zero.reshape(())}
    attributes = {"transB": 1} if operation == "Gemm" else {}
    names = ["f", "V"] if operation == "MatMul" else ["f", "V", "bias"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "x_scale", "x_zero"], ["f"]),
        helper.make_node("DequantizeLinear", ["W", "W_scale", "W_zero"], ["V"], axis=axis),
        helper.make_node(operation, names, ["y"], **attributes),
    ]
    if is_transposed:
        nodes[2].output[0] = "V_rows"
        nodes.insert(3, helper.make_node("Transpose", ["V_rows"], ["V"]))
    rows = x[:, :, None] if operation == "Conv" else x
    graph = open_model(model_of(nodes, {"x": rows}, ["y"], weights))
    (y,) = graph(rows)
    assert "DequantizeLinear" not in [node.operation for node in simplified(graph).nodes]
    q = np.clip(np.rint(x / np.float32(0.03)) + 120, 0, 255)
    expected = exact_product(q, 120, W, W_zero).astype(np.float32) * (np.float32(0.03) * scale)
    if operation != "MatMul":
        expected = expected + bias
    np.testing.assert_array_equal(y.reshape(expected.shape), expected)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_two_products_of_the_same_dequantized_arrays_use_one_sum(is_transposed: bool) -> None:
    x, W = normal(4, 7), integers("int8", 7, 9)
    weights = {
        **{"W": np.ascontiguousarray(W.T) if is_transposed else W, "a": normal(9), "b": normal(9)},
        **{
            "scale": np.float32(0.02),
            "zero": np.int8(3),
            "x_scale": np.float32(0.03),
            "x_zero": np.uint8(120),
        },
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "x_scale", "x_zero"], ["f"]),
        helper.make_node("DequantizeLinear", ["W", "scale", "zero"], ["U" if is_transposed else "V"]),
        *([helper.make_node("Transpose", ["U"], ["V"])] if is_transposed else []),
        *(helper.make_node("Gemm", ["f", "V", bias], [f"y_{bias}"]) for bias in "ab"),
    ]
    graph = open_model(model_of(nodes, {"x": x}, ["y_a", "y_b"], weights))
    q = np.clip(np.rint(x / np.float32(0.03)) + 120, 0, 255)
    factor = np.float32(0.03) * np.float32(0.02)
    product = exact_product(q, 120, W, np.int8(3)).astype(np.float32) * factor
    for y, bias in zip(graph(x), "ab", strict=True):
        np.testing.assert_array_equal(y, product + weights[bias])


def test_transposed_constants_of_any_rank_are_dequantized() -> None:
    rng = np.random.default_rng(0)
    for rank in range(5):
        W = rng.integers(-128, 128, rng.integers(1, 4, rank)).astype(np.int8)
        nodes = [
            helper.make_node("DequantizeLinear", ["W", "scale", "zero"], ["f"]),
            helper.make_node("Transpose", ["f"], ["V"]),
            helper.make_node("Mul", ["x", "V"], ["y"]),
        ]
        weights = {"W": W, "scale": np.float32(0.5), "zero": np.int8(3)}
        x = np.ones(W.T.shape, np.float32)
        np.testing.assert_array_equal(run(nodes, {"x": x}, weights)[0], (W.T.astype(np.float32) - 3) / 2)


def test_the_difference_of_integers_of_32_bits_and_their_zero_point_may_be_larger() -> None:
    q, zero = np.array([-(1 << 31), (1 << 31) - 1], np.int32), np.int32(7)
    node = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])
    (y,) = run([node], {"q": q}, {"scale": np.float32(0.5), "zero": zero})
    np.testing.assert_array_equal(y, (q.astype(np.int64) - 7).astype(np.float32) / 2)


def test_products_of_arrays_that_other_scales_dequantized_stay_float_products() -> None:
    x, W = integers("uint8", 5, 7), integers("int8", 7, 9)
    scales = (0.01 + RNG.random(7)).astype(np.float32)  # for the rows of W, which the product sums over
    weights = {
        "W": W,
        "W_scale": scales,
        "W_zero": np.zeros(7, np.int8),
        "one": np.float32(1),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["f"]),
        helper.make_node("DequantizeLinear", ["W", "W_scale", "W_zero"], ["V"], axis=0),
        helper.make_node("MatMul", ["f", "V"], ["y"]),
    ]
    (y,) = open_model(model_of(nodes, {"x": x}, ["y"], weights))(x)
    np.testing.assert_allclose(y, x.astype(np.float32) @ (W * scales[:, None]), rtol=1e-5)

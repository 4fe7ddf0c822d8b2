"""Operators around recurrent nodes, at opsets that changed their meaning, against onnxruntime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from support import onnx_nodes
from support.onnx_nodes import open_model

RNG = np.random.default_rng(0)
WHOLE, HALVES = np.array([1, 1, 2, 3], np.float32), np.array([1, 1, 1.6, 2.5], np.float32)
CUT = {"pads": np.array([0, -1, 2, 1, 0, -2])}
SCALE = {"s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.array([3, 0, -2], np.int8)}


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def assert_agrees(op: str, x: Any, opset: int, constants: dict[str, Any], **attributes: Any) -> None:
    """Check that a node with the inputs x and the constants gives the outputs of onnxruntime."""
    inputs = ["x", *constants]
    node = helper.make_node(op, inputs, ["y"], **attributes)
    model = onnx_nodes.model_of([node], {"x": x}, ["y"], constants, opset)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (y,) = open_model(model)(x)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("opset", [7, 11, 12, 13, 17])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_operators_follow_their_opset(op: str, opset: int, axis: int | None) -> None:
    if axis == -1 and opset < 11:
        axis = None
    assert_agrees(op, normal(2, 3, 4), opset, {}, **({} if axis is None else {"axis": axis}))


def test_log_softmax_is_finite_where_softmax_is_zero() -> None:
    assert_agrees("LogSoftmax", np.array([[0, -200, 300]], np.float32), 17, {})


@pytest.mark.parametrize(
    ("op", "x", "constants", "attributes"),
    [
        ("LRN", normal(2, 5, 4, 4), {}, {"size": 3, "alpha": 0.1}),
        ("LRN", normal(6, 3, 4, 4), {}, {"size": 5, "alpha": 0.5, "beta": 0.5, "bias": 2.0}),
        ("LpNormalization", normal(2, 3), {}, {"axis": 1, "p": 1}),
        ("LpNormalization", np.zeros((2, 3), np.float32), {}, {}),
        ("DequantizeLinear", np.arange(-3, 3, dtype=np.int8).reshape(2, 3), SCALE, {}),
        ("DequantizeLinear", np.arange(6, dtype=np.uint8), {"s": np.float32(0.3)}, {}),
        ("Pad", normal(2, 3, 5), CUT, {}),
        ("Pad", normal(2, 3, 5), {**CUT, "value": np.float32(2.5)}, {"mode": "constant"}),
    ],
)
@pytest.mark.parametrize("opset", [13, 17])
def test_operators_that_differ_in_the_onnx_package_agree_with_onnxruntime(
    op: str, x: Any, constants: dict[str, Any], attributes: dict[str, Any], opset: int
) -> None:
    assert_agrees(op, x, opset, constants, **attributes)


@pytest.mark.parametrize("opset", [7, 8])
def test_batch_norm_follows_its_opset(opset: int) -> None:
    statistics = {name: np.abs(normal(3)) for name in "sbmv"}
    assert_agrees("BatchNormalization", normal(2, 3, 4), opset, statistics, epsilon=0.1)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_half_pixel_for_nn"]
)
@pytest.mark.parametrize("scales", [WHOLE, HALVES, HALVES / 4])
def test_resize_selects_the_same_neighbors(mode: str, coordinates: str, scales: Any) -> None:
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    x, last = normal(1, 2, 4, 9), np.array([1, 1, *scales[2:]], np.float32)
    ways = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"] if mode == "nearest" else [None]
    for way in ways:
        for opset in (11,) if coordinates == "tf_half_pixel_for_nn" else (11, 13, 18):
            nearest = {} if way is None else {"nearest_mode": way}
            assert_agrees(
                "Resize", x, opset, {"roi": np.zeros(0, np.float32), "s": last}, **options, **nearest
            )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_follows_its_opset(mode: str) -> None:
    for scales in (WHOLE, HALVES):
        assert_agrees("Resize", normal(1, 2, 3, 8), 10, {"s": scales}, mode=mode)
        for factors in ([0.6, 0.3], [0.7, 2.5], [1.5, 0.4]):
            shrinking = np.array([1, 1, *factors], np.float32)
            assert_agrees("Resize", normal(1, 2, 3, 8), 10, {"s": shrinking}, mode=mode)
        assert_agrees("Upsample", normal(1, 2, 3, 8), 9, {"s": scales}, mode=mode)
        assert_agrees("Upsample", normal(1, 2, 3, 8), 7, {}, mode=mode, scales=list(scales))

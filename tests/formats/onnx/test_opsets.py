"""ONNX operators whose meaning depends on the opset: broadcasting, PRelu, Softmax, Resize and RoiAlign."""

import numpy as np
import onnx
import pytest
from onnx import helper
from support import onnx_nodes
from support.onnx_nodes import normal, open_model

from onward import errors
from onward.formats.onnx import opsets


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_broadcasting_before_opset_7_starts_at_the_axis_attribute(op: str) -> None:
    x, w = np.abs(normal(3, 3)), np.array([1, 2, 3], np.float32)
    answers = []
    for axis in (0, 1):
        node = helper.make_node(op, ["x", "w"], ["y"], broadcast=1, axis=axis)
        answers.append(open_model(onnx_nodes.model_of([node], {"x": x}, ["y"], {"w": w}, opset=6))(x)[0])
    plain = helper.make_node(op, ["x", "w"], ["y"])
    for y, shape in zip(answers, [(3, 1), (1, 3)], strict=True):
        (expected,) = open_model(onnx_nodes.model_of([plain], {"x": x}, ["y"], {"w": w.reshape(shape)}))(x)
        np.testing.assert_allclose(y, expected, rtol=3e-7 if op == "Pow" else 0)  # NumPy has its own power


def test_a_wrong_broadcasting_axis_is_refused() -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"], "sum", broadcast=1, axis=1)
    graph = open_model(onnx_nodes.model_of([node], {"x": normal(4, 3)}, ["y"], {"w": normal(4)}, opset=6))
    with pytest.raises(
        errors.ArgumentError, match=r"node sum \(Add\): B has shape \(4,\), which does not fit A .*axis=1"
    ):
        graph(normal(4, 3))


def test_a_bias_per_row_is_not_fused_into_the_product() -> None:
    x, M, rows = normal(3, 4), normal(4, 3), np.array([1, 20, 300], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "M"], ["z"]),
        helper.make_node("Add", ["z", "rows"], ["y"], broadcast=1, axis=0),
    ]
    (y,) = open_model(onnx_nodes.model_of(nodes, {"x": x}, ["y"], {"M": M, "rows": rows}, opset=6))(x)
    np.testing.assert_allclose(y, x @ M + rows[:, None], rtol=1e-6)


def test_prelu_slopes_before_opset_7_are_per_channel() -> None:
    x, slope = normal(2, 3, 3), np.array([0.1, 0.2, 0.3], np.float32)
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    (y,) = open_model(onnx_nodes.model_of([node], {"x": x}, ["y"], {"slope": slope}, opset=6))(x)
    np.testing.assert_array_equal(y, np.where(x < 0, x * slope[:, None], x))


def test_softmax_before_opset_13_flattens_its_axis_and_all_after_it() -> None:
    x = normal(2, 3, 4)
    for op, attributes in (("Softmax", {}), ("LogSoftmax", {"axis": 1}), ("Hardmax", {"axis": -2})):
        node = helper.make_node(op, ["x"], ["y"], **attributes)
        last = helper.make_node(op, ["x"], ["y"], axis=-1)
        (y,) = open_model(onnx_nodes.model_of([node], {"x": x}, ["y"], opset=11))(x)
        rows = x.reshape(2, 12)
        (expected,) = open_model(onnx_nodes.model_of([last], {"x": rows}, ["y"]))(rows)
        np.testing.assert_array_equal(y, expected.reshape(x.shape))


def test_softmax_in_a_function_uses_the_opset_and_the_attribute_of_the_call() -> None:
    x = normal(2, 3, 4)
    node = helper.make_node("Softmax", ["x"], ["y"])
    node.attribute.append(
        onnx.AttributeProto(name="axis", ref_attr_name="along", type=onnx.AttributeProto.INT)
    )
    opset = [helper.make_opsetid("", 11)]
    function = helper.make_function("mine", "Head", ["x"], ["y"], [node], opset, ["along"])
    call = helper.make_node("Head", ["x"], ["y"], domain="mine", along=1)
    model = onnx_nodes.model_of([call], {"x": x}, ["y"], opset=11)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    np.testing.assert_allclose(open_model(model)(x)[0].sum((1, 2)), 1, rtol=1e-6)


def test_roi_align_before_opset_16_is_refused() -> None:
    feeds = {"x": normal(1, 2, 5, 5), "rois": np.array([[0, 0, 3, 3]], np.float32)}
    node = helper.make_node("RoiAlign", ["x", "rois", "rows"], ["y"], "pixels")
    model = onnx_nodes.model_of([node], feeds, ["y"], {"rows": np.array([0])}, opset=10)
    with pytest.raises(errors.ArgumentError, match=r"node pixels \(RoiAlign\): is of an opset before 16"):
        open_model(model)


@pytest.mark.parametrize(
    "name, inputs, opset",
    [
        ("GroupNormalization", ["x", "x", "x"], 18),  # without num_groups
        ("Resize", ["x"], 10),  # without scales
        ("Constant", [], 17),  # without a value
        ("Cast", ["x"], 17),  # without a type
        ("TopK", ["x"], 9),  # without k
    ],
)
def test_an_operator_without_what_its_opset_requires_is_refused(
    name: str, inputs: list[str], opset: int
) -> None:
    node = helper.make_node(name, inputs, ["y"], "damaged")
    model = onnx_nodes.model_of([node], {"x": normal(1, 3, 4)}, ["y"], {}, opset=opset)
    with pytest.raises(
        errors.ArgumentError, match=f"node damaged .{name}.: the inputs or attributes do not fit"
    ):
        open_model(model)


@pytest.mark.parametrize("name", sorted(opsets.INTERNAL))
def test_operations_that_are_no_operators_are_refused_in_files(name: str) -> None:
    model = onnx_nodes.model_of([helper.make_node(name, ["x"], ["y"])], {"x": normal(3)}, ["y"], {})
    with pytest.raises(errors.ArgumentError, match=f"the operator {name} of opset .* is not supported"):
        open_model(model)


@pytest.mark.parametrize("name, others", [("Not", []), ("Where", ["x", "x"])])
def test_a_condition_of_numbers_does_not_reach_the_core(name: str, others: list[str]) -> None:
    x = np.array([0, 1, -2], np.float32)
    node = helper.make_node(name, ["x", *others], ["y"])
    (y,) = open_model(onnx_nodes.model_of([node], {"x": x}, ["y"], {}))(x)
    np.testing.assert_array_equal(y, x if others else [True, False, False])


@pytest.mark.parametrize("operator", ["MatMul", "com.microsoft.FusedMatMul"])
def test_a_product_with_a_third_input_is_refused(operator: str) -> None:
    """It was added to the product, as by the operations of graphs."""
    domain, _, name = operator.rpartition(".")
    node = helper.make_node(name, ["a", "b", "c"], ["y"], domain=domain)
    model = onnx_nodes.model_of([node], {each: normal(2, 2) for each in "abc"}, ["y"])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(errors.ArgumentError, match=r"node y \(.*MatMul\): has 3 inputs; expected 2"):
        open_model(model)


@pytest.mark.parametrize("is_constant", [True, False])
def test_resize_of_opset_10_takes_the_next_neighbor_along_axes_that_shrink(is_constant: bool) -> None:
    x, scales = normal(1, 2, 3, 4), np.array([1, 1, 2, 0.6], np.float32)
    node = helper.make_node("Resize", ["x", "scales"], ["y"], mode="nearest")
    given = {"x": x} if is_constant else {"x": x, "scales": scales}
    constants = {"scales": scales} if is_constant else {}
    (y,) = open_model(onnx_nodes.model_of([node], given, ["y"], constants, opset=10))(**given)
    np.testing.assert_array_equal(y, x[:, :, [0, 0, 1, 1, 2, 2]][..., [0, 2]])  # 1 / 0.6 is between 1 and 2


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_bounds_and_padding_in_attributes_have_the_dtype_of_the_input(dtype: type) -> None:
    x = normal(3, 4, dtype=dtype)
    clip = helper.make_node("Clip", ["x"], ["y"], min=-0.3, max=0.1)
    (y,) = open_model(onnx_nodes.model_of([clip], {"x": x}, ["y"], opset=10))(x)
    bounds = np.array([-0.3, 0.1], np.float32).astype(dtype)
    np.testing.assert_array_equal(y, np.clip(x, *bounds), strict=True)
    pad = helper.make_node("Pad", ["x"], ["y"], pads=[0, 1, 0, 0], value=0.1)
    (y,) = open_model(onnx_nodes.model_of([pad], {"x": x}, ["y"], opset=10))(x)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (1, 0)), constant_values=bounds[1]), strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("bounds", [{}, {"min": -0.5}, {"max": 0.25}])
def test_absent_bounds_before_opset_11_are_those_of_float32(dtype: type, bounds: dict[str, float]) -> None:
    x, limit = np.array([np.inf, -np.inf, np.nan, 3, -7, 0.1], dtype), np.finfo(np.float32).max
    model = onnx_nodes.model_of([helper.make_node("Clip", ["x"], ["y"], **bounds)], {"x": x}, ["y"], opset=10)
    low, high = bounds.get("min", -limit), bounds.get("max", limit)
    expected = np.clip(x.astype(np.float64), low, high)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(open_model(model)(x)[0], expected.astype(dtype), strict=True)

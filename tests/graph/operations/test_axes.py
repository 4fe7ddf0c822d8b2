"""Running sums, reductions, the largest elements and resizing in the core match NumPy and PyTorch."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model
from support.running import runs_in_core

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def run(
    operation: str, x: Any, weights: dict[str, Any], outputs: Any = ("y",), opset: int = 13, **attributes: Any
) -> Any:
    """Run one node in the core, on a transposed input."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=list(range(x.ndim))[::-1]),
        helper.make_node(operation, ["t", *weights], list(outputs), **attributes),
    ]
    inputs = {"x": np.ascontiguousarray(x.T)}
    parameters = {name: value for name, value in weights.items() if name}
    graph = open_model(model_of(nodes, inputs, list(outputs), parameters, opset))
    results = graph(**inputs)
    assert runs_in_core(graph, *inputs.values())
    return results


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums_match_numpy(axis: int, reverse: int, isa: str) -> None:
    for shape in [(5, 7, 19), (1, 1, 1), (50, 1, 3)]:
        x = normal(*shape)
        flipped = np.flip(x, axis) if reverse else x
        sums = np.cumsum(flipped, axis, dtype=np.float32)
        before = np.take(np.insert(sums, 0, 0, axis), np.arange(x.shape[axis]), axis)
        for exclusive, expected in enumerate((sums, before)):
            (y,) = run("CumSum", x, {"axis": np.array(axis)}, reverse=reverse, exclusive=exclusive)
            np.testing.assert_array_equal(y, np.flip(expected, axis) if reverse else expected)


REDUCTIONS = {
    "ReduceMin": lambda x, axes: x.min(axes, keepdims=True),
    "ReduceL1": lambda x, axes: np.abs(x).sum(axes, keepdims=True),
    "ReduceL2": lambda x, axes: np.sqrt((x * x).sum(axes, keepdims=True)),
    "ReduceSumSquare": lambda x, axes: (x * x).sum(axes, keepdims=True),
    "ReduceLogSum": lambda x, axes: np.log(x.sum(axes, keepdims=True)),
}


@pytest.mark.parametrize("operation", REDUCTIONS)
def test_reductions_match_numpy_in_float64(operation: str) -> None:
    x = np.abs(normal(5, 7, 19))
    for axes in ([0], [1, 2], [-1], [0, 2]):
        (y,) = run(operation, x, {}, opset=12, axes=axes)
        np.testing.assert_allclose(y, REDUCTIONS[operation](x.astype(np.float64), tuple(axes)), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("operation", ["ArgMax", "ArgMin"])
def test_the_first_extreme_element_is_found(operation: str, axis: int) -> None:
    function = np.argmax if operation == "ArgMax" else np.argmin
    x = RNG.integers(-3, 3, (5, 7, 19)).astype(np.float32)  # with equal elements
    x[2, 3, 4:6] = np.nan
    for keepdims in (0, 1):
        (y,) = run(operation, x, {}, axis=axis, keepdims=keepdims)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, function(x, axis, keepdims=bool(keepdims)))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [0, 1])
def test_the_largest_and_the_smallest_elements_are_sorted(axis: int, largest: int) -> None:
    x = RNG.integers(-3, 3, (5, 7, 19)).astype(np.float32)
    for k in (1, 3, 5):
        k_array = np.array([k])
        values, indices = run("TopK", x, {"k": k_array}, ["values", "indices"], axis=axis, largest=largest)
        order = np.take(np.argsort(-x if largest else x, axis, kind="stable"), np.arange(k), axis)
        np.testing.assert_array_equal(indices, order)
        np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis))


def test_sorting_nan_is_defined() -> None:
    x = normal(1, 300)
    x[0, RNG.permutation(300)[:150]] = np.nan
    values, indices = run("TopK", x, {"k": np.array([300])}, ["values", "indices"])
    assert np.isnan(values[0, :150]).all() and (np.diff(values[0, 150:]) <= 0).all()
    np.testing.assert_array_equal(np.sort(indices[0]), np.arange(300))


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.4])
@pytest.mark.parametrize("aligned", [False, True])
def test_linear_resizing_matches_torch(scale: float, aligned: bool) -> None:
    torch = pytest.importorskip("torch")
    x = normal(2, 3, 9, 11)
    coordinates = "align_corners" if aligned else "half_pixel"
    sizes = np.array([2, 3, int(9 * scale), int(11 * scale)])
    (y,) = run(
        "Resize",
        x,
        {"roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), "sizes": sizes},
        mode="linear",
        coordinate_transformation_mode=coordinates,
    )
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), tuple(sizes[2:]), mode="bilinear", align_corners=aligned
    ).numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_nearest_resizing_matches_numpy(dtype: str) -> None:
    x = RNG.integers(0, 255, (2, 3, 9)).astype(dtype)
    scales = np.float32([1, 1, 3])
    (y,) = run(
        "Resize",
        x,
        {"": None, "scales": scales},
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    np.testing.assert_array_equal(y, np.repeat(x, 3, axis=2))

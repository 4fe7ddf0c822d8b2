"""Idioms of exporters become one operation, near misses do not, and neither changes the results."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate

from onward.graph import Graph
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify

RNG = np.random.default_rng(0)
Write = Callable[[Graph, str], str]


def constant(graph: Graph, value: Any, dtype: Any = np.float32) -> str:
    return graph.add_constant(np.asarray(value, dtype))


def written(write: Write, dtype: Any = np.float32) -> Graph:
    """A graph of one input, which a function writes."""
    graph = Graph()
    x = graph.add_input("x", dtype, ("batch", "time", 5))
    graph.outputs = (write(graph, x),)
    return graph


def operations(graph: Graph) -> list[str]:
    return [node.operation for node in graph.nodes]


def assert_same_results(graph: Graph, dtype: Any = np.float32) -> None:
    """Compare the simplified graph, node by node and planned, with the original graph."""
    simplified = simplify(graph)
    for shape in ((1, 1, 5), (3, 7, 5), (2, 0, 5)):
        x = (3 * RNG.standard_normal(shape)).astype(dtype)
        (expected,) = evaluate(graph, x)
        scale = np.abs(expected).max(initial=1)
        (y,) = evaluate(simplified, x)
        assert y.dtype == expected.dtype and y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=0, atol=(2e-6 if dtype == np.float32 else 1e-12) * scale)
        (planned,) = Planner(simplified)(x)
        np.testing.assert_array_equal(planned, y)


def gelu_of_torch(g: Graph, x: str) -> str:
    phi = g.add("Add", g.add("Erf", g.add("Div", x, constant(g, math.sqrt(2)))), constant(g, 1))
    return g.add("Mul", g.add("Mul", x, phi), constant(g, 0.5))


def gelu_of_keras(g: Graph, x: str) -> str:
    erf = g.add("Erf", g.add("Mul", x, constant(g, 0.70710677)))
    return g.add("Mul", g.add("Mul", constant(g, 0.5), x), g.add("Add", constant(g, 1), erf))


def gelu_with_half_first(g: Graph, x: str) -> str:
    erf = g.add("Erf", g.add("Mul", constant(g, math.sqrt(0.5)), x))
    return g.add("Mul", g.add("Mul", g.add("Add", erf, constant(g, 1)), constant(g, 0.5)), x)


def gelu_divided(g: Graph, x: str) -> str:
    erf = g.add("Erf", g.add("Div", x, constant(g, math.sqrt(2))))
    return g.add("Div", g.add("Mul", x, g.add("Add", erf, constant(g, 1))), constant(g, 2))


def tanh_gelu_of_torch(g: Graph, x: str) -> str:
    cube = g.add("Mul", constant(g, 0.044715), g.add("Mul", x, g.add("Mul", x, x)))
    tanh = g.add("Tanh", g.add("Mul", constant(g, math.sqrt(2 / math.pi)), g.add("Add", x, cube)))
    return g.add("Mul", constant(g, 0.5), g.add("Mul", x, g.add("Add", constant(g, 1), tanh)))


def tanh_gelu_of_keras(g: Graph, x: str) -> str:
    cube = g.add("Mul", g.add("Pow", x, constant(g, 3)), constant(g, 0.044715))
    tanh = g.add("Tanh", g.add("Mul", g.add("Add", x, cube), constant(g, 0.7978846)))
    return g.add("Mul", g.add("Mul", x, constant(g, 0.5)), g.add("Add", tanh, constant(g, 1)))


def silu(g: Graph, x: str) -> str:
    return g.add("Mul", g.add("Sigmoid", x), x)


def swish(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("Sigmoid", g.add("Mul", constant(g, 1.702), x)))


def mish(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))


def hard_swish_of_torch(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("HardSigmoid", x, alpha=0.16666667))


def relu6(g: Graph, x: str) -> str:
    return g.add("Clip", g.add("Add", x, constant(g, 3)), constant(g, 0), constant(g, 6))


def hard_swish_of_old_torch(g: Graph, x: str) -> str:
    return g.add("Div", g.add("Mul", x, relu6(g, x)), constant(g, 6))


def hard_swish_of_keras(g: Graph, x: str) -> str:
    return g.add("Mul", g.add("Mul", relu6(g, x), constant(g, 1 / 6)), x)


def mean(g: Graph, x: str, axes: Any = -1) -> str:
    return g.add("ReduceMean", x, constant(g, np.ravel(axes), np.int64))


def deviation(g: Graph, squares: str, axes: Any = -1, epsilon: float = 1e-5) -> str:
    return g.add("Sqrt", g.add("Add", mean(g, squares, axes), constant(g, epsilon)))


def standardized(g: Graph, x: str, axes: Any = -1) -> str:
    centered = g.add("Sub", x, mean(g, x, axes))
    squares = g.add("Pow", centered, constant(g, 2))
    return g.add("Div", centered, deviation(g, squares, axes))


def standardized_of_jax(g: Graph, x: str) -> str:
    """The difference is written twice, and the inverse root is a factor."""
    centered, again = (g.add("Sub", x, mean(g, x)) for _ in range(2))
    root = g.add("Reciprocal", deviation(g, g.add("Mul", centered, centered)))
    return g.add("Mul", root, again)


def layer_norm_of_torch(g: Graph, x: str) -> str:
    scaled = g.add("Mul", standardized(g, x), constant(g, RNG.standard_normal(5)))
    return g.add("Add", scaled, constant(g, RNG.standard_normal(5)))


def layer_norm_of_keras(g: Graph, x: str) -> str:
    m = mean(g, x, 2)
    centered = g.add("Sub", x, m)
    root = g.add("Reciprocal", deviation(g, g.add("Mul", centered, centered), 2))
    slope = g.add("Mul", root, constant(g, RNG.standard_normal(5)))
    shift = g.add("Sub", constant(g, RNG.standard_normal(5)), g.add("Mul", m, slope))
    return g.add("Add", g.add("Mul", x, slope), shift)


def instance_norm(g: Graph, x: str) -> str:
    return standardized(g, x, [1])


def norm_over_two_axes(g: Graph, x: str) -> str:
    return standardized(g, x, [2, 1])


def rms_norm_of_torch(g: Graph, x: str) -> str:
    root = g.add("Reciprocal", deviation(g, g.add("Pow", x, constant(g, 2))))
    return g.add("Mul", g.add("Mul", x, root), constant(g, RNG.standard_normal(5)))


def rms_norm_divided(g: Graph, x: str) -> str:
    y = g.add("Div", x, deviation(g, g.add("Mul", x, x)))
    return g.add("Mul", constant(g, RNG.standard_normal(5)), y)


IDIOMS = [
    *((write, "Gelu") for write in (gelu_of_torch, gelu_of_keras, gelu_with_half_first, gelu_divided)),
    *((write, "Gelu") for write in (tanh_gelu_of_torch, tanh_gelu_of_keras)),
    *((silu, "Swish"), (swish, "Swish"), (mish, "Mish")),
    *((write, "HardSwish") for write in (hard_swish_of_torch, hard_swish_of_old_torch, hard_swish_of_keras)),
    *((write, "Standardize") for write in (standardized, standardized_of_jax)),
    *((write, "Standardize") for write in (instance_norm, norm_over_two_axes)),
    (layer_norm_of_torch, "LayerNormalization"),
    *((write, "RMSNormalization") for write in (rms_norm_of_torch, rms_norm_divided)),
]


@pytest.mark.parametrize(("write", "operation"), IDIOMS)
def test_an_idiom_becomes_one_operation(write: Write, operation: str) -> None:
    graph = written(write)
    assert operations(simplify(graph)) == [operation]
    if write not in (instance_norm, norm_over_two_axes):  # means over no steps are not numbers
        assert_same_results(graph)


def test_a_normalization_of_tensorflow_becomes_a_standardization_a_scale_and_a_bias() -> None:
    graph = written(layer_norm_of_keras)
    assert operations(simplify(graph)) == ["Standardize", "Mul", "Add"]
    assert_same_results(graph)


@pytest.mark.parametrize("write", [instance_norm, norm_over_two_axes])
def test_a_standardization_over_time_is_planned(write: Write) -> None:
    graph = written(write)
    x = RNG.standard_normal((3, 7, 5)).astype(np.float32)
    (expected,), (y,) = evaluate(graph, x), evaluate(simplify(graph), x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)
    planner = Planner(simplify(graph))
    np.testing.assert_array_equal(planner(x)[0], y)
    assert planner.find([x]).entry is not None  # type: ignore[union-attr]  # the plan exists


def test_an_idiom_of_float64_stays_in_float64() -> None:
    def standardized_in_float64(g: Graph, x: str) -> str:
        axes = constant(g, [-1], np.int64)
        centered = g.add("Sub", x, g.add("ReduceMean", x, axes))
        variance = g.add("ReduceMean", g.add("Mul", centered, centered), axes)
        root = g.add("Sqrt", g.add("Add", variance, constant(g, 1e-5, np.float64)))
        return g.add("Div", centered, root)

    graph = written(standardized_in_float64, np.float64)
    assert operations(simplify(graph)) == ["Standardize"]
    assert_same_results(graph, np.float64)


def near_misses() -> dict[str, Write]:
    def another_factor(g: Graph, x: str) -> str:
        erf = g.add("Erf", g.add("Div", x, constant(g, 1.5)))
        return g.add("Mul", g.add("Mul", x, g.add("Add", erf, constant(g, 1))), constant(g, 0.5))

    def a_constant_with_axes(g: Graph, x: str) -> str:
        erf = g.add("Erf", g.add("Div", x, constant(g, np.full((1, 1, 1, 1), math.sqrt(2)))))
        return g.add("Mul", g.add("Mul", x, g.add("Add", erf, constant(g, 1))), constant(g, 0.5))

    def another_value(g: Graph, x: str) -> str:
        return g.add("Mul", g.add("Neg", x), g.add("Sigmoid", x))

    def an_intermediate_value_is_used(g: Graph, x: str) -> str:
        gate = g.add("Sigmoid", x)
        return g.add("Add", g.add("Mul", x, gate), gate)

    def the_deviation_is_used(g: Graph, x: str) -> str:
        centered = g.add("Sub", x, mean(g, x))
        root = deviation(g, g.add("Mul", centered, centered))
        return g.add("Add", g.add("Div", centered, root), root)

    def means_over_different_axes(g: Graph, x: str) -> str:
        centered = g.add("Sub", x, mean(g, x, -1))
        return g.add("Div", centered, deviation(g, g.add("Mul", centered, centered), [0]))

    def an_epsilon_for_each_feature(g: Graph, x: str) -> str:
        centered = g.add("Sub", x, mean(g, x))
        variance = mean(g, g.add("Mul", centered, centered))
        return g.add("Div", centered, g.add("Sqrt", g.add("Add", variance, constant(g, [1e-5] * 5))))

    def a_variance_in_another_dtype(g: Graph, x: str) -> str:
        centered = g.add("Sub", x, mean(g, x))
        variance = g.add("Cast", mean(g, g.add("Mul", centered, centered)), to=np.dtype(np.float64))
        root = g.add("Sqrt", g.add("Add", variance, constant(g, 1e-5, np.float64)))
        return g.add("Div", centered, g.add("Cast", root, to=np.dtype(np.float32)))

    def a_mean_without_its_axis(g: Graph, x: str) -> str:
        axes = constant(g, [0], np.int64)
        centered = g.add("Sub", x, g.add("ReduceMean", x, axes, keepdims=0))
        variance = g.add("ReduceMean", g.add("Mul", centered, centered), axes, keepdims=0)
        return g.add("Div", centered, g.add("Sqrt", g.add("Add", variance, constant(g, 1e-5))))

    def another_slope(g: Graph, x: str) -> str:
        return g.add("Mul", x, g.add("HardSigmoid", x, alpha=0.2))

    return {name: write for name, write in locals().items() if callable(write)}


@pytest.mark.parametrize("name", near_misses())
def test_a_near_miss_is_not_replaced(name: str) -> None:
    graph = written(near_misses()[name])
    kinds = {"Gelu", "Swish", "HardSwish", "Standardize", "LayerNormalization"}
    assert not kinds & set(operations(simplify(graph)))
    x = RNG.standard_normal((4, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(simplify(graph), x)[0], evaluate(graph, x)[0])


def test_the_intermediate_value_of_an_idiom_may_be_an_output() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch",))
    gate = graph.add("Sigmoid", x)
    graph.outputs = (graph.add("Mul", x, gate), gate)
    assert operations(simplify(graph)) == ["Sigmoid", "Mul"]


def test_a_bias_after_tensorflows_reshape_joins_the_product() -> None:
    def dense(g: Graph, x: str) -> str:
        rows = g.add("Reshape", x, constant(g, [-1, 5], np.int64))
        y = g.add("MatMul", rows, constant(g, RNG.standard_normal((5, 4))))
        y = g.add("Reshape", y, constant(g, [-1, 1, 4], np.int64))
        return g.add("Add", y, constant(g, RNG.standard_normal(4)))

    graph = written(dense)
    assert operations(simplify(graph)) == ["Reshape", "MatMul", "Reshape"]
    x = RNG.standard_normal((3, 2, 5)).astype(np.float32)
    (y,), (expected,) = evaluate(simplify(graph), x), evaluate(graph, x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)

"""The gradients of convolutions and pooling against central differences, for random windows."""

from typing import Any

import numpy as np
import pytest
from support.gradients import check, declared
from support.skips import Case, counted_cases

from onward.errors import OnwardError
from onward.graph import Graph
from onward.graph.gradients import with_gradients
from onward.graph.plan.planner import Planner


def random_window(rng: np.random.Generator, axes: int) -> dict[str, Any]:
    def draw(high: int, count: int = axes) -> list[int]:
        return rng.integers(1, high + 1, count).tolist()

    window: dict[str, Any] = {"strides": draw(3), "dilations": draw(2)}
    if rng.random() < 0.3:
        return window | {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
    return window | {"pads": (np.array(draw(3, 2 * axes)) - 1).tolist()}


def check_case(case: Case, graph: Graph, arrays: list[Any], rng: np.random.Generator) -> None:
    """Check a graph unless no window fits, or one lies in the padding."""
    with case.skipping(OnwardError):
        (y,) = Planner(graph)(*arrays)
    if not np.isfinite(y).all():
        case.skip()
    check(graph, arrays, rng)


@pytest.mark.parametrize("operation", ["Conv", "ConvTranspose"])
def test_convolutions_equal_central_differences(operation: str) -> None:
    for case in counted_cases(40):
        with case:
            rng, graph = np.random.default_rng(case.seed), Graph()
            axes, group = int(rng.integers(1, 3)), int(rng.integers(1, 4))
            N, C, M = (int(n) for n in rng.integers(1, 4, 3))
            kernel = rng.integers(1, 4, axes).tolist()
            sizes, window = rng.integers(1, 9, axes).tolist(), random_window(rng, axes)
            shapes = [(N, group * C, *sizes), (group * M, C, *kernel), (group * M,)]
            if operation == "ConvTranspose":
                shapes[1] = (group * C, M, *kernel)
                window |= {"output_padding": [int(rng.integers(0, step)) for step in window["strides"]]}
            arrays: list[Any] = [rng.standard_normal(shape) for shape in shapes[: int(rng.integers(2, 4))]]
            graph.outputs = (graph.add(operation, *declared(graph, arrays), group=group, **window),)
            check_case(case, graph, arrays, rng)


@pytest.mark.parametrize("operation", ["MaxPool", "AveragePool", "SumPool", "LpPool"])
def test_pooling_equals_central_differences(operation: str) -> None:
    for case in counted_cases(40):
        with case:
            rng, graph = np.random.default_rng(case.seed), Graph()
            axes = int(rng.integers(1, 3))
            window = random_window(rng, axes) | {"kernel_shape": rng.integers(1, 4, axes).tolist()}
            if operation == "AveragePool":
                window["count_include_pad"] = int(rng.integers(2))
            if rng.random() < 0.4:
                window["ceil_mode"] = 1
            arrays: list[Any] = [rng.standard_normal((2, 3, *rng.integers(1, 9, axes)))]
            graph.outputs = (graph.add(operation, *declared(graph, arrays), **window),)
            check_case(case, graph, arrays, rng)


@pytest.mark.parametrize("operation", ["Conv", "MaxPool", "AveragePool"])
def test_one_program_has_the_gradients_of_all_lengths(operation: str) -> None:
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.add_input("x", np.float32, ("batch", 3, "time"))
    if operation == "Conv":
        W = graph.add_constant(rng.standard_normal((4, 3, 3)).astype(np.float32))
        graph.outputs = (graph.add("Conv", x, W, strides=[2], pads=[1, 1]),)
    else:
        graph.outputs = (graph.add(operation, x, kernel_shape=[3], strides=[2], pads=[1, 1]),)
    run, back = Planner(graph), Planner(with_gradients(graph.with_inputs(graph.constants)))
    for batch, steps in ((2, 41), (3, 52), (5, 77), (4, 50)):
        array = rng.standard_normal((batch, 3, steps)).astype(np.float32)
        (y,) = run(array)
        assert back(array, *graph.constants.values(), np.ones_like(y))[0].shape == array.shape
    assert len(back.programs) == 1

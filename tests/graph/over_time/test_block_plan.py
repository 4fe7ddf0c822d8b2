"""Long calls run block by block: the same bits as all at once, in bounded memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.multirate_graphs import MultirateGraph
from support.running import bound
from support.sequence_graphs import RandomGraph, normal
from support.skips import counted_cases

import onward
from onward.errors import MemoryLimitError, OnwardError
from onward.graph import Graph, Model
from onward.graph.over_time import block_plan


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls with few values run in blocks, too."""
    monkeypatch.setattr("onward.graph.over_time.memory.MEMORY_AT_ONCE", 1024)
    monkeypatch.setattr(block_plan, "BLOCK_MEMORY", 4096)


def in_one_plan(model: Model, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Run a model all at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onward.graph.over_time.memory.MEMORY_AT_ONCE", 1 << 40)
        results = Model(model.graph)(*inputs)
    return results if isinstance(results, tuple) else (results,)


def check_blocks(model: Model, axes: list[int | None], *inputs: NDArray[Any]) -> None:
    """Check that a call runs in several blocks along the given axes, with the bits of one plan."""
    results = model(*inputs)
    plan = bound(model, *inputs)
    assert isinstance(plan, block_plan.BlockPlan)
    assert plan._axes == axes
    assert plan._steps * 2 < plan._length
    for y, expected in zip(
        results if isinstance(results, tuple) else (results,), in_one_plan(model, *inputs), strict=True
    ):
        np.testing.assert_array_equal(y, expected)


def recurrent(axes: tuple[str, ...], layer: Any, states: int = 0) -> tuple[Graph, list[str]]:
    """A recurrent layer over x (time, batch, 5) whose initial states are inputs."""
    graph = Graph()
    x = graph.add_input("x", np.float32, axes)
    initial = [graph.add_input(name, np.float32, (1, "batch", 7)) for name in "hc"[:states]]
    doubled = [graph.add("Add", state, state) for state in initial]
    outputs = graph.add_all("Recurrent", (x, "", *doubled), 1 + len(layer.state_names), cell=layer.cell)
    return graph, list(outputs)


def test_random_graphs_in_blocks_give_the_bits_of_one_plan(blocks: None) -> None:
    in_blocks = 0
    for case in counted_cases(60):
        with case:
            rng = np.random.default_rng(case.seed)
            model = RandomGraph(case.seed).build(int(rng.integers(2, 9)), has_checks=True)
            x = normal(rng, int(rng.integers(1, 4)), int(rng.integers(1, 200)), 5)
            try:
                (expected,) = in_one_plan(model, x)
            except OnwardError:  # shorter than a window, or than its padding
                with pytest.raises(OnwardError):
                    model(x)
                case.skip()
            np.testing.assert_array_equal(model(x), expected)
            plan = bound(model, x)
            in_blocks += isinstance(plan, block_plan.BlockPlan)
    assert in_blocks > 30


@pytest.mark.parametrize("seed", range(8))
def test_a_random_multirate_graph_in_blocks_gives_the_bits_of_one_plan(seed: int, blocks: None) -> None:
    model, x = MultirateGraph(seed).build(6), normal(np.random.default_rng(seed), 2, 120, 5)
    outputs, expected = model(x), in_one_plan(model, x)
    assert isinstance(bound(model, x), block_plan.BlockPlan)
    for y, other in zip(outputs if isinstance(outputs, tuple) else (outputs,), expected, strict=True):
        np.testing.assert_array_equal(y, other)


@pytest.mark.parametrize("cell", [onward.RNN, onward.GRU, onward.LSTM])
def test_states_that_are_inputs_start_the_first_block(cell: Any, blocks: None) -> None:
    rng, layer = np.random.default_rng(0), cell(5, 7, rng=1)
    states = len(layer.state_names)
    graph, graph.outputs = recurrent(("time", "batch", 5), layer, states)  # type: ignore[assignment]
    inputs = [normal(rng, 90, 2, 5), *(normal(rng, 1, 2, 7) for _ in range(states))]
    check_blocks(Model(graph), [0, *[None] * states], *inputs)


def test_rows_run_in_blocks_where_time_cannot(blocks: None) -> None:
    rng, layer = np.random.default_rng(0), onward.LSTM(5, 7, rng=1, bidirectional=True)
    graph, outputs = recurrent(("time", "batch", 5), layer)
    graph.outputs = (graph.add("ReduceMean", outputs[0], graph.add_constant(np.array([0]))), *outputs)
    check_blocks(Model(graph), [1], normal(rng, 9, 70, 5))


def test_rows_of_several_inputs_run_in_the_same_blocks(blocks: None) -> None:
    rng = np.random.default_rng(0)
    graph, graph.outputs = recurrent(("time", "batch", 5), onward.GRU(5, 7, rng=1), 1)  # type: ignore[assignment]
    check_blocks(Model(graph), [1, 1], normal(rng, 9, 70, 5), normal(rng, 1, 70, 7))


def test_outputs_that_follow_from_the_shape_are_those_of_the_whole_sequence(blocks: None) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 5))
    graph.outputs = (graph.add("Shape", x), graph.add("Exp", x), graph.add_constant(np.ones(3)))
    model, x_array = Model(graph), normal(np.random.default_rng(0), 400, 5)
    check_blocks(model, [0], x_array)
    model(x_array)[2][:] = 0  # changes the copy of the caller only
    np.testing.assert_array_equal(model(x_array)[2], 1)


def test_a_graph_that_needs_all_steps_at_once_runs_in_one_plan(blocks: None) -> None:
    graph, graph.outputs = recurrent(("time", "batch", 5), onward.GRU(5, 7, rng=1, bidirectional=True))  # type: ignore[assignment]
    model, x = Model(graph), normal(np.random.default_rng(0), 90, 1, 5)
    np.testing.assert_array_equal(model(x)[0], in_one_plan(model, x)[0])
    assert not isinstance(bound(model, x), block_plan.BlockPlan)


def test_a_call_runs_at_once_if_its_arrays_share_little_memory(blocks: None) -> None:
    graph = Graph()
    y = graph.add_input("x", np.float32, ("time", 5))
    for _ in range(8):
        y = graph.add("Tanh", y)
    graph.outputs = (y,)
    model, x = Model(graph), normal(np.random.default_rng(0), 40, 5)
    np.testing.assert_array_equal(model(x), in_one_plan(model, x)[0])
    assert not isinstance(bound(model, x), block_plan.BlockPlan)


def detector() -> Model:
    """Frames of a signal (1, time), a convolution, an LSTM and a probability for each frame."""
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.add_input("x", np.float32, (1, "time"))
    channel = graph.add("Unsqueeze", x, graph.add_constant(np.array([1])))
    frames = graph.add("Conv", channel, graph.add_constant(normal(rng, 64, 1, 256)), strides=[128])
    magnitudes = graph.add("Abs", frames)
    W = graph.add_constant(normal(rng, 32, 64, 3) / 20)
    features = graph.add("Relu", graph.add("Conv", magnitudes, W, pads=[1, 1]))
    steps = graph.add("Transpose", features, perm=[2, 0, 1])
    y = graph.add_all("Recurrent", (steps, ""), 3, cell=onward.LSTM(32, 32, rng=1).cell)[0]
    graph.outputs = (graph.add("Sigmoid", graph.add("MatMul", y, graph.add_constant(normal(rng, 32, 1)))),)
    return Model(graph)


def test_the_working_memory_of_a_long_signal_is_bounded() -> None:
    model, x = detector(), normal(np.random.default_rng(0), 1, 16000 * 1800)  # half an hour, 115 MB
    (expected,) = in_one_plan(model, x)  # in 116 MB
    tracemalloc.start()
    y = model(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * block_plan.BLOCK_MEMORY
    np.testing.assert_array_equal(y, expected)


def test_outputs_that_exceed_the_limit_raise() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 1))
    graph.outputs = (graph.add("Expand", x, graph.add_constant(np.array([1, 4000]))),)
    with pytest.raises(MemoryLimitError, match="pass shorter sequences"):
        Model(graph)(np.ones((50_000, 1), np.float32))


def test_the_steps_of_a_long_call_are_those_of_a_block(blocks: None) -> None:
    graph, (y, _) = recurrent(("time", "batch", "5"), onward.GRU(5, 7, rng=0))
    graph.outputs = (y,)
    model, x = Model(graph), normal(np.random.default_rng(0), 300, 2, 5)
    model(x)
    assert isinstance(bound(model, x), block_plan.BlockPlan)
    whole = Model(graph).steps(x[:1], calls=1)  # of a call that needs no blocks
    expected = [name.replace("batch", "2") for name, _ in whole]  # the states fix the rows of a block
    assert [name for name, _ in model.steps(x, calls=1)] == expected

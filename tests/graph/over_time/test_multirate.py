"""Streams of graphs whose values have different rates: the bits and the number of steps of the whole call."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.multirate_graphs import MultirateGraph
from support.sequence_graphs import blocks, normal
from support.skips import Case, counted_cases

from onward.errors import ArgumentError, OnwardError, ShapeError
from onward.graph import Graph, Model


def as_tuple(outputs: Any) -> tuple[NDArray[Any], ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_streams(case: Case, model: Model, x: NDArray[Any], sizes: list[slice], rates: Any) -> None:
    """Stream x in blocks."""
    stream = model.stream(len(x), time_axis=1)
    done, steps = [as_tuple(stream(x[:, block])) for block in sizes], 0
    with case.skipping(OnwardError):  # shorter than a window, or of a length on which values do not agree
        whole = as_tuple(model(x))
    done.append(as_tuple(stream.finish()))
    for i, expected in enumerate(whole):
        parts = [part[i].reshape(len(x), -1, expected.shape[-1]) for part in done]
        y = np.concatenate(parts, 1)
        np.testing.assert_array_equal(y.view(np.int32), expected.view(np.int32), strict=True)
        steps = 0
        for block, part in zip(sizes, parts, strict=False):
            steps += part.shape[1]
            due = (
                int((block.stop - 1 - stream.latency) * rates[i] // 1) + 1
                if block.stop > stream.latency
                else 0
            )
            assert steps >= min(due, expected.shape[1])


def test_random_multirate_graphs_stream_with_the_bits_of_the_whole_call() -> None:
    for case in counted_cases(24, most=1 / 3):
        with case:
            rng, drawn = np.random.default_rng(case.seed), MultirateGraph(case.seed // 2)
            model = drawn.build(int(rng.integers(2, 9)))
            with case.skipping(ArgumentError, match="cannot stream: "):
                model.stream(time_axis=1)
            T = int(rng.integers(*((1, 12) if case.seed % 2 else (12, 50))))
            single = [slice(t, t + 1) for t in range(T)]
            sizes = blocks(rng, T) if rng.integers(3) else single
            assert_streams(case, model, normal(rng, 2, T, 5), sizes, drawn.rates)


def test_steps_that_two_values_of_other_lengths_do_not_share_raise_at_the_end() -> None:
    graph = Graph()
    x = graph.add("Transpose", graph.add_input("x", np.float32, (1, "time", 4)), perm=[0, 2, 1])
    halves = graph.add("MaxPool", x, kernel_shape=[2], strides=[2])
    scales = graph.add_constant(np.array([1, 1, 2], np.float32))
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    twice = graph.add("Resize", halves, "", scales, mode="nearest", **options)
    graph.outputs = (graph.add("Add", x, twice, name="joined"),)
    stream, steps = Model(graph).stream(time_axis=1), normal(np.random.default_rng(0), 7, 4)
    stream(steps)
    with pytest.raises(ShapeError, match=r"node joined .*1, 0 steps left at the end"):
        stream.finish()
    stream.reset()
    y = np.concatenate([stream(steps[:6]), stream.finish()], 1)
    np.testing.assert_array_equal(y, Model(graph)(steps[None, :6])[0])


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("T", range(6))
def test_a_single_step_is_repeated_as_in_the_whole_call(T: int, size: int) -> None:
    """`finish` raised ShapeError after a sequence of one step."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    numbers = [graph.add_constant(np.array(n)) for n in ([0], [-2], [1], [0, 2, 0, 0, 0, 0])]
    earlier = graph.add("Pad", graph.add("Slice", x, *numbers[:3]), numbers[3])
    product = graph.add("Mul", graph.add("Sub", x, earlier, name="joined"), earlier)
    graph.outputs = (product, graph.add("Add", product, x))
    model, steps = Model(graph), normal(np.random.default_rng(0), T, 4)
    stream = model.stream(time_axis=1)
    parts = [stream(steps[t : t + size]) for t in range(0, T, size)]
    if T == 0:  # its two earlier steps and none
        with pytest.raises(OnwardError):
            model(steps[None])
        with pytest.raises(ShapeError, match=r"node joined .*0, 2 steps left at the end"):
            stream.finish()
        return
    parts.append(stream.finish())
    for found, expected in zip(zip(*parts, strict=True), model(steps[None]), strict=True):
        y = np.concatenate([part.reshape(-1, 4) for part in found])
        np.testing.assert_array_equal(y, expected[0])


def test_no_step_is_repeated_without_steps() -> None:
    graph = Graph()
    x, axes = graph.add_input("x", np.float32, (1, "time", 4)), graph.add_constant(np.array([1]))
    zero, last = (graph.add_constant(np.array([n])) for n in (0, -1))
    first = graph.add_constant(np.array([0, 1, 0, 0, 0, 0]))
    graph.outputs = (graph.add("Add", x, graph.add("Pad", graph.add("Slice", x, zero, last, axes), first)),)
    stream = Model(graph).stream(time_axis=1)
    assert stream.finish().shape == Model(graph)(np.zeros((1, 0, 4), np.float32)).shape[1:] == (0, 4)


def test_a_cut_value_keeps_its_own_length() -> None:
    """A stream was refused, because its inputs leave different steps for the end."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    after, start, last, axes = (graph.add_constant(np.array(n)) for n in ([0, 0, 0, 0, 2, 0], [0], [-1], [1]))
    longer = graph.add("Pad", x, after)
    cut = graph.add("Slice", longer, start, last, axes)
    graph.outputs = (cut, graph.add("Add", longer, graph.add("Pad", graph.add("Exp", x), after)))
    model, steps = Model(graph), normal(np.random.default_rng(0), 5, 4)
    stream = model.stream(time_axis=1)
    parts = [stream(steps[:3]), stream(steps[3:]), stream.finish()]
    for found, expected in zip(zip(*parts, strict=True), model(steps[None]), strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected[0])


def test_a_constant_expands_to_a_computed_length() -> None:
    """A stream was refused, because the block has another length."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    numbers = [graph.add_constant(np.array(n)) for n in ([2], [2**62], [1])]
    steps = graph.add("Gather", graph.add("Shape", x), numbers[2])
    features = graph.add_constant(np.array([4]))
    sizes = graph.add("Concat", graph.add("Sub", steps, numbers[0]), features, axis=0)
    scales = graph.add("Expand", graph.add_constant(np.arange(4, dtype=np.float32)), sizes)
    graph.outputs = (graph.add("Mul", graph.add("Slice", x, *numbers), scales),)
    model, inputs = Model(graph), normal(np.random.default_rng(0), 5, 4)
    stream = model.stream(time_axis=1)
    y = np.concatenate([stream(inputs[:1]), stream(inputs[1:]), stream.finish()])
    np.testing.assert_array_equal(y, model(inputs[None])[0])


def test_a_fixed_number_of_first_steps_is_refused() -> None:
    for end in (100, 20_000, 100_000):  # more than a short sequence has
        graph = Graph()
        x, ends = graph.add_input("x", np.float32, (1, "time", 4)), graph.add_constant(np.array([end]))
        zero, one = (graph.add_constant(np.array([n])) for n in (0, 1))
        graph.outputs = (graph.add("Slice", x, zero, ends, one, name="cut"),)
        with pytest.raises(ArgumentError, match=f"node cut .*it takes steps up to step {end} alone"):
            Model(graph).stream(time_axis=1)


def test_a_branch_that_the_length_decides_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    steps = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(1)))
    is_long = graph.add("Greater", steps, graph.add_constant(np.array(9)))
    bodies = {}
    for name, operation in (("then_branch", "Exp"), ("else_branch", "Neg")):
        body = Graph()
        body.outputs = (body.add(operation, body.add_input("x", np.float32, (1, "time", 4))),)
        bodies[name] = body
    graph.outputs = (graph.add("If", is_long, x, name="choice", **bodies),)
    with pytest.raises(ArgumentError, match=r"node choice .*what it runs depends on the length"):
        Model(graph).stream(time_axis=1)


def test_a_result_for_the_whole_sequence_at_each_step_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    mean = graph.add("ReduceMean", x, graph.add_constant(np.array([1])))
    graph.outputs = (graph.add("Expand", mean, graph.add("Shape", x), name="all steps"),)
    with pytest.raises(ArgumentError, match=r"node all steps .*it repeats a result for the whole sequence"):
        Model(graph).stream(time_axis=1)


def test_the_length_at_each_step_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    steps = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(1)))
    lengths = graph.add("Expand", graph.add("Cast", steps, to=np.float32), graph.add("Shape", x))
    graph.outputs = (graph.add("Mul", x, lengths, name="scaled"),)
    with pytest.raises(ArgumentError, match=r"node scaled .*it computes with the length of the sequence"):
        Model(graph).stream(time_axis=1)


def test_the_length_as_an_output_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    graph.outputs = (graph.add("Exp", x), graph.add("Shape", x, output="sizes"))
    with pytest.raises(ArgumentError, match="the output sizes depends on the length of the sequence"):
        Model(graph).stream(time_axis=1)


def test_results_for_the_steps_so_far_are_joined() -> None:
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    last = graph.add("Gather", x, graph.add_constant(np.array(-1)), axis=1)
    mean = graph.add("ReduceMean", x, graph.add_constant(np.array([1])), keepdims=0)
    graph.outputs = (graph.add("Concat", last, mean, axis=1),)
    model, steps = Model(graph), normal(rng, 9, 4)
    stream = model.stream(time_axis=1)
    np.testing.assert_array_equal([stream(step)[None] for step in steps][-1], model(steps[None]))

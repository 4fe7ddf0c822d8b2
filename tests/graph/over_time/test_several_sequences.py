"""Streams and pools of graphs over several sequences: the bits of one call on the whole sequences."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.sequence_graphs import blocks, normal
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError, OnwardError, ShapeError, SignatureError
from onward.graph import Graph, Input, Model

FLOAT = np.dtype(np.float32)


class Several:
    """Graphs of sequences (batch, time, features) with one rate each, which are joined at the lowest one."""

    def __init__(self, rng: np.random.Generator, rates: tuple[int, ...]) -> None:
        self.rng, self.graph, self.rates = rng, Graph(), rates
        self.sizes = [int(size) for size in rng.integers(2, 6, len(rates))]
        branches = [
            self.branch(f"x{i}", size, rate)
            for i, (size, rate) in enumerate(zip(self.sizes, rates, strict=True))
        ]
        joined = branches[0]
        for branch in branches[1:]:
            joined = self.graph.add(("Add", "Mul")[rng.integers(2)], joined, branch)
        self.graph.outputs = (joined, branches[-1])[: int(rng.integers(1, 3))]
        self.graph.declared_outputs = tuple(Input(name, FLOAT) for name in self.graph.outputs)
        self.model = Model(self.graph)

    def branch(self, name: str, size: int, rate: int) -> str:
        """A convolution whose stride is the rate, perhaps a centred or causal one, and a recurrent layer."""
        graph, rng = self.graph, self.rng
        x = graph.add_input(name, FLOAT, ("batch", f"time of {name}", size))
        y = graph.add("Transpose", x, perm=[0, 2, 1])
        kernel = graph.add_constant(normal(rng, 4, size, rate))
        y = graph.add("Conv", y, kernel, strides=[rate])
        if pads := ([], [1, 1], [2, 0], [0, 2])[rng.integers(4)]:
            y = graph.add("Conv", y, graph.add_constant(normal(rng, 4, 4, 3)), pads=pads)
        y = graph.add("Transpose", y, perm=[2, 0, 1])
        cell = (onward.GRU, onward.LSTM, onward.RNN)[rng.integers(3)](4, 3, rng=int(rng.integers(99)))
        states = ["", ""] if isinstance(cell, onward.LSTM) else [""]
        y, *_ = graph.add_all("Recurrent", (y, ""), 1 + len(states), cell=cell.cell)
        return graph.add("Transpose", y, perm=[1, 0, 2])

    def draw(self, units: int, rows: int) -> list[NDArray[Any]]:
        pairs = zip(self.sizes, self.rates, strict=True)
        return [normal(self.rng, rows, units * rate, size) for size, rate in pairs]

    def part(self, inputs: list[NDArray[Any]], block: slice) -> list[NDArray[Any]]:
        pairs = zip(inputs, self.rates, strict=True)
        return [x[:, block.start * rate : block.stop * rate] for x, rate in pairs]


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def drawn(seed: int) -> Several:
    rng = np.random.default_rng(seed)
    rates = [int(rate) for rate in rng.choice([1, 1, 2, 3, 4], int(rng.integers(2, 4)))]
    common = math.gcd(*rates)
    return Several(rng, tuple(rate // common * ((1, 2)[seed % 5 == 0]) for rate in rates))


def test_random_graphs_of_several_sequences_stream_with_the_bits_of_the_whole_call() -> None:
    for case in counted_cases(12, most=1 / 3):
        with case:
            several = drawn(case.seed)
            units = int(several.rng.integers(3, 30))
            inputs = several.draw(units, 2)
            with case.skipping(OnwardError, match="cannot be broadcast"):
                whole = as_tuple(several.model(*inputs))
            stream = several.model.stream(2)
            done = [as_tuple(stream(*several.part(inputs, part))) for part in blocks(several.rng, units)]
            done.append(as_tuple(stream.finish()))
            for i, y in enumerate(whole):
                np.testing.assert_array_equal(np.concatenate([part[i] for part in done], 1), y, strict=True)


def test_random_graphs_of_several_sequences_run_in_pools() -> None:
    for case in counted_cases(4, most=1 / 3):
        with case:
            several = drawn(case.seed)
            pool, inputs = several.model.pool(4), several.draw(12, 3)
            ids = pool.open(3)
            with case.skipping(OnwardError, match="cannot be broadcast"):
                whole = as_tuple(several.model(*inputs))
            done = [
                as_tuple(pool.step(ids, *several.part(inputs, part))) for part in (slice(0, 5), slice(5, 12))
            ]
            done.append(as_tuple(pool.finish(ids)))
            for i, y in enumerate(whole):
                for row in range(3):
                    got = np.concatenate([part[i][row] for part in done])
                    np.testing.assert_array_equal(got, y[row], strict=True)


def two(*rates: int) -> Several:
    """A model of two sequences without look-ahead."""

    class Causal(np.random.Generator):
        def integers(self, *args: Any, **options: Any) -> Any:
            return 0 if args == (4,) else super().integers(*args, **options)

    return Several(Causal(np.random.PCG64(1)), rates)


def test_a_step_of_two_sequences_lacks_the_axes_that_one_of_each_lacks() -> None:
    several = two(1, 1)
    inputs = several.draw(3, 1)
    expected = as_tuple(several.model(*inputs))[0][0]
    for stream in several.model.stream(), several.model.stream():
        for t in range(2):  # the second step runs in the core alone
            (y, *_) = as_tuple(stream(inputs[0][0, t], x1=inputs[1][0, t]))
            np.testing.assert_array_equal(y, expected[t], strict=True)
    ids = (pool := several.model.pool(1)).open(1)
    (y, *_) = as_tuple(pool.step(ids, inputs[0][:, 0], inputs[1][:, 0]))
    np.testing.assert_array_equal(y[0], expected[0], strict=True)


@pytest.mark.parametrize("rates", [(1, 1), (3, 1)], ids=str)
def test_blocks_of_two_sequences_that_are_not_equally_long_are_refused_also_after_others(rates: Any) -> None:
    several, takes = two(*rates), f"takes {rates[0]} of x0 and {rates[1]} of x1"
    stream, pool = several.model.stream(), several.model.pool(1)
    ids, (x0, x1) = pool.open(1), several.draw(4, 1)
    for _ in range(2):
        for call in stream, lambda *inputs: pool.step(ids, *inputs):
            call(x0, x1)
            with pytest.raises(ShapeError, match=takes):
                call(x0, x1[:, :1])
            with pytest.raises(ShapeError, match=r"x1 has shape|both"):
                call(x0, x1[0])
    with pytest.raises(ShapeError, match="pass both with or both without"):
        stream(x0[0], x1)
    with pytest.raises(SignatureError, match="missing inputs: x1"):
        stream(x0)
    with pytest.raises(ArgumentError, match=r"takes several sequences \(x0, x1\)"):
        _ = stream.streamed.sequence


def test_inputs_that_are_no_sequences_are_to_be_passed_by_name() -> None:
    graph = Graph()
    x, speaker = (
        graph.add_input("x", FLOAT, ("batch", "time", 3)),
        graph.add_input("speaker", FLOAT, ("batch", 4)),
    )
    y = graph.add("Transpose", x, perm=[1, 0, 2])
    y = graph.add_all("Recurrent", (y, ""), 2, cell=onward.GRU(3, 4, rng=0).cell)[0]
    graph.outputs = (graph.add("Add", y, speaker),)
    graph.declared_outputs = (Input("y", FLOAT),)
    model, rng = Model(graph), np.random.default_rng(0)
    with pytest.raises(ArgumentError, match="pass inputs that are no sequences by name"):
        model.stream()
    known, inputs = normal(rng, 1, 4), normal(rng, 1, 5, 3)
    stream = model.stream(speaker=known)
    np.testing.assert_array_equal(stream(inputs), model(inputs, known), strict=True)


def test_a_stream_drops_no_input_and_no_output_of_a_model_whose_first_ones_are_a_chain() -> None:
    graph = Graph()
    for name, size in (("x", 3), ("z", 4)):
        value = graph.add("Transpose", graph.add_input(name, FLOAT, ("batch", "time", size)), perm=[1, 0, 2])
        y = graph.add_all("Recurrent", (value, ""), 2, cell=onward.GRU(size, 2, rng=0).cell)[0]
        graph.outputs = (*graph.outputs, graph.add("Transpose", y, perm=[1, 0, 2]))
    graph.declared_outputs = tuple(Input(name, FLOAT) for name in graph.outputs)
    model, rng = Model(graph), np.random.default_rng(0)
    inputs = [normal(rng, 1, 6, size) for size in (3, 4)]
    for y, expected in zip(model.stream()(*inputs), model(*inputs), strict=True):
        np.testing.assert_array_equal(y, expected, strict=True)


def test_many_inputs_beside_many_numbers_of_steps_cost_no_search_through_all_their_combinations() -> None:
    graph = Graph()
    inputs = [graph.add_input(f"x{place}", np.float32, ("batch", "time", 4)) for place in range(9)]
    total = inputs[0]
    for place, name in enumerate(inputs[1:], 2):
        start, end, axis = (graph.add_constant(np.array([n])) for n in (place, place + 1, 1))
        total = graph.add("Add", total, graph.add("Slice", name, start, end, axis))
    graph.outputs = (total,)
    with pytest.raises(ArgumentError, match="cannot stream"):  # not after 20 ** 9 combinations
        Model(graph).stream(time_axis=1)

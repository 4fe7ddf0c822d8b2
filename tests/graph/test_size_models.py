"""Values that sizes determine, such as positions and masks, are computed for the sizes of each call."""

from typing import Any

import numpy as np
import pytest
from support.evaluate import meaning
from support.onnx_nodes import open_model
from support.randomized import random_cases
from support.size_models import FEATURES, SizeModel, feeds, sizes

from onward.graph import Graph, Model, Planner

BATCHES, MODELS = 2, random_cases(5)  # models in a batch
MOST = 8  # programs for ordinary sizes: comparisons of sizes may hold for some of them alone


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets an entry for each program that is compiled."""
    entries: list[int] = []
    own = Planner._new

    def new(planner: Planner, inputs: Any) -> Any:
        entries.append(len(inputs))
        return own(planner, inputs)

    monkeypatch.setattr(Planner, "_new", new)
    return entries


def assert_equal(y: Any, other: Any) -> None:
    assert type(y) is type(other)
    for mine, theirs in zip(y, other, strict=True) if isinstance(y, tuple) else ():
        np.testing.assert_array_equal(mine, theirs, strict=True)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_model_gives_the_bits_of_a_program_for_each_size(batch: int) -> None:
    for seed in range(batch * MODELS, (batch + 1) * MODELS):
        model = open_model(SizeModel(seed).build())
        for pair in sizes(seed, 8):
            given = feeds(seed, *pair)
            y = model(**given)
            assert_equal(y, Model(model.graph)(**given))
            for mine, wanted in zip(y, meaning(model, *given.values()), strict=True):
                scale = max(1.0, float(np.abs(wanted).max(initial=0)))
                np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5 * scale, strict=True)


def test_a_random_model_needs_few_programs(compiled: list[int]) -> None:
    total, cases = 0, random_cases(15)
    for seed in range(cases):
        model, rng = open_model(SizeModel(seed).build()), np.random.default_rng(seed)
        compiled.clear()
        for steps in rng.permutation(np.arange(20, 60))[:12]:
            model(**feeds(seed, int(rng.integers(2, 7)), int(steps)))
        assert len(compiled) <= MOST, f"the model with the seed {seed} has {len(compiled)} programs"
        total += len(compiled)
    assert total <= 2 * cases


def one_program(build: Any, compiled: list[int]) -> None:
    """Assert that a graph of x (batch, time, FEATURES) has one program, with the right outputs."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", FEATURES))
    graph.outputs = (build(graph, x),)
    model = Model(graph)
    for batch, steps in [(4, 6), (3, 7), (2, 12), (5, 3)]:
        given = feeds(0, batch, steps)["x"]
        np.testing.assert_array_equal(model(given), meaning(model, given)[0], strict=True)
    assert len(compiled) == 1


def integers(graph: Graph, *numbers: int) -> str:
    return graph.add_constant(np.array(numbers))


def size_of(graph: Graph, x: str, axis: int) -> str:
    return graph.add("Shape", x, start=axis, end=axis + 1)


def test_a_sequence_is_reversed_for_all_sizes(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        last, before, time, step = (integers(graph, n) for n in (-1, -(1 << 40), 1, -1))
        return graph.add("Slice", x, last, before, time, step)

    one_program(build, compiled)


def test_a_step_below_minus_1_holds_for_all_sizes(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        last, before, time, step = (integers(graph, n) for n in (-2, 0, 1, -2))
        return graph.add("Slice", x, last, before, time, step)

    one_program(build, compiled)


def test_a_computed_number_of_repetitions_holds_for_all_sizes(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        rest = graph.add("Mod", size_of(graph, x, 1), integers(graph, 3))
        times = graph.add("Add", rest, integers(graph, 1))
        one = integers(graph, 1)
        return graph.add("Tile", x, graph.add("Concat", one, times, one, axis=0))

    one_program(build, compiled)


def test_sizes_for_each_row_are_values_like_others(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        lengths = graph.add("Expand", size_of(graph, x, 1), size_of(graph, x, 0))
        fewer = graph.add("Min", lengths, integers(graph, 5))
        return graph.add("ReverseSequence", x, fewer, batch_axis=0, time_axis=1)

    one_program(build, compiled)


def test_the_number_of_classes_may_be_a_size(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        values = graph.add_constant(np.array([0, 1], np.float32))
        return graph.add("OneHot", integers(graph, 0, 2, -1), size_of(graph, x, 1), values)

    one_program(build, compiled)


def test_a_start_that_is_0_in_the_first_call_alone(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        rest = graph.add("Mod", size_of(graph, x, 1), integers(graph, 3))
        return graph.add("Slice", x, rest, integers(graph, 1 << 40), integers(graph, 1))

    one_program(build, compiled)


def test_a_triangle_whose_diagonal_is_a_size(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        half = graph.add("Div", size_of(graph, x, 1), integers(graph, 2))
        return graph.add("Trilu", x, graph.add("Squeeze", half, integers(graph, 0)), upper=0)

    one_program(build, compiled)


def test_an_end_before_the_last_steps_holds_for_all_sizes(compiled: list[int]) -> None:
    def build(graph: Graph, x: str) -> str:
        half = graph.add("Neg", graph.add("Div", size_of(graph, x, 1), integers(graph, 3)))
        return graph.add("Slice", x, integers(graph, 0), half, integers(graph, 1))

    one_program(build, compiled)


@pytest.mark.parametrize("operation", ["LastStep", "FinalState"])
def test_rows_of_their_own_lengths_have_one_program_for_all_batches(
    operation: str, compiled: list[int]
) -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.add_input("x", np.float32, ("batch", "time", FEATURES))
    lengths = graph.add_input("lengths", np.int32, ("batch",))
    if operation == "LastStep":
        y = graph.add("LastStep", x, lengths)
    else:
        state = graph.add("Transpose", x, perm=[1, 0, 2])
        y = graph.add("FinalState", state, graph.add_constant(np.zeros((), np.float32)), lengths)
    graph.outputs = (y,)
    model = Model(graph)
    for batch, steps in [(4, 6), (3, 7), (2, 12), (5, 3)]:
        values, n = (
            rng.random((batch, steps, FEATURES), np.float32),
            rng.integers(0, steps + 1, batch, np.int32),
        )
        n[0] = 0
        last, is_valid = values[np.arange(batch), n - 1], (n > 0)[:, None]
        kept = last if operation == "LastStep" else values.swapaxes(0, 1)
        np.testing.assert_array_equal(model(values, n), np.where(is_valid, kept, 0), strict=True)
    assert len(compiled) == 1

"""Integers of a call that decide sizes: one program for all of them, and the bits of one for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate
from support.random_lengths import RandomLengths
from support.randomized import random_cases

from onward.errors import LimitError, OnwardError
from onward.graph import Graph, Input, Model
from onward.graph.plan import planner as planner_module

BATCHES, GRAPHS = 4, random_cases(8)  # graphs in a batch
MOST = 40  # programs of one graph: with elements of its inputs, and as many of what follows, and of its rest
RNG = np.random.default_rng(0)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A list that gets each program that is compiled."""
    programs: list[Any] = []
    own = planner_module.compiled

    def record(*args: Any) -> Any:
        programs.append(own(*args))
        return programs[-1]

    monkeypatch.setattr(planner_module, "compiled", record)
    yield programs


def ends_early(programs: list[Any]) -> bool:
    """Whether a program ends before the graph does."""
    return any("Rest" in {type(segment).__name__ for segment in p.segments} for p in programs)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def outputs(model: Model, *inputs: Any) -> Any:
    """The outputs of a model, or the class of its error."""
    try:
        y = model(*inputs)
    except OnwardError as error:
        return type(error)
    return y if isinstance(y, tuple) else (y,)


def expected(graph: Graph, *inputs: Any) -> Any:
    """The outputs of the operations one by one, or the class of an error."""
    try:
        return evaluate(graph, *inputs)
    except (OnwardError, ValueError, MemoryError, IndexError) as error:
        return type(error)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_lengths_give_the_results_of_numpy_and_the_bits_of_a_program_for_each(batch: int) -> None:
    for seed in range(batch * GRAPHS, (batch + 1) * GRAPHS):
        made, rng = RandomLengths(seed), np.random.default_rng(seed)
        model = Model(made.graph)
        for call in range(12):
            inputs = made.inputs(rng)
            y, wanted = outputs(model, *inputs), expected(made.graph, *inputs)
            assert isinstance(y, type) == isinstance(wanted, type), (seed, inputs[1], y, wanted)
            if isinstance(y, type):
                continue
            for mine, theirs in zip(y, wanted, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5, strict=True)
            if call % 4 == 3:
                for mine, alone in zip(y, outputs(Model(made.graph), *inputs), strict=True):
                    np.testing.assert_array_equal(mine, alone, strict=True)


def test_hostile_lengths_are_refused_or_clipped_as_in_numpy() -> None:
    """As the first call, and after an ordinary one, whose program holds for other lengths."""
    for seed in range(random_cases(16)):
        made, rng = RandomLengths(seed), np.random.default_rng(seed)
        model, ordinary = Model(made.graph), made.inputs(rng)
        for _ in range(2):
            inputs = made.inputs(rng, is_hostile=True)
            y = outputs(model, *inputs)
            if isinstance(y, type):
                assert issubclass(y, OnwardError)
            else:
                for mine, theirs in zip(y, evaluate(made.graph, *inputs), strict=True):
                    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5, strict=True)
            outputs(model, *ordinary)


def test_random_lengths_that_change_in_every_call_need_few_programs(compiled: list[Any]) -> None:
    for seed in range(random_cases(8)):
        made, rng = RandomLengths(seed), np.random.default_rng(seed)
        model = Model(made.graph)
        compiled.clear()
        for _ in range(60):
            outputs(model, *made.inputs(rng))
        assert len(compiled) <= MOST, seed


def rotating(shape: tuple[int | str, ...] = (1,)) -> Graph:
    """Two layers that rotate the rows of x (T, 4) by n, or by the largest of several n."""
    graph = Graph()
    x, n = graph.add_input("x", np.float32, ("T", 4)), graph.add_input("n", np.int64, shape)
    zero, one, end = (graph.add_constant(np.array([k])) for k in (0, 1, 1 << 40))
    n = graph.add("ReduceMax", n, keepdims=0) if shape else n
    n = graph.add("Reshape", n, graph.add_constant(np.array([1])))
    for _ in range(2):
        parts = [graph.add("Slice", x, *part, zero, one) for part in ((n, end), (zero, n))]
        x = graph.add("Tanh", graph.add("Concat", *parts, axis=0))
    graph.outputs = (x,)
    return graph


@pytest.mark.parametrize("shape", [(1,), ()])
def test_a_length_that_changes_in_every_call_has_one_program(
    compiled: list[Any], shape: tuple[int, ...]
) -> None:
    model = Model(rotating(shape))
    for call in range(80):
        T = int(RNG.integers(4, 20))
        x, n = normal(T, 4), int(RNG.integers(2, T))
        wanted = np.tanh(np.roll(np.tanh(np.roll(x, -n, 0)), -n, 0))
        np.testing.assert_allclose(model(x, np.full(shape, n)), wanted, 1e-5)
        if call == 40:
            compiled.clear()
    assert not compiled  # a scalar has a program for each of its first values


def test_all_lengths_from_below_0_to_beyond_the_end() -> None:
    model, x = Model(rotating()), normal(5, 4)
    for n in range(-8, 9):
        start = min(max(n + 5 if n < 0 else n, 0), 5)
        wanted = np.tanh(np.roll(np.tanh(np.roll(x, -start, 0)), -start, 0))
        np.testing.assert_allclose(model(x, np.array([n])), wanted, 1e-5)


def test_the_largest_length_of_a_batch_needs_two_programs_for_all_batches(compiled: list[Any]) -> None:
    model = Model(rotating(("B",)))
    for _ in range(40):  # the second one follows the largest length
        x, n = normal(20, 4), RNG.integers(2, 19, int(RNG.integers(2, 6)))
        wanted = np.tanh(np.roll(np.tanh(np.roll(x, -n.max(), 0)), -n.max(), 0))
        np.testing.assert_allclose(model(x, n), wanted, 1e-5)
    assert len(compiled) == 2


def test_computed_lengths_have_one_program_for_what_follows(compiled: list[Any]) -> None:
    """How many steps are above 0 follows from no size."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("T", 3))
    first = graph.add("Gather", x, graph.add_constant(np.array(0)), axis=1)
    above = graph.add(
        "Cast", graph.add("Greater", first, graph.add_constant(np.float32(0))), to=np.dtype(int)
    )
    count = graph.add("ReduceSum", above)
    zero = graph.add_constant(np.array([0]))
    kept = graph.add("Slice", x, zero, count, zero)
    mask = graph.add(
        "Range", graph.add_constant(np.array(0)), graph.add("Squeeze", count), graph.add_constant(np.array(1))
    )
    graph.outputs = (graph.add("Softmax", kept, axis=0), mask)
    model = Model(graph)
    for _ in range(40):
        x0 = normal(int(RNG.integers(12, 40)), 3)
        x0[:3, 0], n = 1.0, None
        n = int((x0[:, 0] > 0).sum())
        y, steps = model(x0)
        e = np.exp(x0[:n])
        np.testing.assert_allclose(y, e / e.sum(0), 1e-5)
        np.testing.assert_array_equal(steps, np.arange(n))
    assert len(compiled) <= 4


def test_numbers_of_32_bits_overflow_as_in_numpy() -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, (6,)), graph.add_input("n", np.int32, (1,))
    total = graph.add("Add", n, graph.add_constant(np.array([5], np.int32)))
    graph.outputs = (graph.add("Slice", x, graph.add_constant(np.array([0], np.int32)), total), total)
    model, x0 = Model(graph), normal(6)
    for number in (-3, 2**31 - 1, -2, 2**31 - 4, -(2**31), 2):
        n0 = np.array([number], np.int32)
        y, after = model(x0, n0)
        np.testing.assert_array_equal(after, n0 + np.int32(5), strict=True)
        np.testing.assert_array_equal(y, x0[: int(after[0])])


def test_a_shape_that_a_call_passes_has_one_program(compiled: list[Any]) -> None:
    graph = Graph()
    x, shape = graph.add_input("x", np.float32, ("T",)), graph.add_input("shape", np.int64, (3,))
    graph.outputs = (graph.add("Transpose", graph.add("Reshape", x, shape), perm=[2, 0, 1]),)
    model = Model(graph)
    for _ in range(20):
        a, b, c = RNG.integers(2, 9, 3).tolist()
        x0 = normal(a * b * c)
        np.testing.assert_array_equal(model(x0, np.array([a, b, -1])), x0.reshape(a, b, c).transpose(2, 0, 1))
    assert len(compiled) <= 2


def test_a_call_with_a_length_that_takes_too_much_memory_compiles_nothing_that_stays() -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, (1, 4)), graph.add_input("n", np.int64, (1,))
    shape = graph.add("Concat", n, graph.add_constant(np.array([4])), axis=0)
    graph.outputs = (graph.add("Expand", x, shape),)
    model, x0 = Model(graph), normal(1, 4)
    for number in (2**31 - 1, 2**40, 2**62):
        for _ in range(3):
            with pytest.raises(LimitError):
                model(x0, np.array([number]))
        np.testing.assert_array_equal(model(x0, np.array([3])), np.repeat(x0, 3, 0))
    (program, *_) = model.programs
    assert program.elements == {"n"} and len(model.programs) <= 2


def cached_attention(rows: int) -> Graph:
    """Attention over a block and the last of 8 steps before it, as many of them as have been."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (rows, 4, 5))
    cache, past = graph.add_input("cache", np.float32, (rows, 8, 5)), graph.add_input("past", np.int64, (1,))
    eight, one, end, four = (graph.add_constant(np.array([n])) for n in (8, 1, 1 << 40, 4))
    start = graph.add("Sub", eight, graph.add("Min", past, eight))
    keys = graph.add("Concat", graph.add("Slice", cache, start, end, one), x, axis=1)
    scores = graph.add("Softmax", graph.add("MatMul", x, graph.add("Transpose", keys, perm=[0, 2, 1])))
    latest = graph.add("Slice", graph.add("Concat", cache, x, axis=1), four, end, one)
    graph.outputs = (graph.add("MatMul", scores, keys), latest, graph.add("Add", past, four))
    dtypes = (np.float32, np.float32, np.int64)
    pairs = zip(graph.outputs, dtypes, strict=True)
    graph.declared_outputs = tuple(Input(name, np.dtype(dtype)) for name, dtype in pairs)
    return graph


def test_a_stream_whose_state_is_a_length_needs_few_programs(compiled: list[Any]) -> None:
    graph = cached_attention(2)
    stream = Model(graph).stream(carry={"cache": graph.outputs[1], "past": graph.outputs[2]})
    cache, past = np.zeros((2, 8, 5)), 0
    for _ in range(30):
        x = normal(2, 4, 5)
        keys = np.concatenate([cache[:, 8 - min(past, 8) :], x], 1)
        e = np.exp(x @ keys.transpose(0, 2, 1))
        np.testing.assert_allclose(stream(x), e / e.sum(-1, keepdims=True) @ keys, 1e-4, 1e-5)
        cache, past = np.concatenate([cache, x], 1)[:, 4:], past + 4
    assert len(compiled) <= 4 and not ends_early(compiled)

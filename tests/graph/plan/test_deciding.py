"""Integers of a call that decide sizes: one program for all of them, and the bits of one for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate
from support.random_lengths import RandomLengths
from support.randomized import random_cases

from onward.errors import LimitError, OnwardError, ShapeError
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
                is_refused = issubclass(y, LimitError)  # NumPy would take as much memory
                assert is_refused or isinstance(expected(made.graph, *inputs), type), (seed, inputs[1], y)
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


NUMBERS = {  # computed from n, and numbers for which programs of others give wrong results, or none
    "wraps around": ([("Mul", 1 << 40)], (2, 1 << 30, 2**31 - 1, -1)),
    "overflows": ([("Add", 2**63 - 1), ("Min", 9)], (2, 0, -5)),
    "compared with a large number": ([("Mul", 1 << 31), ("Min", 2**60 + 5)], (2, (1 << 30) + 7, 3)),
    "lowered by a large number": (
        [("Mul", 1 << 31), ("Add", -(2**60) - 7), ("Max", 3)],
        (2, (1 << 30) - 7, 2**31 - 1),
    ),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_64_bits_are_those_of_numpy(case: str) -> None:
    operations, numbers = NUMBERS[case]
    graph = Graph()
    x, k = graph.add_input("x", np.float32, (6,)), graph.add_input("n", np.int64, (1,))
    for operation, number in operations:
        k = graph.add(operation, k, graph.add_constant(np.array([number])))
    graph.outputs = (graph.add("Slice", x, graph.add_constant(np.array([0])), k), k)
    model, x0 = Model(graph), normal(6)
    for number in numbers:
        y, total = model(x0, np.array([number]))
        wanted = expected(graph, x0, np.array([number]))
        np.testing.assert_array_equal(y, wanted[0], strict=True)
        np.testing.assert_array_equal(total, wanted[1], strict=True)


def test_a_loop_of_fewer_than_no_steps_runs_none() -> None:
    body = Graph()
    for name, dtype in (("i", np.int64), ("again", np.bool_), ("state", np.float32)):
        body.add_input(name, dtype, () if name != "state" else ("T",))
    body.outputs = ("again", body.add("Tanh", "state"))
    for is_given in (True, False):  # as n, or as what x has more steps than
        graph = Graph()
        x, n = graph.add_input("x", np.float32, ("T",)), graph.add_input("n", np.int64, (1,))
        zero, none = graph.add_constant(np.array([0])), graph.add_constant(np.zeros(0, np.int64))
        count = n if is_given else graph.add("Sub", graph.add("Shape", x), graph.add_constant(np.array([5])))
        y = graph.add("Loop", graph.add("Reshape", count, none), "", x, body=body)
        graph.outputs = (graph.add("Slice", x, zero, n, zero), y)
        model = Model(graph)
        for T, number in ((60, 60), (3, -2), (60, 0), (2, -1), (70, 5)):
            expected_y = x0 = normal(T)
            for _ in range(number if is_given else T - 5):
                expected_y = np.tanh(expected_y)
            found, y0 = model(x0, np.array([number]))
            np.testing.assert_array_equal(found, x0[:number])
            np.testing.assert_allclose(y0, expected_y, rtol=1e-4, atol=1e-5)


def test_integers_that_decide_sizes_share_the_axes_of_their_name() -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, ("B",)), graph.add_input("n", np.int64, ("B",))
    k = graph.add("Reshape", graph.add("ReduceMax", n, keepdims=0), graph.add_constant(np.array([1])))
    graph.outputs = (graph.add("Slice", x, graph.add_constant(np.array([0])), k),)
    model = Model(graph)
    for rows, others in ((1, 1), (3, 3), (4, 3), (1, 3), (3, 3), (3, 1)):
        inputs = normal(rows), np.ones(others, np.int64)
        if rows == others:
            np.testing.assert_array_equal(model(*inputs), inputs[0][:1])
        else:
            with pytest.raises(ShapeError, match=f"the axis B has size {rows} in x, but {others} in n"):
                model(*inputs)


def test_an_error_names_the_node_after_calls_that_its_program_accepts() -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, (1,)), graph.add_input("n", np.int64, (1,))
    graph.outputs = (graph.add("Expand", x, n),)
    model = Model(graph)
    assert model(normal(1), np.array([3])).shape == (3,)
    with pytest.raises(OnwardError, match="Expand"):
        model(normal(1), np.array([-1]))


def test_products_of_many_numbers_are_not_multiplied_out(compiled: list[Any]) -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, ("T",)), graph.add_input("n", np.int64, (8,))
    zero = graph.add_constant(np.array([0]))
    total = graph.add("Reshape", graph.add("ReduceSum", n), graph.add_constant(np.array([1])))
    for _ in range(12):  # 8, 36, 330, 6,435 terms, and more than memory holds
        total = graph.add("Mul", total, total)
    graph.outputs = (graph.add("Slice", x, zero, total, zero),)
    model = Model(graph)
    for numbers in ([0] * 8, [0, 1, 0, 0, 0, 0, 0, 0], [1] + [0] * 7):
        x0 = normal(5)
        np.testing.assert_array_equal(model(x0, np.array(numbers)), x0[: sum(numbers)])
    assert max(len(size.terms) for p in compiled for size, *_ in p.axes.guards.values()) < 100


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

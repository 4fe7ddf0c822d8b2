"""Carries that start the array of a block move on in memory instead of being copied."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_delays import LOOKUPS, RandomDelays
from support.randomized import random_cases

from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model
from onward.graph.plan.joined import joined_arrays
from onward.graph.plan.view import View

STEPS, TIME = 200, 2
LENGTHS = [0, 1, 1, 1, 1, 1, 2, 3, 7, 13, 60]


def as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


class Sequence:
    """A stream in the middle of a sequence, whose outputs must be those of one call on all of it."""

    def __init__(self, stream: Any, x: Any, expected: tuple[Any, ...]) -> None:
        self.stream, self.x, self.expected = stream, x, expected
        self.step, self.filled = 0, [0] * len(expected)

    def check(self, outputs: Any) -> None:
        """Compare outputs with the expected ones that follow."""
        for place, (y, whole) in enumerate(zip(as_tuple(outputs), self.expected, strict=True)):
            stop = self.filled[place] + y.shape[-1]
            np.testing.assert_array_equal(y, whole[..., self.filled[place] : stop], strict=True)
            self.filled[place] = stop

    def block(self, steps: int) -> Any:
        return self.x[..., self.step : self.step + steps].copy()

    def run(self, steps: int) -> None:
        block = self.block(steps)
        self.step += block.shape[-1]
        self.check(self.stream(block))

    def fail(self, steps: int) -> None:
        """Run a block whose last step fails in the core, after most steps of the program."""
        block, before = -self.block(steps), self.stream.state
        if block.size:
            block[..., 0, :] = LOOKUPS
            with pytest.raises(ArgumentError):
                self.stream(block)
        np.testing.assert_equal(self.stream.state, before)

    def at(self, other: "Sequence") -> None:
        """Continue at the place of another stream, whose state this one has."""
        self.step, self.filled = other.step, [*other.filled]

    def finish(self, rng: np.random.Generator) -> None:
        while self.step < self.x.shape[-1]:
            self.run(int(rng.choice(LENGTHS)))
        self.check(self.stream.finish())
        assert self.filled == [whole.shape[-1] for whole in self.expected]


def sequences(network: RandomDelays, batch: int | None, count: int) -> list[Sequence]:
    """Return streams of a network, each at the start of a sequence of its own."""
    model, found = network.model(), []
    for _ in range(count):
        x = network.sequence(batch or 1, STEPS)
        expected = as_tuple(model(x))
        if batch is None:
            x, expected = x[0], tuple(y[0] for y in expected)
        found.append(Sequence(model.stream(batch, time_axis=TIME), x, expected))
    return found


def joined(stream: Any) -> list[int]:
    return [len(program.joined) for program in stream.streamed.planner.programs]


@pytest.mark.parametrize("seed", range(random_cases(20)))
def test_random_streams_have_the_bits_of_one_call_whatever_happens_between_blocks(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    batch = [None, None, 1, 5][rng.integers(4)]
    main, other = sequences(RandomDelays(rng, "batch"), batch, 2)
    for _ in range(40):
        main.run(int(rng.choice(LENGTHS)))
        choice = rng.integers(8)
        if choice == 0:
            main.fail(int(rng.choice(LENGTHS)))
        elif choice == 1:  # a branch, which continues while this one does
            branch = Sequence(main.stream.copy(), main.x, main.expected)
            branch.at(main)
            main.run(int(rng.choice(LENGTHS)))
            branch.finish(rng)
        elif choice == 2:
            other.stream.state = main.stream.state
            other.x, other.expected = main.x, main.expected
            other.at(main)
            main, other = other, main
        elif choice == 3:
            main.stream.save(tmp_path / "state")
            main.run(int(rng.choice(LENGTHS)))
            other.stream.load(tmp_path / "state")
        elif choice == 4:
            other.stream.reset()
    main.finish(rng)
    if batch is None:
        assert max(joined(main.stream)) > 0


@pytest.mark.parametrize("seed", range(random_cases(4)))
def test_streams_in_two_threads_and_beside_a_pool_have_the_bits_of_one_call(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = RandomDelays(rng, "batch")
    alone, pool = sequences(network, None, 4), network.model().pool(2, time_axis=TIME)
    ids, pooled = pool.open(2), [Sequence(None, each.x, each.expected) for each in alone[:2]]
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(each.finish, np.random.default_rng(place)) for place, each in enumerate(alone)]
        while pooled[0].step < STEPS:
            x = np.stack([each.block(int(rng.choice(LENGTHS))) for each in pooled[:1]] * 2)
            x[1] = pooled[1].block(x.shape[-1])
            outputs = as_tuple(pool.step(ids, x))
            for row, each in enumerate(pooled):
                each.step += x.shape[-1]
                each.check(tuple(y[row] for y in outputs))
        for run in runs:
            run.result()


def carried(kind: str, steps: int, rows: int) -> Model:
    """A model of x (rows, block, 3) that carries so many steps of h, in a way that the kind tells."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (rows, "block", 3))
    h = graph.add_input("h", np.float32, (rows, steps, 3))
    doubled = graph.add("Add", x, x)
    parts = [doubled, h] if kind == "behind the block" else [h, doubled]
    joined = graph.add("Concat", *parts, axis=1)
    y = graph.add("Tanh", graph.add("Concat", joined, h, axis=1) if kind == "read twice" else joined)
    first, last = (0, steps) if kind == "from the start" else (-steps, 1 << 40)
    if kind == "not to the end":
        first, last = -1 - steps, -1
    limits = (graph.add_constant(np.array([number])) for number in (first, last, 1))
    after = graph.add("Slice", joined, *limits)
    if kind == "negative":
        after = graph.add("Neg", after)
    graph.outputs = y, after
    dtype = np.dtype(np.float32)
    graph.declared_outputs = Input("y", dtype), Input("hn", dtype, (rows, steps, 3))
    return Model(graph)


@pytest.mark.parametrize(
    ("kind", "rows", "count"),
    [
        ("plain", 1, 1),
        ("plain", 2, 0),  # the steps of a row do not follow those of another
        ("read twice", 1, 1),
        ("behind the block", 1, 0),
        ("from the start", 1, 0),
        ("not to the end", 1, 0),
        ("negative", 1, 0),
    ],
)
def test_only_a_carry_that_starts_an_array_whose_end_is_the_next_one_moves(
    kind: str, rows: int, count: int
) -> None:
    rng, steps = np.random.default_rng(0), 100
    model = carried(kind, steps, rows)
    stream, h = model.stream(rows, carry={"h": "hn"}), np.zeros((rows, steps, 3), np.float32)
    for _ in range(30):
        x = rng.normal(size=(rows, rng.integers(1, 70), 3)).astype(np.float32)
        joined = np.concatenate([2 * x, h] if kind == "behind the block" else [h, 2 * x], 1)
        expected = np.concatenate([joined, h], 1) if kind == "read twice" else joined
        np.testing.assert_allclose(stream(x), np.tanh(expected), rtol=1e-5, atol=1e-6)
        h = {"from the start": joined[:, :steps], "not to the end": joined[:, -1 - steps : -1]}.get(
            kind, joined[:, -steps:]
        )
        h = -h if kind == "negative" else h
        np.testing.assert_array_equal(stream.state["h"], h)
    assert {len(program.joined) for program in stream.streamed.planner.programs} == {count}


CARRY, BLOCK = (View.contiguous(space, 0, (1, steps, 3)) for space, steps in ((2, 4), (3, 2)))
AFTER, Y = (View.contiguous(space, 0, (1, steps, 3)) for space, steps in ((4, 4), (5, 6)))
JOINED = View.contiguous(-1, 0, (1, 6, 3))
STEPS_OF_BLOCK = [
    ("copy", (CARRY, JOINED.sliced(1, 0, 4))),
    ("copy", (BLOCK, JOINED.sliced(1, 4, 6))),
    ("unary", ("Tanh", JOINED, Y)),
    ("copy", (JOINED.sliced(1, 2, 6), AFTER)),
]


def test_an_array_that_starts_with_a_carry_and_ends_with_the_next_one_is_joined() -> None:
    assert joined_in(STEPS_OF_BLOCK) == {-1: 2}


def joined_in(steps: list[Any]) -> dict[int, int]:
    arrays = (JOINED, CARRY, BLOCK, AFTER, Y)
    return joined_arrays(steps, {view.space: 12 * view.shape[1] for view in arrays}, {2: 4, 3: 5})


@pytest.mark.parametrize(
    ("place", "steps"),
    [
        (0, [("copy", (CARRY.sliced(1, 0, 3), JOINED.sliced(1, 0, 3)))]),
        (0, [("copy", (CARRY, JOINED.sliced(1, 1, 5)))]),
        (0, [("copy", (CARRY.permuted(0, 2, 1), JOINED.sliced(1, 0, 4).with_axes((1, 3, 4), (18, 4, 1))))]),
        (0, [("copy", (BLOCK, JOINED.sliced(1, 0, 2))), STEPS_OF_BLOCK[0]]),
        (0, [("unary", ("Neg", CARRY, JOINED.sliced(1, 0, 4)))]),
        (1, [("copy", (BLOCK, JOINED.sliced(1, 3, 5)))]),
        (1, [("copy", (BLOCK, JOINED.sliced(1, 4, 6).reversed(1)))]),
        (2, [("unary", ("Neg", JOINED, JOINED)), STEPS_OF_BLOCK[2]]),
        (2, [("softmax", (False, JOINED, JOINED)), STEPS_OF_BLOCK[2]]),
        (3, [("copy", (JOINED.sliced(1, 1, 5), AFTER))]),
        (3, [("copy", (JOINED.sliced(1, 2, 6).reversed(1), AFTER))]),
        (3, [("unary", ("Neg", JOINED.sliced(1, 2, 6), AFTER))]),
        (3, [STEPS_OF_BLOCK[3], ("unary", ("Neg", JOINED.sliced(1, 4, 6), JOINED.sliced(1, 4, 6)))]),
        (3, [("copy", (BLOCK, AFTER.sliced(1, 0, 2))), STEPS_OF_BLOCK[3]]),
        (3, [STEPS_OF_BLOCK[3], ("unary", ("Neg", AFTER, AFTER))]),
        (3, [("copy", (JOINED.sliced(1, 3, 6), AFTER.sliced(1, 1, 4)))]),
    ],
)
def test_steps_that_copies_in_place_would_change_join_nothing(place: int, steps: list[Any]) -> None:
    assert joined_in([*STEPS_OF_BLOCK[:place], *steps, *STEPS_OF_BLOCK[place + 1 :]]) == {}


def test_a_step_moves_the_carry_on_and_copies_it_only_at_the_end_of_its_memory() -> None:
    stream, step = carried("plain", 100, 1).stream(carry={"h": "hn"}), np.ones((1, 1, 3), np.float32)
    places = []
    for _ in range(220):
        stream(step)
        places.append(stream._carries[0].ctypes.data)
    assert np.count_nonzero(np.diff(places) == step.nbytes) > 200


def test_the_memory_of_a_stream_does_not_grow_with_blocks_longer_than_its_history() -> None:
    model, rng = carried("plain", 100, 1), np.random.default_rng(0)
    stream, long = model.stream(carry={"h": "hn"}), np.ones((1, 100_000, 3), np.float32)
    for steps in (3, 99, 101, 1, 5):
        stream(rng.normal(size=(1, steps, 3)).astype(np.float32))
    tracemalloc.start()
    for x in (long, long, long[:, :1], long[:, :4]):
        stream(x)
    assert tracemalloc.get_traced_memory()[0] < long.nbytes
    tracemalloc.stop()

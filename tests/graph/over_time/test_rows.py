"""Rows of a pool that are at positions of their own run together, with the bits of whole sequences."""

from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases
from support.sequence_graphs import normal

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model

F, FLOAT = 4, np.dtype(np.float32)


class Positional:
    """A graph of sequences, with time or the batch first, that reads the position of each step at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.graph, self.time = rng, Graph(), int(rng.integers(2))
        axes = ("batch", "time", F) if self.time else ("time", "batch", F)
        x = self.graph.add_input("x", FLOAT, axes)
        size = self.graph.add("Gather", self.graph.add("Shape", x), self.integers(self.time))
        start, step = rng.integers(0, 3, 2).tolist()
        self.start, self.step = start, step + 1
        self.end = self.graph.add(
            "Add", self.graph.add("Mul", size, self.integers(step + 1)), self.integers(start)
        )
        for _ in range(rng.integers(1, 4)):
            x = self.joined(x)
        if rng.integers(2):
            cell = onward.GRU(F, 3, rng=1)
            x = self.graph.add("Transpose", x, perm=[1, 0, 2]) if self.time else x
            x, _ = self.graph.add_all("Recurrent", (x, ""), 2, cell=cell.cell)
            x = self.graph.add("Transpose", x, perm=[1, 0, 2]) if self.time else x
        self.graph.outputs = (x,)

    def integers(self, numbers: Any) -> str:
        return self.graph.add_constant(np.array(numbers, np.int64))

    def joined(self, x: str) -> str:
        """Return x joined with an encoding of the positions that broadcasts to it."""
        add, encoding = self.graph.add, self.encoding()
        kind = self.rng.integers(4)
        if kind == 0:
            return add("Where", add("Less", encoding, x), x, encoding)
        if kind == 1:
            return add("Div", add("CumSum", x, self.integers(self.time)), add("Exp", encoding))
        pair = [x, encoding]
        return add(("Add", "Mul", "Sub")[self.rng.integers(3)], *(pair if kind == 2 else pair[::-1]))

    def with_axes(self, x: str, axes: list[int]) -> str:
        """Return numbers (T,) with new axes of size 1."""
        kind, rank, add = self.rng.integers(3), 1 + len(axes), self.graph.add
        if kind == 0:
            shape = [-1 if axis not in [new % rank for new in axes] else 1 for axis in range(rank)]
            return add("Reshape", x, self.integers(shape), allowzero=int(self.rng.integers(2)))
        x = add("Unsqueeze", x, self.integers(axes))
        return add("Expand", x, self.integers([1] * rank)) if kind == 1 else x

    def first_entries(self, axes: list[int]) -> str:
        """Return the first entries of a table in any order of its axes, with size 1 on the given ones."""
        shape, order = np.insert([100, F], axes, 1), self.rng.permutation(2 + len(axes))
        table = self.graph.add_constant(normal(self.rng, *shape).transpose(order))
        limits = self.integers([self.start]), self.graph.add("Reshape", self.end, self.integers([1]))
        axis = self.integers(np.flatnonzero(shape[order] == 100))
        part = self.graph.add("Slice", table, *limits, axis, self.integers([self.step]))
        return self.graph.add("Transpose", part, perm=np.argsort(order).tolist())

    def encoding(self) -> str:
        """Return numbers of the shape (T, F) or (1, T, F), or (T, 1, F) if time is first."""
        add, rng = self.graph.add, self.rng
        axes = ([0] if rng.integers(2) else []) if self.time else [1]
        kind = rng.integers(3)
        if kind == 0:
            return self.first_entries(axes)
        positions = add("Range", self.integers(self.start), self.end, self.integers(self.step))
        if kind == 1:
            positions = self.with_axes(positions, axes) if axes else positions
            return add("Gather", self.graph.add_constant(normal(rng, 100, F)), positions)
        axes = [*axes, -1 if rng.integers(2) else 1 + len(axes)]
        numbers = self.with_axes(add("Cast", positions, to=FLOAT), axes)
        if rng.integers(2):
            halves = [add("Mul", numbers, self.graph.add_constant(normal(rng, F // 2))) for _ in range(2)]
            axis = -1 if rng.integers(2) else len(axes)
            return add("Concat", add("Sin", halves[0]), add("Cos", halves[1]), axis=axis)
        return add("Sin", add("Mul", self.graph.add_constant(normal(rng, F)), numbers))


def test_random_graphs_that_read_positions_run_the_rows_of_pools_together() -> None:
    for seed in range(random_cases(40)):
        case = Positional(np.random.default_rng(seed))
        rng, model = case.rng, Model(case.graph)
        x = normal(rng, 5, 9, F)
        whole = model(x) if case.time else model(x.swapaxes(0, 1)).swapaxes(0, 1)
        pool = model.pool(5, time_axis=case.time)
        ids, done = pool.open(5), np.zeros(5, int)
        assert pool.runs_together, seed
        while (done < 9).any():
            rows = rng.permutation(np.flatnonzero(done < 9))[: rng.integers(1, 6)]
            if rng.integers(5) == 0:  # a stream starts again, at the position 0
                pool.reset(ids[rows[:1]])
                done[rows[0]] = 0
            y = pool.step(ids[rows], x[rows, done[rows]])
            np.testing.assert_array_equal(y, whole[rows, done[rows]], err_msg=str(seed))
            done[rows] += 1


def test_a_row_at_the_end_of_a_table_of_positions_raises_and_the_others_continue() -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.add_input("x", FLOAT, ("batch", "time", F))
    size = graph.add("Shape", x, start=1, end=2)
    zero, one = (graph.add_constant(np.array([n])) for n in range(2))
    table = graph.add("Slice", graph.add_constant(normal(rng, 1, 5, F)), zero, size, one)
    graph.outputs = (graph.add("Add", x, table),)
    model, values = Model(graph), normal(rng, 2, 5, F)
    pool, whole = model.pool(2, time_axis=1), model(values)
    ids = pool.open(2)
    for t in range(5):
        np.testing.assert_array_equal(pool.step(ids[:1], values[:1, t]), whole[:1, t])
    pool.step(ids[1:], values[1:, 0])
    with pytest.raises(ArgumentError, match="index 5 is out of range for an axis of size 5"):
        pool.step(ids, values[:, 1])
    np.testing.assert_array_equal(pool.step(ids[1:], values[1:, 1]), whole[1:, 1])
    pool.reset(ids[:1])
    np.testing.assert_array_equal(pool.step(ids, values[[0, 1], [0, 2]]), whole[[0, 1], [0, 2]])


@pytest.mark.parametrize("operation", ["Tile", "Expand"])
def test_positions_that_an_operation_ties_to_all_rows_run_one_after_the_other(operation: str) -> None:
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("batch", "time", F))
    size = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(1)))
    zero, one = (graph.add_constant(np.array(n)) for n in range(2))
    positions = graph.add("Unsqueeze", graph.add("Range", zero, size, one), graph.add_constant(np.array([1])))
    numbers = graph.add("Cast", positions, to=FLOAT)
    if operation == "Expand":
        numbers = graph.add("Expand", numbers, graph.add("Shape", x))
    else:
        numbers = graph.add("Tile", numbers, graph.add_constant(np.array([1, F])))
    graph.outputs = (graph.add("Add", x, numbers),)
    model, values = Model(graph), normal(np.random.default_rng(0), 2, 5, F)
    pool, whole = model.pool(2, time_axis=1), model(values)
    assert not pool.runs_together
    ids = pool.open(2)
    for t in range(5):
        np.testing.assert_array_equal(pool.step(ids, values[:, t]), whole[:, t])


def test_rows_on_the_axis_of_a_cell_s_steps_are_no_steps_of_one_stream() -> None:
    """A model of one step may leave the axis open that is time for its cell."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("n", 1, F)), graph.add_input("h", FLOAT, (1, 1, 3))
    graph.outputs = graph.add_all("Recurrent", (x, "", h), ("y", "h_n"), cell=onward.GRU(F, 3, rng=1).cell)
    graph.declared_outputs = Input("y", FLOAT, ("n", 1, 3)), Input("h_n", FLOAT, (1, 1, 3))
    model, values = Model(graph), normal(np.random.default_rng(0), 5, 7, 1, F)
    pool, streams = model.pool(5, carry={"h": "h_n"}), [model.stream(carry={"h": "h_n"}) for _ in range(5)]
    assert pool.runs_together
    ids = pool.open(5)
    for t in range(7):
        expected = [stream(x[t : t + 1])[0] for stream, x in zip(streams, values, strict=True)]
        np.testing.assert_array_equal(pool.step(ids, values[:, t]), expected)

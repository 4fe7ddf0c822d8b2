"""A loop over the steps of a cell that is written out becomes a recurrent layer with the same results."""

from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate

from onward.errors import OnwardError
from onward.graph import Graph
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify

I, H, T, B = 3, 5, 9, 2  # noqa: E741 - axis letter
CELLS = {"LSTM": 4, "GRU": 3, "GRU before": 3, "RNN": 1, "RNN relu": 1}


class Loop:
    """A graph of x (T, B, I) and states (B, H): a loop whose body writes a cell of random weights out."""

    def __init__(
        self, cell: str, rng: np.random.Generator, is_masked: bool = False, index: str = "i"
    ) -> None:
        self.rng, self.cell, self.is_masked = rng, cell, is_masked
        self.states = ["h", "c"] if cell == "LSTM" else ["h"]
        body = self.body = Graph()
        i, again = body.add_input("i", np.int64, ()), body.add_input("again", bool, ())
        before = [body.add_input(name, np.float32, (B, H)) for name in [*self.states, *["y"] * is_masked]]
        x = body.add_input("x", np.float32, (T, B, I))
        mask = body.add_input("mask", bool, (T, B, 1)) if is_masked else ""
        place = body.add("Cast", i, to=np.dtype(np.int32)) if index == "cast" else i
        if index == "backwards":
            place = body.add("Sub", body.add_constant(np.array(T - 1)), i)
        after = list(self._step(body.add("Gather", x, place, axis=0), *before[: len(self.states)]))
        if is_masked:
            now = body.add("Gather", mask, i, axis=0)
            after = [body.add("Where", now, *pair) for pair in zip([*after, after[0]], before, strict=True)]
        body.outputs = (again, *after, after[-1 if is_masked else 0])

    def _product(self, x: str, rows: int) -> tuple[str, ...]:
        """The products of x with the weights of all gates."""
        G, body = CELLS[self.cell], self.body
        W = body.add_constant((self.rng.normal(size=(rows, G * H)) * 0.5).astype(np.float32))
        y = body.add("MatMul", x, W)
        return body.add_all("Split", (y,), G, axis=-1, num_outputs=G) if G > 1 else (y,)

    def _step(self, x: str, h: str, c: str = "") -> tuple[str, ...]:
        add, parts = self.body.add, self._product(x, I)
        if self.cell == "GRU before":
            return self._other_gru(parts, h)
        others = self._product(h, H)
        sums = [add("Add", *pair) for pair in zip(parts, others, strict=True)]
        if self.cell.startswith("RNN"):
            return (add("Relu" if "relu" in self.cell else "Tanh", sums[0]),)
        if self.cell == "LSTM":
            i, f, o = (add("Sigmoid", sums[place]) for place in (0, 1, 3))
            new = add("Add", add("Mul", f, c), add("Mul", i, add("Tanh", sums[2])))
            return add("Mul", o, add("Tanh", new)), new
        z, r = (add("Sigmoid", each) for each in sums[:2])
        return (self._update(z, h, add("Tanh", add("Add", parts[2], add("Mul", r, others[2])))),)

    def _other_gru(self, parts: Any, h: str) -> tuple[str, ...]:
        add, body = self.body.add, self.body
        gates = []
        for x in parts[:2]:
            R = body.add_constant((self.rng.normal(size=(H, H)) * 0.5).astype(np.float32))
            gates.append(add("Sigmoid", add("Add", x, add("MatMul", h, R))))
        R = body.add_constant((self.rng.normal(size=(H, H)) * 0.5).astype(np.float32))
        n = add("Tanh", add("Add", parts[2], add("MatMul", add("Mul", gates[1], h), R)))
        return (self._update(gates[0], h, n),)

    def _update(self, z: str, h: str, n: str) -> str:
        add = self.body.add
        rest = add("Sub", self.body.add_constant(np.float32(1)), z)
        return add("Add", add("Mul", z, h), add("Mul", rest, n))

    def graph(self, count: int | None = None) -> Graph:
        graph = Graph()
        x = graph.add_input("x", np.float32, (T, B, I))
        inputs = [graph.add_input(s, np.float32, (B, H)) for s in [*self.states, *["y"] * self.is_masked]]
        masks = [graph.add_input("mask", bool, (T, B, 1))] if self.is_masked else []
        length = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(0)), axis=0)
        if count is not None:
            length = graph.add_constant(np.array(count))
        outer = [x, *masks]
        names = [length, "", *inputs, *outer]
        graph.outputs = graph.add_all("Loop", names, len(inputs) + 1, body=self.body, captured=len(outer))
        return graph

    def inputs(self) -> list[Any]:
        shapes = [(T, B, I), *[(B, H)] * (len(self.states) + self.is_masked)]
        arrays: list[Any] = [self.rng.normal(size=shape).astype(np.float32) for shape in shapes]
        return [*arrays, *[self.rng.random((T, B, 1)) < 0.6] * self.is_masked]


def check(loop: Loop, graph: Graph, expected: str) -> None:
    """The simplified graph has one such node, and the outputs of the graph as it is written."""
    simple = simplify(graph)
    kinds = [node.operation for node in simple.nodes]
    assert [kind for kind in kinds if "Recurrent" in kind or kind == "Loop"] == [expected]
    inputs = loop.inputs()
    for y, planned in zip(evaluate(graph, *inputs), Planner(simple)(*inputs), strict=True):
        np.testing.assert_allclose(planned, y, atol=2e-6)


@pytest.mark.parametrize("index", ["i", "cast"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_of_a_cell_runs_as_a_layer(cell: str, index: str) -> None:
    loop = Loop(cell, np.random.default_rng(len(cell)), index=index)
    check(loop, loop.graph(), "Recurrent")


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_loop_of_a_cell_that_a_mask_holds_runs_as_a_masked_layer(cell: str) -> None:
    loop = Loop(cell, np.random.default_rng(3), is_masked=True)
    check(loop, loop.graph(), "MaskedRecurrent")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("change", ["backwards", "scanned", "axis"])
def test_loops_that_do_something_else_stay_loops(cell: str, change: str) -> None:
    loop = Loop(cell, np.random.default_rng(4), index="backwards" if change == "backwards" else "i")
    body = loop.body
    if change == "scanned":
        body.outputs = (*body.outputs[:-1], body.add("Relu", body.add("Neg", body.outputs[-1])))
    elif change == "axis":
        place = next(k for k, node in enumerate(body.nodes) if node.operation == "Gather")
        x, i = body.nodes[place].inputs
        turned = body.add("Transpose", x, perm=[1, 0, 2])
        body.nodes[place] = body.nodes[place]._replace(inputs=(turned, i), attributes={"axis": 1})
        body.nodes.insert(place, body.nodes.pop())
    check(loop, loop.graph(), "Loop")


class WhileLoop(Loop):
    """The loop as TensorFlow writes it, with a condition, a counter and states that stay the same."""

    def __init__(
        self,
        cell: str,
        rng: np.random.Generator,
        *,
        first: int = 0,
        by: int = 1,
        less: int = 0,
        is_limited: bool = True,
        tests_before: bool = False,
        dtype: Any = np.int64,
    ) -> None:
        super().__init__(cell, rng)
        self.first, self.is_limited, self.dtype, body = first, is_limited, np.dtype(dtype), self.body
        i, again, *others = body.inputs
        t = body.add_input("t", np.int32, ())
        limit, kept = body.add_input("limit", dtype, ()), body.add_input("kept", np.float32, (1, H))
        body.inputs = [i, again, *body.inputs[-3:], *others]
        following = body.add("Add", t, body.add_constant(np.array(by, np.int32)))
        last = body.add("Sub", limit, body.add_constant(np.array(less))) if less else limit
        tested = (following, i.name) if is_limited else (t if tests_before else following,) * 2
        below = [self._below(body, name, last) for name in tested]
        body.outputs = (body.add("And", *below), following, limit, kept, *body.outputs[1:])

    @staticmethod
    def _below(graph: Graph, number: str, limit: str) -> str:
        """A condition that compares numbers of different types, as floats."""
        return graph.add(
            "Less", *(graph.add("Cast", name, to=np.dtype(np.float32)) for name in (number, limit))
        )

    def graph(self, count: int | None = None) -> Graph:
        graph = super().graph(count)
        (loop,) = (node for node in graph.nodes if node.operation == "Loop")
        first, kept = (graph.add_constant(a) for a in (np.array(self.first, np.int32), np.ones((1, H), "f4")))
        length, _, *states = loop.inputs
        graph.nodes.remove(loop)
        limit = length if self.dtype == np.int64 else graph.add("Cast", length, to=self.dtype)
        if self.dtype.kind == "f":
            limit = graph.add("Sub", limit, graph.add_constant(np.array(0.5, self.dtype)))
        start = self._below(graph, graph.add_constant(np.array(0)), limit)
        inputs = (length if self.is_limited else "", start, first, limit, kept, *states)
        graph.outputs = graph.add_all("Loop", inputs, len(self.states) + 4, body=self.body, captured=1)
        return graph


@pytest.mark.parametrize("count", [None, T, T - 2])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_with_a_condition_that_counts_runs_as_a_layer(cell: str, count: int | None) -> None:
    loop = WhileLoop(cell, np.random.default_rng(6))
    check(loop, loop.graph(count), "Recurrent")


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("count", [None, T, T - 2])
def test_the_condition_tells_the_number_of_iterations_of_a_loop_without_a_limit(
    count: int | None, dtype: Any
) -> None:
    loop = WhileLoop("LSTM", np.random.default_rng(9), is_limited=False, dtype=dtype)
    check(loop, loop.graph(count), "Recurrent")


def counting(limit: int | None) -> Graph:
    """The body of a loop that adds 1 to a state while a counter is below a limit, a constant or captured."""
    body = Graph()
    for name, dtype in (("i", np.int64), ("again", bool), ("t", np.int64), ("total", np.float32)):
        body.add_input(name, dtype, ())
    if limit is None:
        body.add_input("limit", np.int64, ())
    else:
        body.constants["limit"] = np.array(limit)
    following = body.add("Add", "t", body.add_constant(np.array(1)))
    total = body.add("Add", "total", body.add_constant(np.ones((), np.float32)))
    body.outputs = (body.add("Less", following, "limit"), following, total)
    return body


def test_loops_whose_bodies_use_one_name_have_limits_of_their_own() -> None:
    graph = Graph()
    first, start = (graph.add_constant(x) for x in (np.array(0), np.zeros((), np.float32)))
    true = graph.add("Less", first, graph.add("Size", graph.add_input("x", np.float32, ("N",))))
    outputs = [graph.add_all("Loop", ("", true, first, start), 2, body=counting(n))[1] for n in (30, 50)]
    graph.outputs = tuple(outputs)
    assert [float(y) for y in Planner(simplify(graph))(np.ones(3, np.float32))] == [30, 50]


@pytest.mark.parametrize("size", [0, 1, 4])
def test_a_loop_that_tests_its_condition_at_the_end_runs_at_least_once(size: int) -> None:
    graph = Graph()
    first, start = (graph.add_constant(x) for x in (np.array(0), np.zeros((), np.float32)))
    true, limit = (
        graph.add_constant(np.array(True)),
        graph.add("Size", graph.add_input("x", np.float32, ("N",))),
    )
    inputs = ("", true, first, start, limit)
    graph.outputs = graph.add_all("Loop", inputs, 2, body=counting(None), captured=1)
    results = Planner(simplify(graph))(np.ones(size, np.float32))
    assert [float(y) for y in results] == [max(1, size)] * 2


@pytest.mark.parametrize("change", [{"tests_before": True}, {"dtype": np.float32}, {"first": 1}, {"by": 2}])
def test_a_loop_without_a_limit_that_counts_otherwise_stays_a_loop(change: dict[str, Any]) -> None:
    loop = WhileLoop("GRU", np.random.default_rng(10), is_limited=False, **change)
    check(loop, loop.graph(T - 1), "Loop")


@pytest.mark.parametrize("change", [{"first": 1}, {"by": 2}, {"less": 3}, {"first": -1, "by": 2}])
def test_a_loop_whose_condition_ends_it_early_stays_a_loop(change: dict[str, int]) -> None:
    loop = WhileLoop("GRU", np.random.default_rng(7), **change)
    check(loop, loop.graph(), "Loop")


def test_a_loop_over_more_steps_than_there_are_is_an_error_as_a_layer_too() -> None:
    loop = Loop("GRU", np.random.default_rng(8))
    for declared in (loop.body.inputs[-1], *(graph := loop.graph(T + 1)).inputs[:1]):
        assert declared.axes == (T, B, I)
    simple = simplify(graph)
    assert [node.operation for node in simple.nodes if node.operation == "Recurrent"]
    with pytest.raises(OnwardError, match="index"):
        Planner(simple)(*loop.inputs())


def test_a_loop_that_exchanges_the_states_of_a_cell_stays_a_loop() -> None:
    loop = Loop("LSTM", np.random.default_rng(5))
    again, h, c, y = loop.body.outputs
    loop.body.outputs = (again, c, h, y)
    check(loop, loop.graph(), "Loop")

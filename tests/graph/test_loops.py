"""Loops run many iterations in one call of the core, with the bits of single ones."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.evaluate import evaluate
from support.running import runs_in_core

from onward.errors import ArgumentError
from onward.graph import Graph, Model
from onward.graph.plan.planner import Planner

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3, 7)).astype(np.float32) * np.float32(0.1)


class Loop:
    """A loop over a and b, and over x around it, whose body the tests write."""

    def __init__(self) -> None:
        self.body = Graph()
        for name, dtype, axes in (("i", np.int64, ()), ("goes_on", bool, ())):
            self.body.add_input(name, dtype, axes)
        for name in "abx":
            self.body.add_input(name, np.float32)

    def constant(self, number: Any, dtype: Any = np.float32) -> str:
        return self.body.add_constant(np.array(number, dtype))

    def model(self, count: int | None, *outputs: str) -> Model:
        """The model of the loop, given the condition, a, b, and the scanned outputs of its body."""
        graph, self.body.outputs = Graph(), outputs
        a, b, x = (graph.add_input(name, np.float32) for name in "abx")
        limit = "" if count is None else graph.add_constant(np.array(count))
        results = graph.add_all(
            "Loop", (limit, "", a, b, x), len(outputs) - 1, body=self.body, captured=1, name="rounds"
        )
        graph.outputs = results
        return Model(graph)


def check(model: Model, *inputs: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Check the bits of a model, and return how many iterations each call of the core ran."""
    calls: list[int] = []
    repeat = Planner.repeat

    def count(planner: Planner, *arguments: Any) -> Any:
        found = repeat(planner, *arguments)
        if found is not None:
            calls.append(found[0])
        return found

    monkeypatch.setattr(Planner, "repeat", count)
    for y, expected in zip(model(*inputs), evaluate(model.graph, *inputs), strict=True):
        assert y.dtype == expected.dtype and y.shape == expected.shape
        np.testing.assert_array_equal(y, expected)
    return calls


@pytest.mark.parametrize("count", [17, 50, 333])
def test_states_that_change_places_keep_their_values(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    total = loop.body.add("Add", loop.body.add("Mul", "a", "x"), "b")
    step = loop.body.add("Mul", total, loop.body.add("Cast", "i", to=np.dtype(np.float32)))
    model = loop.model(count, "goes_on", "b", loop.body.add("Tanh", step), "a", total)
    assert check(model, A, B, A, monkeypatch=monkeypatch) == []  # nothing asks Python
    assert runs_in_core(model, A, B, A)


@pytest.mark.parametrize("last", [0, 1, 2, 3, 40, 41])
def test_a_condition_ends_a_loop_within_a_batch_of_iterations(
    last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    again = loop.body.add("Less", "i", loop.constant(last, np.int64))
    total = loop.body.add("Add", "a", "x")
    check(loop.model(None, again, total, "b", total), A, B, B, monkeypatch=monkeypatch)


def test_states_that_change_their_shape_need_a_plan_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    model = loop.model(20, "goes_on", loop.body.add("Concat", "a", "x", axis=0), "b")
    assert check(model, A, B, A, monkeypatch=monkeypatch) == []


def test_a_state_without_elements_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    model = loop.model(20, "goes_on", loop.body.add("Add", "a", "x"), loop.body.add("Exp", "b"))
    check(model, A, B[:0], A, monkeypatch=monkeypatch)


def test_an_index_out_of_range_in_a_later_iteration_names_its_node() -> None:
    loop = Loop()
    row = loop.body.add("Gather", "x", "i", axis=0, name="rows")
    model = loop.model(40, "goes_on", loop.body.add("Add", "a", row), "b")
    with pytest.raises(ArgumentError, match="node rows"):
        model(A, B, RNG.standard_normal((30, 7)).astype(np.float32))


def test_a_loop_without_iterations_runs_in_the_core() -> None:
    loop = Loop()
    total = loop.body.add("Add", "a", "x")
    model = loop.model(0, "goes_on", total, "b", loop.body.add("Concat", total, total, axis=1))
    a, b, y = model(A, B, A)
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)
    assert y.shape == (0, 3, 14) and y.dtype == np.float32 and runs_in_core(model, A, B, A)

"""One function decides what is known about the outputs of a node, within one budget."""

from typing import Any

import numpy as np
import pytest

from onward.core import budget
from onward.errors import ShapeError
from onward.graph import Graph, Model
from onward.graph.node import Node, Signature
from onward.graph.operations.evaluation import evaluate
from onward.graph.size import Axes

RNG = np.random.default_rng(0)
FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)


def outcome(operation: str, *inputs: Any, **attributes: Any) -> Any:
    found = evaluate(Node(operation, (), (), attributes, "node"), inputs)
    return None if found is None else found[0]


def test_arrays_are_computed_and_signatures_are_not() -> None:
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_array_equal(outcome("Neg", x), -x)
    assert outcome("Neg", Signature((2, 3), FLOAT32)) == Signature((2, 3), FLOAT32)
    np.testing.assert_array_equal(outcome("Shape", Signature((2, 3), FLOAT32)), [2, 3])
    assert outcome("Reshape", x, Signature((2,), INT64)) is None


def test_random_numbers_are_not_the_same_in_every_call() -> None:
    assert outcome("RandomNormal", shape=[2, 3]) == Signature((2, 3), FLOAT32)


def test_what_takes_much_of_the_budget_is_not_computed() -> None:
    sizes = np.array([1 << 20, 1 << 10])
    assert outcome("ConstantOfShape", sizes) == Signature((1 << 20, 1 << 10), FLOAT32)
    x = np.ones((64, 64), np.float32)
    with budget.of_part(10**5):  # four times the work that is left
        assert outcome("MatMul", x, x) == Signature((64, 64), FLOAT32)
    np.testing.assert_array_equal(outcome("MatMul", x, x), x @ x)


def test_symbolic_sizes_stay_symbolic_without_guards() -> None:
    axes = Axes()
    T = axes.add("T", 7)
    (shape,) = [outcome("Shape", Signature((T, 2), FLOAT32))]
    assert list(shape) == [T, 2] and outcome("Mul", shape, np.array([2, 2]))[0] == 2 * T
    assert outcome("ConstantOfShape", shape) == Signature((T, 2), FLOAT32)
    assert outcome("Cast", shape, to=FLOAT32) == Signature((2,), FLOAT32)  # a step of the program
    assert not axes.guards


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="negative size"):
        outcome("ConstantOfShape", np.array([-1]))


def test_a_graph_with_a_loop_of_known_length_is_one_program() -> None:
    """The compiler ended a program at each loop, although streams knew the shapes of its outputs."""
    body = Graph()
    i, on, a = (
        body.add_input(n, d, s) for n, d, s in (("i", INT64, ()), ("on", bool, ()), ("a", FLOAT32, None))
    )
    after = body.add("Tanh", body.add("Add", a, body.add_constant(np.float32(0.25).reshape(()))))
    body.outputs = (on, after, body.add("Mul", after, body.add("Cast", i, to=FLOAT32)))
    graph = Graph()
    x = graph.add_input("x", np.float32, ("T", 3))
    count = graph.add_constant(np.array(40))
    last, scanned = graph.add_all("Loop", (count, "", x), 2, body=body, captured=0)
    graph.outputs = (graph.add("Neg", last), graph.add("Transpose", scanned, perm=[2, 1, 0]))
    model = Model(graph)
    for T in (5, 9):
        x0 = state = RNG.standard_normal((T, 3)).astype(np.float32)
        rows = []
        for step in range(40):
            state = np.tanh(state + np.float32(0.25))
            rows.append(state * np.float32(step))
        y, scans = model(x0)
        np.testing.assert_allclose(y, -state, 1e-5)
        np.testing.assert_allclose(scans, np.transpose(rows, (2, 1, 0)), 1e-5)
    (program,) = model.programs
    assert "Rest" not in {type(segment).__name__ for segment in program.segments}


INDICES = Signature((5,), INT64)
OF_SIZES: list[tuple[str, tuple[Any, ...]]] = [
    ("Gather", (INDICES,)), ("GatherElements", (INDICES,)), ("GatherND", (Signature((5, 1), INT64),)),
    ("Slice", (np.array([0]), np.array([1]), np.array([0]), Signature((1,), INT64))),
    ("Concat", (INDICES,)), ("Expand", (np.array([2, 2]),)), ("Tile", (np.array([2]),)),
    ("Where", (INDICES,)), ("Pad", (np.array([1, 1]), Signature((), INT64))),
    ("ScatterElements", (np.array([0]), Signature((1,), INT64))), ("CumSum", (Signature((), INT64),)),
    ("ReduceSum", (np.array([0]),)), ("Reshape", (np.array([2, 1]),)), ("Unsqueeze", (np.array([0]),)),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "others"), OF_SIZES)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_what_is_computed_of_sizes_and_unknown_values_is_of_integers(
    operation: str, others: Any, dtype: Any
) -> None:
    """Gather of sizes at unknown indices was of objects, for which TorchScript files had KeyError: 'O'."""
    x = outcome("Cast", outcome("Shape", Signature((Axes().add("T", 7), 2), FLOAT32)), to=np.dtype(dtype))
    assert x.dtype.hasobject
    if operation == "Where":
        others, x = (x, Signature((2,), np.dtype(dtype))), Signature((2,), np.dtype(np.bool_))
    attributes = {"axis": 0} if operation in ("Concat", "GatherElements", "ScatterElements") else {}
    others = [other.of_dtype(dtype) if operation == "Concat" else other for other in others]
    y = outcome(operation, x, *others, **attributes)
    assert y is None or Signature.of(y).dtype == dtype

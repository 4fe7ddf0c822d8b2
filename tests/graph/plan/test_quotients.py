"""Quotients of sizes in floats: the numbers of NumPy, and one program for all of them."""

from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate

from onward.graph import Graph, Model

INT64 = np.dtype(np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", ["Ceil", "Floor", ""])
@pytest.mark.parametrize(
    ("operation", "divisor"), [("Div", 1), ("Div", 3), ("Div", 1000), ("Mul", 4), ("Mul", 3)]
)
def test_rounded_quotients_of_integers_have_the_bits_of_the_operations_one_by_one(
    dtype: Any, rounding: str, operation: str, divisor: int
) -> None:
    """Many at once, and one that decides a size, also where floats are not exact."""
    graph = Graph()
    n, seven = graph.add_input("n", np.int64, ("N",)), graph.add_constant(np.array([7]))
    y = graph.add("Cast", n, to=np.dtype(dtype))
    factor = np.array(divisor if operation == "Div" else 1 / divisor, dtype)
    y = graph.add(operation, y, graph.add_constant(factor))
    y = graph.add("Cast", graph.add(rounding, y) if rounding else y, to=INT64)
    many = graph.replaced(outputs=(y,)).without_unused()
    steps, zero = graph.add_constant(np.arange(7)), graph.add_constant(np.array([0]))
    graph.outputs = (graph.add("Slice", steps, zero, graph.add("Mod", y, seven)),)
    numbers = np.array([*range(-20, 20), *(2**24 + np.arange(-5, 5)), 2**31 - 1, 2**31, -(2**40)])
    wanted, model = evaluate(many, numbers)[0], Model(graph)
    np.testing.assert_array_equal(Model(many)(numbers), wanted, strict=True)
    for number, quotient in zip(numbers, wanted, strict=True):
        assert len(model(np.array([number]))) == quotient % 7, number


def test_the_number_of_windows_of_a_sequence_needs_one_program() -> None:
    """A size in floats fixed the length of the sequence."""
    graph = Graph()
    x, zero = graph.add_input("x", np.float32, ("T",)), graph.add_constant(np.array([0]))
    steps = graph.add("Cast", graph.add("Shape", x), to=np.dtype(np.float32))
    windows = graph.add("Ceil", graph.add("Div", steps, graph.add_constant(np.float32(3).reshape(()))))
    graph.outputs = (graph.add("Slice", x, zero, graph.add("Cast", windows, to=INT64), zero),)
    model = Model(graph)
    for T in (10, 5, 12, 40, 41, 42):
        x0 = np.arange(T, dtype=np.float32)
        np.testing.assert_array_equal(model(x0), x0[: -(-T // 3)])
    assert len(model.programs) == 1

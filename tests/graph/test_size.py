"""Symbolic sizes: arithmetic, guards, and what NumPy does with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

from onward.errors import ArgumentError
from onward.graph import Graph
from onward.graph.inference import infer
from onward.graph.node import Signature
from onward.graph.polynomial import UnsureError, evaluated
from onward.graph.size import Axes, are_same
from onward.graph.sized import broadcast_shape, dtype_of, has_sizes, integers


def random_number(rng: np.random.Generator, axes: int, depth: int) -> Callable[[Any], Any]:
    """A random expression: a function of the sizes of some axes."""
    kind = rng.integers(7) if depth else rng.integers(2)
    if kind == 0:
        place = int(rng.integers(axes))
        return lambda sizes: sizes[place]
    if kind == 1:
        number = int(rng.integers(-4, 9))
        return lambda sizes: number
    a, b = (random_number(rng, axes, depth - 1) for _ in range(2))
    divisor = int(rng.integers(1, 5))
    return {
        2: lambda sizes: a(sizes) + b(sizes),
        3: lambda sizes: a(sizes) - b(sizes),
        4: lambda sizes: a(sizes) * b(sizes),
        5: lambda sizes: a(sizes) // divisor + b(sizes) % divisor,
        6: lambda sizes: max(a(sizes), b(sizes)),
    }[int(kind)]


CONDITIONS = {"= 0": np.equal, "!= 0": np.not_equal, "> 0": np.greater, "<= 0": np.less_equal}


@in_one_test("seed", range(150))
def test_an_expression_of_sizes_is_right_wherever_its_guards_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes, hints = Axes(), {"T": int(rng.integers(1, 9)), "B": int(rng.integers(1, 5))}
    expression = random_number(rng, len(hints), 4)
    found = expression([axes.add(name, size) for name, size in hints.items()])
    is_large, held = found > 3, 0
    for T, B in np.ndindex(12, 6):
        sizes = {"T": T + 1, "B": B + 1}
        if all(CONDITIONS[g.condition](evaluated(g.size, sizes), 0) for g in axes.guards.values()):
            held += 1
            expected = expression(list(sizes.values()))
            assert evaluated(found, sizes) == expected and (expected > 3) == is_large
    assert held


def test_what_holds_for_all_sizes_needs_no_guard() -> None:
    axes = Axes()
    T, B = axes.add("T", 7), axes.add("B", 2)
    assert T >= 1 and T * B * 3 > 0 and T * B >= B and T * 4 != 0 and -T < 0 and T // 2 >= 0
    assert (T * B * 32 + 31) // 32 == T * B and (T * 6) % 3 == 0 and (T * B - 1) // B == T - 1
    assert not axes.guards


def test_comparisons_and_conversions_are_guards() -> None:
    axes = Axes()
    T = axes.add("T", 7)
    axes.node = "node a"
    assert T != 1 and T > 3 and list(range(T)) == list(range(7)) and int(T) == 7
    assert [str(guard) for guard in axes.guards.values()] == ["-1 + T != 0", "-3 + T > 0", "-7 + T = 0"]
    assert axes.fixed == {"T": 7} and {guard.node for guard in axes.guards.values()} == {"node a"}


def test_arrays_of_sizes_stay_symbolic_until_numpy_needs_numbers() -> None:
    axes = Axes()
    T = axes.add("T", 7)
    shape = integers((T, 3))
    assert has_sizes(shape) and not has_sizes(integers((4, 3))) and integers((4, 3)).dtype == np.int64
    assert not axes.guards
    np.testing.assert_array_equal(shape.astype(np.int64), [7, 3])
    assert axes.fixed == {"T": 7}


def test_broadcasting_compares_sizes_with_one_alone() -> None:
    axes = Axes()
    T = axes.add("T", 7)
    assert broadcast_shape((T, 3), (1, 3), (3,)) == (T, 3)
    assert [str(guard) for guard in axes.guards.values()] == ["-1 + T != 0"]


def test_equal_quotients_have_one_form() -> None:
    axes = Axes(is_open=True)
    T, B = axes.add("T"), axes.add("B")
    for first, second in [
        ((T - 1) // 2 + 1, (T + 1) // 2),
        (-(-T // 3), (T + 2) // 3),
        ((3 * T + 5) // 2, T + 2 + (T + 1) // 2),
        (((T + 1) // 2 + 1) // 2, (T + 3) // 4),
        ((6 * B + 6 * B * (T // 3)) // (2 + 2 * (T // 3)), 3 * B),
    ]:
        assert first == second
    assert T // 2 != (T + 1) // 2 and 2 * (T // 2) != T


def test_what_rounds_down_and_up_again_is_never_larger() -> None:
    axes = Axes(is_open=True)
    T = axes.add("T")
    for divisor in (2, 3, 5):
        assert not divisor * (T // divisor) > T and divisor * ((T + divisor - 1) // divisor) >= T
        assert T // 4 >= 4 * (T // 16) and 3 + T // 4 >= 4 * ((T + 12) // 16)


def test_open_sizes_have_no_numbers_and_no_remainders() -> None:
    axes = Axes(is_open=True)
    T = axes.add("T")
    with pytest.raises(ArgumentError, match="it needs the size T as a number"):
        np.zeros(T)
    with pytest.raises(UnsureError, match="it depends on whether"):
        max(T % 3, 1 + T % 2)


def test_sizes_tell_their_axes_and_their_numbers_for_others() -> None:
    axes = Axes()
    T, C = axes.add("T", 9), axes.add("C", 4)
    n, frames = axes.unknown(2), (T - 3) // 2 * C
    assert (T.name, (T + 1).name, n.name, frames.names) == ("T", "", "", {"T", "C"})
    assert T.is_known and frames.is_known and not (n + T).is_known
    for sizes in ({"T": 9, "C": 4}, {"T": 20, "C": 3}):
        assert evaluated(frames, sizes) == (sizes["T"] - 3) // 2 * sizes["C"]
    assert are_same(frames + T, T + frames) and not are_same(T, C) and not axes.guards
    assert n != 0 and [guard.size.is_known for guard in axes.guards.values()] == [False]  # it may be 0


def test_separate_guards_are_recorded_again_outside() -> None:
    axes = Axes()
    T = axes.add("T", 9)
    with axes.separate() as made:
        assert T > 5
    assert len(made) == 1 and not axes.guards
    assert T > 5 and axes.guards == made


def test_open_sizes_stay_open_in_int32_whatever_their_products() -> None:
    """The hint of an open axis times 5,000 has more than 32 bits, although no call does."""
    graph, int32 = Graph(), np.dtype(np.int32)
    sizes = graph.add("Cast", graph.add("Shape", graph.add_input("x", np.float32, ("T", 3))), to=int32)
    product = graph.add("Mul", sizes, graph.add_constant(np.array([5000], int32)))
    T = Axes(is_open=True).add("T")
    found = infer(graph, {"x": Signature((T, 3), np.dtype(np.float32))})[product]
    assert dtype_of(found) == int32 and str(found[0]) == "5000*T" and found[1] == 15_000

"""Rescaling by fixed-point factors and tables against Python's exact integers, in NumPy and in the core."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.lowering import run_lowered
from support.programs import described_steps

from onward.errors import ShapeError
from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS


def both(operation: str, *inputs: Any, known: Any = (), attributes: Any = None) -> list[Any]:
    """The outputs in NumPy, which those of the core equal."""
    found = OPERATIONS[operation].compute(inputs, attributes or {})
    lowered = run_lowered(operation, inputs, attributes or {}, known)
    assert lowered is not None
    for y, expected in zip(lowered, found, strict=True):
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
    return list(found)


def halves_away(x: Fraction) -> int:
    """Round to nearest, ties away from zero."""
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x)) if x else 0


def test_rescaling_rounds_ties_up_and_then_away_from_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**20), 2**20, 400).astype(np.int32)
    x[:6] = [1, -1, 3, -3, 2**20, -(2**20)]
    multiplier = rng.integers(2**30, 2**31 - 1, 400).astype(np.int32)
    multiplier[:6] = 1 << 30
    shift = rng.integers(-20, 8, 400).astype(np.int32)
    shift[:6] = 0
    bounds = [np.array(number, np.int32) for number in (0, -(2**31), 2**31 - 1)]
    (y,) = both("Rescale", x, multiplier, shift, *bounds, known=[3, 4, 5])
    for a, m, s, found in zip(x.tolist(), multiplier.tolist(), shift.tolist(), y.tolist(), strict=True):
        first = math.floor(Fraction(a * 2 ** max(s, 0) * m, 2**31) + Fraction(1, 2))
        assert found == halves_away(Fraction(first, 2 ** max(-s, 0))), (a, m, s)


@pytest.mark.parametrize("steps", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_rescaling_of_all_integers_has_the_same_bits_in_vectors(steps: tuple[int, int], isa: str) -> None:
    rng, extremes = np.random.default_rng(3), [-(2**31), 2**31 - 1, -1, 0, 1, 2**30, -(2**30)]
    for n, dtype in ((1, np.int8), (37, np.uint8), (100, np.int32)):
        x, multiplier = rng.integers(-(2**31), 2**31, (2, n)).astype(np.int32)
        shift = rng.integers(-40, 40, n).astype(np.int32)
        for array in (x, multiplier):
            array[rng.random(n) < 0.3] = rng.choice(extremes)
        factor = [
            array if step else array[:1] for array, step in zip((multiplier, shift), steps, strict=True)
        ]
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        bounds = [np.array(number, dtype) for number in (rng.integers(low, high), low, high)]
        both("Rescale", x, *factor, *bounds, known=[3, 4, 5])


def test_rescaling_int64_rounds_once_and_does_not_overflow() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-(2**46), 2**46, 400) >> rng.integers(0, 40, 400)
    multiplier = rng.integers(2**30, 2**31 - 1, 400).astype(np.int32)
    shift = rng.integers(-16, 8, 400).astype(np.int32)
    bounds = [np.array(number, np.int64) for number in (3, -(2**62), 2**62)]
    (y,) = both("RescaleOnce", x, multiplier, shift, *bounds, known=[3, 4, 5])
    for a, m, s, found in zip(x.tolist(), multiplier.tolist(), shift.tolist(), y.tolist(), strict=True):
        assert found == 3 + math.floor(Fraction(a * m, 2 ** (31 - s)) + Fraction(1, 2)), (a, m, s)


def test_rescaling_broadcasts_clips_and_adds_a_zero_point() -> None:
    x = np.arange(-300, 300, dtype=np.int32).reshape(2, 3, 100)
    multiplier = np.full(100, 1 << 30, np.int32)
    for dtype, low, high in ((np.int8, -128, 127), (np.uint8, 0, 255), (np.int8, -3, 20)):
        bounds = [np.array(number, dtype) for number in (7, low, high)]
        (y,) = both("Rescale", x, multiplier, np.ones(100, np.int32), *bounds, known=[3, 4, 5])
        np.testing.assert_array_equal(y, np.clip(x + 7, low, high).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("values", [np.int8, np.int32, np.float32, np.float64])
def test_tables_clip_integers_beyond_them(dtype: Any, values: Any) -> None:
    table = np.random.default_rng(1).integers(-100, 100, 50).astype(values)
    x = np.arange(0, 120).reshape(4, 30).astype(dtype)
    (y,) = both("Lookup", x, table, np.array(20), known=[2])
    np.testing.assert_array_equal(y, table[np.clip(x.astype(int) - 20, 0, 49)])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("bits", [1, 3, 7])
def test_tables_are_read_on_the_lines_between_their_elements(dtype: Any, bits: int) -> None:
    table = np.random.default_rng(bits).integers(-(1 << 15), 1 << 15, 9).astype(np.int32)
    x = np.arange(-128, 127, 3).astype(dtype)
    (y,) = both("Lookup", x, table, np.array(-20), attributes={"bits": bits}, known=[2])
    for each, found in zip(x.tolist(), y.tolist(), strict=True):
        place = Fraction(min(max(each + 20, 0), 8 << bits), 1 << bits)
        first = min(math.floor(place), 7)
        before, after = map(int, table[first : first + 2])
        assert found == before + math.floor((after - before) * (place - first) + Fraction(1, 2))


def test_a_table_that_has_no_lines_is_refused() -> None:
    for table, bits in ((np.zeros(4, np.int8), 3), (np.zeros(1, np.int32), 3), (np.zeros(4, np.int32), 31)):
        graph = Graph()
        operands = (graph.add_constant(array) for array in (table, np.array(0)))
        graph.outputs = (graph.add("Lookup", graph.add_input("x", np.int32, (3,)), *operands, bits=bits),)
        with pytest.raises(ShapeError, match=f"cannot be read between {bits} bits"):
            Model(graph)(np.zeros(3, np.int32))


def test_reciprocals_are_close_in_fixed_point() -> None:
    x = np.array([1, 2, 3, 1 << 19, (1 << 19) + 1, 123456789, 2**31 - 1], np.int32)
    multiplier, shift = both("FixedReciprocal", x)
    np.testing.assert_allclose(multiplier / 2.0**31 * 2.0**shift, 2.0**31 / x, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("operation", ["ReduceSum", "ReduceMax"])
def test_reductions_of_integers_are_exact_in_the_core(operation: str, dtype: Any) -> None:
    x = np.random.default_rng(2).integers(-(2**31), 2**31, (3, 5, 7)).astype(dtype)
    for axes in ([1], [0, 2], [-1]):
        lowered = run_lowered(operation, [x, np.array(axes)], {}, known=[1])
        assert lowered is not None
        expected = (
            x.sum(tuple(axes), dtype, keepdims=True)
            if operation == "ReduceSum"
            else x.max(tuple(axes), keepdims=True)
        )
        np.testing.assert_array_equal(lowered[0], expected)


@pytest.mark.parametrize("units", [1, 5, 33])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("kind", ["product", "window"])
def test_exact_sums_are_rescaled_in_the_step_that_computes_them(
    kind: str, dtype: Any, units: int, isa: str
) -> None:
    rng = np.random.default_rng(4)
    if kind == "product":
        operation, x, W = "MatMulInteger", rng.integers(-128, 128, (2, 6, 20)), (20, units)
    else:
        operation, x, W = "ConvInteger", rng.integers(-128, 128, (2, units, 9, 6)), (units, 1, 3, 2)
    weights, zero = rng.integers(-128, 128, W).astype(np.int8), np.array(-7, np.int8)
    bias = rng.integers(-5000, 5000, units).astype(np.int32)
    multiplier = rng.integers(2**30, 2**31 - 1, units).astype(np.int32)
    shift = rng.integers(-9, 1, units).astype(np.int32)
    limits = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

    def model(reads_sums: bool) -> Model:
        graph = Graph()
        graph.add_input("x", np.int8)
        constants = [graph.add_constant(array) for array in (weights, zero, bias, multiplier, shift)]
        numbers = [graph.add_constant(np.array(number, dtype)) for number in (3, *limits)]
        options = {"group": units} if kind == "window" else {}
        sums = graph.add(operation, "x", *constants[:2], **options)
        if kind == "window":  # channels last
            sums = graph.add("Transpose", sums, perm=[0, 2, 3, 1])
        sums = graph.add("Add", sums, constants[2])
        graph.outputs = (graph.add("Rescale", sums, *constants[3:], *numbers), *[sums] * reads_sums)
        return Model(graph)

    fused, separate = model(False), model(True)
    y, (expected, sums) = fused(x.astype(np.int8)), separate(x.astype(np.int8))
    np.testing.assert_array_equal(y, expected)
    exact = OPERATIONS["Rescale"].compute(
        [sums, multiplier, shift, *(np.array(n, dtype) for n in (3, *limits))], {}
    )
    np.testing.assert_array_equal(y, exact[0] if isinstance(exact, tuple) else exact)
    steps = described_steps(fused.planner.programs[0])
    assert any(step.startswith(f"integer_{kind}") for step in steps), steps
    assert not any(step.startswith("rescale") for step in steps), steps


@pytest.mark.parametrize("kind", ["product", "window"])
@pytest.mark.parametrize("last", ["Add", "Rescale", "Cast"])
def test_what_follows_rescaled_sums_does_not_become_a_part_of_their_step(kind: str, last: str) -> None:
    """Rescaled sums of dtype int32 are no exact sums any more: a bias was added before the factor."""
    rng, units = np.random.default_rng(5), 7
    x = rng.integers(-128, 128, (3, 20) if kind == "product" else (2, units, 5, 1)).astype(np.int8)
    W = rng.integers(-128, 128, (20, units) if kind == "product" else (units, 1, 2, 1)).astype(np.int8)
    # with the units on the axis of the rescaled sums to which the operands below belong
    axes = (units,) if kind == "product" else (units, 1, 1)
    multiplier = rng.integers(2**30, 2**31 - 1, axes).astype(np.int32)
    bias = rng.integers(-500, 500, axes).astype(np.int32)
    shift, numbers = np.full(axes, -2, np.int32), [np.array(n, np.int32) for n in (9, -(2**31), 2**31 - 1)]
    graph = Graph()
    graph.add_input("x", np.int8)
    factor = [graph.add_constant(array) for array in (multiplier, shift, *numbers)]
    options = {"group": units} if kind == "window" else {}
    operation = "MatMulInteger" if kind == "product" else "ConvInteger"
    (sums,) = OPERATIONS[operation].compute([x, W], options)
    found = graph.add("Rescale", graph.add(operation, "x", graph.add_constant(W), **options), *factor)
    (expected,) = OPERATIONS["Rescale"].compute([sums, multiplier, shift, *numbers], {})
    if last == "Add":
        found, expected = graph.add("Add", found, graph.add_constant(bias)), expected + bias
    elif last == "Rescale":
        found = graph.add("Rescale", found, *factor)
        (expected,) = OPERATIONS["Rescale"].compute([expected, multiplier, shift, *numbers], {})
    else:
        scale = np.float32(0.3)
        found = graph.add("Mul", graph.add("Cast", found, to=np.dtype(np.float32)), graph.add_constant(scale))
        expected = expected.astype(np.float32) * scale
    graph.outputs = (found,)
    model = Model(graph)
    np.testing.assert_array_equal(model(x), expected)
    steps = described_steps(model.planner.programs[0])
    assert len(steps) > 1 and sum(step.startswith(f"integer_{kind}") for step in steps) == 1, steps

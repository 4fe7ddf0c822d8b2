"""Results are bit-identical for any batch, chunk size and instruction set: sums have one fixed order."""

import os
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.bits import (
    CELLS,
    assert_bitwise,
    both_dtypes,
    each_isa,
    every_cell,
    numbers,
    odd_sizes,
    parts,
    with_each_isa,
)

import onward
from onward import _core

T = 100  # more than the rows that the core computes at once
CUTS: list[Any] = [[], range(1, T), [1], [96], [97], [7, 40, 41, 83]]


def answer(layer: Any, x: Any, **options: Any) -> list[Any]:
    y, state = layer(x, **options)
    return [y, *parts(state)]


@every_cell
@both_dtypes
@odd_sizes
def test_chunks_give_the_same_bits_as_the_whole_sequence(cell: str, dtype: str, hidden_size: int) -> None:
    def layer() -> Any:
        return CELLS[cell](hidden_size=hidden_size, num_layers=2, dtype=dtype)

    x = numbers(dtype, T, 2, 5)
    whole = answer(layer(), x)
    for isa in each_isa():
        own = layer()
        for cuts in CUTS:
            state, pieces = None, []
            for chunk in np.split(x, cuts):
                y, state = own(chunk, state)
                pieces.append(y)
            assert_bitwise([np.concatenate(pieces), *parts(state)], whole, f"{isa}, {cuts}")


@every_cell
@both_dtypes
@odd_sizes
def test_a_row_gives_the_same_bits_in_any_batch(cell: str, dtype: str, hidden_size: int) -> None:
    def layer() -> Any:
        return CELLS[cell](hidden_size=hidden_size, num_layers=2, bidirectional=True, dtype=dtype)

    x, one = numbers(dtype, 2, 131, 5), layer()
    alone = [
        np.concatenate(rows, 1) for rows in zip(*(answer(one, x[:, [k]]) for k in range(131)), strict=True)
    ]
    for isa in each_isa():
        own = layer()
        for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64, 131):
            expected = [array[:, :size] for array in alone]
            assert_bitwise(answer(own, x[:, :size]), expected, f"{isa}, {size} rows")


@every_cell
@both_dtypes
def test_a_row_with_a_length_gives_the_same_bits_as_the_shorter_row(cell: str, dtype: str) -> None:
    def layer() -> Any:
        return CELLS[cell](hidden_size=33, num_layers=2, bidirectional=True, dtype=dtype)

    x, lengths, one = numbers(dtype, T, 6, 5), [T, 1, 96, 97, 50, 0], layer()
    alone = [answer(one, x[:length, [row]]) for row, length in enumerate(lengths)]
    for isa in each_isa():
        y, *state = answer(layer(), x, lengths=lengths)
        for row, length in enumerate(lengths):
            own = [y[:length, [row]], *(part[:, [row]] for part in state)]
            assert_bitwise(own, alone[row], f"{isa}, length {length}")


@every_cell
@both_dtypes
@odd_sizes
def test_records_have_the_same_bits_for_any_threads_and_instruction_set(
    cell: str, dtype: str, hidden_size: int
) -> None:
    x, found = numbers(dtype, 3, 29, 5), []
    x[0, 3, 1], x[1, 5], lengths = np.nan, -0.0, [3, 0, 1, 2] * 7 + [3]
    for threads in with_each_isa((1, 2)):
        layer = CELLS[cell](hidden_size=hidden_size, num_layers=2, bidirectional=True, dtype=dtype)
        with onward.num_threads(threads):
            plain = answer(layer, x, lengths=lengths)
            y, state, _, records = layer.record(x, None, lengths, sums=True)
        assert_bitwise([y, *parts(state)], plain)
        found.append([array for r in records for array in (r.y, r.gates, r.sums)])
    for arrays in found[1:]:
        for one, other in zip(found[0], arrays, strict=True):
            np.testing.assert_array_equal(one, other)  # equates NaN
            np.testing.assert_array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


@both_dtypes
@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (5, 7), (40, 33), (129, 70)])
def test_a_row_of_linear_gives_the_same_bits_in_any_batch(dtype: str, features: int, outputs: int) -> None:
    def layer() -> Any:
        return onward.Linear(features, outputs, dtype=dtype, rng=0)

    x, one = numbers(dtype, 131, features), layer()
    alone = np.stack([one(row) for row in x])
    for isa in each_isa():
        own = layer()
        for size in (1, 2, 5, 17, 64, 131):
            assert_bitwise([own(x[:size])], [alone[:size]], f"{isa}, {size} rows")


def rounded(exact: Fraction) -> np.float32:
    """The float32 number that is nearest to one that is not halfway between two."""
    near = np.float32(float(exact))
    around = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda number: abs(Fraction(float(number)) - exact))


def test_a_sum_that_is_almost_halfway_between_two_numbers_is_rounded_once() -> None:
    """Without an instruction for it, the sum is rounded to float64 first, where it is exactly halfway."""
    rng, x, weights, expected = np.random.default_rng(0), [], [], []
    while len(x) < 300:
        a = np.float32(rng.uniform(1, 2))
        b = 1 / a
        if 0 < abs(Fraction(float(a)) * Fraction(float(b)) - 1) < Fraction(1, 1 << 30):
            exponent = int(rng.integers(-60, 60))
            c = np.ldexp(1 + int(rng.integers(1 << 23)) / 2**23, exponent) * rng.choice([-1, 1])
            half = np.ldexp(float(a), exponent - 24) * rng.choice([-1, 1])  # b half is half an ulp of c
            x.append([1, half]), weights.append([c, float(b)])
            expected.append(rounded(Fraction(c) + Fraction(half) * Fraction(float(b))))
    matrix, rows = np.array(weights, np.float32), np.array(x, np.float32)
    np.testing.assert_array_equal(matrix, weights)
    np.testing.assert_array_equal(rows, x)
    for isa in each_isa():
        layer = onward.Linear(2, len(matrix), bias=False, rng=0)
        layer.load_state_dict({"weight": matrix})
        np.testing.assert_array_equal(np.diagonal(layer(rows)), expected, isa)


@both_dtypes
@pytest.mark.parametrize("dim", [0, 1])
def test_a_slice_of_softmax_gives_the_same_bits_on_its_own(dtype: str, dim: int) -> None:
    x = np.moveaxis(numbers(dtype, 131, 37), -1, dim)
    alone = np.stack([onward.Softmax()(row) for row in np.moveaxis(x, dim, -1)])
    for isa in each_isa():
        assert_bitwise([np.moveaxis(onward.Softmax(dim)(x), dim, -1)], [alone], isa)


@pytest.mark.parametrize("name", [_core.available_isas()[0], "abacus"])
def test_the_environment_selects_the_instruction_set_and_an_unknown_one_is_an_error(name: str) -> None:
    code = "from onward import _core; print(_core.isa())"
    environment = os.environ | {"ONWARD_ISA": name}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if name == "abacus":
        assert "ImportError: unknown instruction set 'abacus' (from ONWARD_ISA)" in process.stderr
        assert ", ".join(_core.available_isas()) in process.stderr
    else:
        assert process.stdout.strip() == name

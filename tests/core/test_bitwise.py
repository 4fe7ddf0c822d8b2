"""Results are bit-identical for any batch, chunk size and instruction set: sums have one fixed order."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support.bits import CELLS, assert_bitwise, both_dtypes, every_cell, numbers, odd_sizes, parts

import onward
from onward import _core


@every_cell
@both_dtypes
@odd_sizes
@pytest.mark.parametrize("cuts", [range(1, 131), [1], [96], [97], [7, 40, 41, 100]], ids=str)
def test_chunks_give_the_same_bits_as_the_whole_sequence(
    isa: str, cell: str, dtype: str, hidden_size: int, cuts: Any
) -> None:
    layer = CELLS[cell](hidden_size=hidden_size, num_layers=2, dtype=dtype)
    x = numbers(dtype, 131, 2, 5)
    whole, final = layer(x)
    state, pieces = None, []
    for chunk in np.split(x, cuts):
        y, state = layer(chunk, state)
        pieces.append(y)
    assert_bitwise([whole, *parts(final)], [np.concatenate(pieces), *parts(state)])


@every_cell
@both_dtypes
@odd_sizes
def test_a_row_gives_the_same_bits_in_any_batch(isa: str, cell: str, dtype: str, hidden_size: int) -> None:
    layer = CELLS[cell](hidden_size=hidden_size, num_layers=2, bidirectional=True, dtype=dtype)
    x = numbers(dtype, 4, 131, 5)
    alone = [layer(x[:, [row]]) for row in range(131)]
    for size in (2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64, 131):
        y, state = layer(x[:, :size])
        for row, (y_alone, state_alone) in enumerate(alone[:size]):
            row_of_batch = [array[:, row] for array in (y, *parts(state))]
            assert_bitwise(row_of_batch, [array[:, 0] for array in (y_alone, *parts(state_alone))])


@every_cell
@both_dtypes
def test_a_row_with_a_length_gives_the_same_bits_as_the_shorter_row(isa: str, cell: str, dtype: str) -> None:
    layer = CELLS[cell](hidden_size=33, num_layers=2, bidirectional=True, dtype=dtype)
    x, lengths = numbers(dtype, 131, 6, 5), [131, 1, 96, 97, 50, 0]
    y, state = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        y_alone, state_alone = layer(x[:length, [row]])
        assert_bitwise([y[:length, row]], [y_alone[:, 0]])
        assert_bitwise([part[:, row] for part in parts(state)], [part[:, 0] for part in parts(state_alone)])


@every_cell
@both_dtypes
@odd_sizes
def test_all_instruction_sets_give_the_same_bits(cell: str, dtype: str, hidden_size: int) -> None:
    x = numbers(dtype, 60, 9, 5)
    answers, before = [], _core.isa()
    for name in _core.available_isas():
        _core.set_isa(name)
        y, state = CELLS[cell](hidden_size=hidden_size, bidirectional=True, dtype=dtype)(x)
        answers.append([y, *parts(state)])
    _core.set_isa(before)
    for answer in answers[1:]:
        assert_bitwise(answers[0], answer)


@both_dtypes
@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (5, 7), (40, 33), (129, 70)])
def test_a_row_of_linear_gives_the_same_bits_in_any_batch(
    isa: str, dtype: str, features: int, outputs: int
) -> None:
    layer, x = onward.Linear(features, outputs, dtype=dtype, rng=0), numbers(dtype, 131, features)
    alone = np.stack([layer(row) for row in x])
    for size in (1, 2, 5, 17, 64, 131):
        assert_bitwise([layer(x[:size])], [alone[:size]])


@both_dtypes
@pytest.mark.parametrize("dim", [0, 1])
def test_a_slice_of_softmax_gives_the_same_bits_on_its_own(isa: str, dtype: str, dim: int) -> None:
    x = np.moveaxis(numbers(dtype, 131, 37), -1, dim)
    alone = np.stack([onward.Softmax()(row) for row in np.moveaxis(x, dim, -1)])
    assert_bitwise([np.moveaxis(onward.Softmax(dim)(x), dim, -1).copy()], [alone])


@both_dtypes
def test_linear_and_softmax_give_the_same_bits_on_all_instruction_sets(dtype: str) -> None:
    x, before, answers = numbers(dtype, 60, 40), _core.isa(), []
    for name in _core.available_isas():
        _core.set_isa(name)
        answers.append([onward.Softmax()(onward.Linear(40, 33, dtype=dtype, rng=0)(x))])
    _core.set_isa(before)
    for answer in answers[1:]:
        assert_bitwise(answers[0], answer)


@pytest.mark.parametrize("name", [*_core.available_isas(), "abacus"])
def test_the_environment_selects_the_instruction_set_and_an_unknown_one_is_an_error(name: str) -> None:
    code = "from onward import _core; print(_core.isa())"
    environment = os.environ | {"ONWARD_ISA": name}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if name == "abacus":
        assert "ImportError: unknown instruction set 'abacus' (from ONWARD_ISA)" in process.stderr
        assert ", ".join(_core.available_isas()) in process.stderr
    else:
        assert process.stdout.strip() == name

"""Cells against the layers that have them."""

import pickle
from typing import Any

import numpy as np
import pytest
from support import cases
from support.cases import CASES, OPTION_CASES, Case

import onward
from onward.core.cell import Cell
from onward.errors import ArgumentError
from onward.layers.rnn import of_cell

each_case = pytest.mark.parametrize("case", CASES[::7] + OPTION_CASES, ids=lambda case: case.id)


def states_of(cell: Cell, inputs: Any) -> tuple[Any, ...]:
    return (inputs.h0, inputs.c0)[: len(cell.state_names)]


def run(cell: Cell, inputs: Any) -> tuple[Any, ...]:
    return cell(inputs.x, *states_of(cell, inputs), lengths=inputs.lengths)


@each_case
def test_a_cell_has_the_bits_of_its_layer_whose_time_axis_may_be_the_second(case: Case) -> None:
    layer, inputs = cases.layer_of(case), cases.inputs_of(case)
    state = None if inputs.h0 is None else layer.join_state(inputs.h0, inputs.c0)
    y, final = layer(inputs.x, state, lengths=inputs.lengths)
    checked = layer.inputs(inputs.x, state, inputs.lengths)
    found = run(layer.cell, checked)
    expected = layer.outputs(checked, found[0], found[1], found[2] if len(found) > 2 else None)
    np.testing.assert_array_equal(y, expected[0])
    for one, other in zip(layer.split_state(final), layer.split_state(expected[1]), strict=True):
        assert one is None or (one == other).all()


@each_case
def test_a_description_and_a_pickle_keep_all_options(case: Case) -> None:
    layer = cases.layer_of(case)
    checked = layer.inputs(cases.inputs_of(case).x, None, None)
    expected = run(layer.cell, checked)
    description = layer.cell.description()
    kind = getattr(onward, description.pop("type"))
    rebuilt = kind(**description)
    rebuilt.load_state_dict(layer.state_dict())
    assert repr(rebuilt.cell) == repr(layer.cell)
    copied = pickle.loads(pickle.dumps(layer.cell))
    for other in (rebuilt.cell, copied, of_cell(layer.cell, batch_first=False).cell):
        for one, part in zip(expected, run(other, checked), strict=True):
            np.testing.assert_array_equal(one, part)


def test_a_layer_with_new_weights_has_a_new_cell_and_the_old_one_keeps_its_weights() -> None:
    layer, x = onward.LSTM(3, 5, rng=0), np.ones((4, 2, 3), np.float32)
    before, y = layer.cell, layer.cell(x)[0]
    layer.load_state_dict(onward.LSTM(3, 5, rng=1).state_dict())
    np.testing.assert_array_equal(before(x)[0], y)
    np.testing.assert_array_equal(layer.cell(x)[0], layer(x)[0])
    assert (layer.cell(x)[0] != y).any()


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_quantized_cell_has_the_bits_of_the_quantized_layer(precision: str) -> None:
    layer, x = onward.GRU(3, 5, 2, bidirectional=True, rng=0), np.ones((4, 2, 3), np.float32)
    small = layer.cell.compressed(precision)
    np.testing.assert_array_equal(small(x)[0], layer.quantize(precision)(x)[0])
    assert repr(small) == f"GRU(3, 5, num_layers=2, bidirectional=True).quantize({precision!r})"
    np.testing.assert_array_equal(
        of_cell(small, batch_first=True)(x.swapaxes(0, 1))[0].swapaxes(0, 1), small(x)[0]
    )
    with pytest.raises(ArgumentError, match="already quantized"):
        small.compressed(precision)


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = onward.LSTM(3, 5, rng=0).state_dict()
    filled = Cell("LSTM", 3, 5).filled(weights)
    assert filled.weights.keys() == weights.keys()
    for damaged, problem in (
        ({**weights, "bias_hh_l0": np.zeros(7, np.float32)}, "bias_hh_l0 has shape"),
        (
            {name: array for name, array in weights.items() if name != "weight_hh_l0"},
            "weight_hh_l0 is missing",
        ),
        ({**weights, "weight_hr_l0": np.zeros((2, 5), np.float32)}, "weight_hr_l0 is not expected"),
    ):
        with pytest.raises(ArgumentError, match=problem):
            Cell("LSTM", 3, 5).filled(damaged)

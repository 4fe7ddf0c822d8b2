"""Programs of recurrent layers beside calls of the layers, in both precisions."""

from typing import Any

import numpy as np
import pytest
from support.cases import CASES, OPTION_CASES, Case, inputs_of, layer_of

import onward
from onward.layers.graphs import planner_of


def arrays_of(state: Any) -> list[Any]:
    return [] if state is None else list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("case", [*CASES, *OPTION_CASES], ids=lambda case: case.id)
def test_a_program_of_layers_has_the_bits_of_their_call(case: Case) -> None:
    """With a state or from zeros, whatever the cell, its options, the lengths and the precision."""
    inputs, layer = inputs_of(case), layer_of(case)
    layer.load_state_dict(inputs.weights)
    linear = onward.Linear(layer.cell.sizes.DP, 3, case.bias, dtype=case.dtype, rng=case.T)
    x = np.ascontiguousarray(inputs.x.swapaxes(0, 1)) if case.batch_first else inputs.x
    given = tuple(a for a in (inputs.h0, inputs.c0) if a is not None)
    y, state = layer(x, given if len(given) > 1 else given[0] if given else None, lengths=inputs.lengths)
    lengths = () if inputs.lengths is None else (inputs.lengths.astype(np.int32),)
    model, arguments = onward.Sequential(layer, linear), (x, *lengths, *given)
    planner = planner_of(model, bool(given), bool(lengths))
    results = planner(*arguments)
    for mine, expected in zip(results, [linear(y), *arrays_of(state)][: len(results)], strict=True):
        np.testing.assert_array_equal(mine, expected, strict=True)
    assert planner.ready(arguments, {}) is not None, "it runs in NumPy"

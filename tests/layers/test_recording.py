"""Recorded steps: the bits of a plain call, and gates that satisfy their equations."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import cases
from support.cases import CASES, TOLERANCE, Case
from support.in_one_test import in_one_test

import onward
from onward import _core

Array = NDArray[Any]


def recorded(case: Case) -> tuple[list[Any], dict[str, Array], cases.Inputs]:
    """Inputs, outputs (y, h_n, c_n) and record of a recording call, in the layout of the core."""
    inputs, layer = cases.inputs_of(case), cases.layer_of(case)
    layer.load_state_dict(inputs.weights)
    T, B, H, LD = case.T, case.B, case.H, case.layers * (1 + case.bidirectional)
    lstm = case.cell == "lstm"
    slots = layer.step_kernel.recorded
    y = np.empty((T, B, (1 + case.bidirectional) * case.P), case.dtype)
    h, c = np.empty((LD, B, case.P), case.dtype), np.empty((LD, B, H), case.dtype) if lstm else None
    record = {
        "gates": np.zeros((LD, T, B, slots, H), case.dtype),
        "sums": np.zeros((LD, T, B, len(layer.gates), H), case.dtype),
    }
    layer.step_kernel.record(inputs.x, inputs.h0, inputs.c0, inputs.lengths, y, h, c, **record)
    return [y, h, c], record, inputs


def act(function: str, x: Array) -> Array:
    y = np.empty(x.size, x.dtype)
    _core.activate((function, 0.0, 0.0), np.ascontiguousarray(x).reshape(-1), y)
    return y.reshape(x.shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_recording_preserves_the_bits_of_the_output(case: Case) -> None:
    answer, _, inputs = recorded(case)
    for mine, plain in zip(answer, cases.run(case, inputs), strict=True):
        np.testing.assert_array_equal(mine, plain)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@in_one_test("threads", [1, 2])
def test_recorded_gates_match_their_sums_and_the_state(case: Case, threads: int) -> None:
    onward.set_num_threads(threads)
    (y, _, c_n), record, inputs = recorded(case)
    onward.set_num_threads(1)
    gates, sums, tolerance = record["gates"][0], record["sums"][0], TOLERANCE[case.dtype]
    lengths = np.full(case.B, case.T) if inputs.lengths is None else inputs.lengths
    valid = np.arange(case.T)[:, None] < lengths
    if case.cell == "rnn_relu":
        np.testing.assert_array_equal(gates, np.maximum(sums, 0))
    for slot in range(sums.shape[2]) if case.cell != "rnn_relu" else ():
        is_tanh = case.cell == "rnn_tanh" or slot == 2
        right = act("tanh" if is_tanh else "sigmoid", sums[:, :, slot])
        np.testing.assert_array_equal(gates[valid][:, slot], right[valid])
    if c_n is not None:  # the first layer, forward
        c = gates[:, :, 4]
        c0 = np.zeros_like(c_n[0]) if inputs.c0 is None else inputs.c0[0]
        i, f, g = (gates[:, :, slot] for slot in range(3))
        right = f * np.concatenate([c0[None], c[:-1]]) + i * g
        np.testing.assert_allclose(c[valid], right[valid], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(c[lengths - 1, np.arange(case.B)], c_n[0])
    assert not record["gates"][:, ~valid].any() and not record["sums"][:, ~valid].any()
    if case.layers == 1:
        h, h0 = y[:, :, : case.P], np.zeros((case.B, case.P)) if inputs.h0 is None else inputs.h0[0]
        before = np.concatenate([h0[None], h[:-1]])
        right = state_of(case, gates, before, inputs.weights)
        np.testing.assert_allclose(h[valid], right[valid], rtol=0, atol=tolerance)


def state_of(case: Case, gates: Array, before: Array, weights: dict[str, Array]) -> Array:
    """h of each step, computed from the record and the previous h."""
    if case.cell == "lstm":
        h = gates[:, :, 3] * np.tanh(gates[:, :, 4])
        return h @ weights["weight_hr_l0"].T if case.projected else h
    if case.cell.startswith("rnn"):
        return gates[:, :, 0]
    z, n = gates[:, :, 1], gates[:, :, 2]
    if case.cell == "gru":  # the fourth recorded value is R_n h + b_n
        right = before @ weights["weight_hh_l0"][2 * case.H :].T + (
            weights["bias_hh_l0"][2 * case.H :] if case.bias else 0
        )
        np.testing.assert_allclose(gates[0, :, 3], right[0], rtol=0, atol=TOLERANCE[case.dtype])
    return (1 - z) * n + z * before

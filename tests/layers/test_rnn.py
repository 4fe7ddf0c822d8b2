"""The recurrent layers against other frameworks and a naive loop, and their guarantees."""

import copy
import pickle
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import support
from support import cases, oracle
from support.cases import CASES, OPTION_CASES, TOLERANCE, Case
from support.in_one_test import in_one_test
from support.layouts import LAYOUTS

import onward
from onward.errors import ArgumentError

CELLS = ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"]
GOLDEN = np.load(support.DATA / "golden_layers.npz")

by_id = {"ids": lambda case: case.id}


def odd(cell: str, **changes: Any) -> Case:
    """A case with odd sizes and two layers."""
    sizes = {"layers": 3, "bidirectional": True, "bias": True, "batch_first": False, "unbatched": False}
    sizes |= {"projected": False, "state": True, "lengths": True, "dtype": "float32"}
    return Case(cell=cell, **(sizes | {"H": 7, "I": 5, "B": 4, "T": 6} | changes))


def assert_same(one: Any, other: Any) -> None:
    """Bitwise equality of two answers of `cases.run`; NaN equals NaN."""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", CASES + OPTION_CASES, **by_id)
def test_outputs_match_the_naive_loop(case: Case) -> None:
    inputs = cases.inputs_of(case)
    for mine, right in zip(cases.run(case, inputs), oracle.run(case, inputs), strict=True):
        assert (mine is None) == (right is None)
        if mine is not None:
            assert mine.dtype == case.dtype
            np.testing.assert_allclose(mine, right, rtol=0, atol=TOLERANCE[case.dtype])


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.cell != "gru_reset_before" or case.dtype == "float32"], **by_id
)
def test_outputs_match_torch_keras_and_onnxruntime(case: Case) -> None:
    for name, mine in zip("yhc", cases.run(case, cases.inputs_of(case)), strict=True):
        if mine is not None:
            golden = GOLDEN[f"{case.id}/{name}"]
            np.testing.assert_allclose(cases.sample(mine), golden, rtol=0, atol=TOLERANCE[case.dtype])


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_of_length_0_keeps_its_state(cell: str, projected: bool) -> None:
    case = odd(cell, layers=2, projected=projected and cell == "lstm")
    inputs = cases.inputs_of(case)._replace(lengths=np.array([3, 0, 6, 1]))
    y, h, c = cases.run(case, inputs)
    assert inputs.h0 is not None
    np.testing.assert_array_equal(y[:, 1], 0)
    np.testing.assert_array_equal(h[:, 1], inputs.h0[:, 1])
    if c is not None and inputs.c0 is not None:
        np.testing.assert_array_equal(c[:, 1], inputs.c0[:, 1])
    np.testing.assert_allclose(y, oracle.run(case, inputs)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_no_influence(cell: str) -> None:
    case = odd(cell)
    inputs = cases.inputs_of(case)._replace(lengths=np.array([3, 6, 1, 2]))
    x = inputs.x.copy()
    x[np.arange(6)[:, None] >= inputs.lengths] = np.nan
    assert_same(cases.run(case, inputs), cases.run(case, inputs._replace(x=x)))


@pytest.mark.parametrize("cell", CELLS)
def test_the_order_of_rows_does_not_matter(cell: str) -> None:
    case, order = odd(cell), [2, 0, 3, 1]
    inputs = cases.inputs_of(case)
    turned = [a if a is None else a[:, order] for a in (inputs.x, inputs.h0, inputs.c0)]
    assert inputs.lengths is not None
    answer = cases.run(case, inputs)
    assert_same(
        cases.run(case, cases.Inputs(inputs.weights, *turned, inputs.lengths[order])),
        [a if a is None else a[:, order] for a in answer],
    )


@pytest.mark.parametrize("cell", CELLS)
def test_the_default_state_is_zeros(cell: str) -> None:
    case = odd(cell, state=False)
    inputs = cases.inputs_of(case)
    zeros = np.zeros((6, 4, 7), np.float32)
    with_zeros = inputs._replace(h0=zeros, c0=zeros if cell == "lstm" else None)
    assert_same(cases.run(case, inputs), cases.run(case, with_zeros))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_inputs_have_a_defined_result(cell: str, batch_first: bool) -> None:
    for sizes in ({"T": 0}, {"B": 0}, {"T": 0, "B": 0}):
        case = odd(cell, lengths=False, batch_first=batch_first)
        inputs = cases.inputs_of(case)
        case = replace(case, **sizes)
        states = [a if a is None else a[:, : case.B] for a in (inputs.h0, inputs.c0)]
        y, h, c = cases.run(case, cases.Inputs(inputs.weights, inputs.x[: case.T, : case.B], *states, None))
        assert y.shape == (case.T, case.B, 14)
        assert_same([h, c], states)


@pytest.mark.parametrize("unbatched", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_returned_arrays_belong_to_the_caller(cell: str, batch_first: bool, unbatched: bool) -> None:
    case = odd(cell, batch_first=batch_first, unbatched=unbatched, B=1 if unbatched else 4)
    inputs, layer = cases.inputs_of(case), cases.layer_of(case)
    layer.load_state_dict(inputs.weights)
    kept = copy.deepcopy(inputs)
    first = cases.run(case, inputs, layer)
    saved = copy.deepcopy(first)
    for array in first:
        if array is not None:
            array[:] = 7
    assert_same(cases.run(case, inputs, layer), saved)
    assert_same(inputs[1:], kept[1:])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
@in_one_test("layout", LAYOUTS)
def test_memory_layout_does_not_matter(cell: str, dtype: str, batch_first: bool, layout: str) -> None:
    case = odd(cell, dtype=dtype, batch_first=batch_first)
    inputs, layer = cases.inputs_of(case), cases.layer_of(case)
    layer.load_state_dict(inputs.weights)
    x = inputs.x.swapaxes(0, 1) if batch_first else inputs.x
    state = (inputs.h0, inputs.c0) if cell == "lstm" else inputs.h0
    odd_x = LAYOUTS[layout](x)
    odd_state = tuple(map(LAYOUTS[layout], state)) if isinstance(state, tuple) else LAYOUTS[layout](state)
    y, final = layer(x, state, lengths=inputs.lengths)
    odd_y, odd_final = layer(odd_x, odd_state, lengths=np.repeat(inputs.lengths, 2)[::2])
    assert_same([y, *final], [odd_y, *odd_final])


@pytest.mark.parametrize("features", [1, 5])
def test_a_broadcast_x_is_read_correctly(features: int) -> None:
    layer = onward.LSTM(features, 7, rng=0)
    x = np.broadcast_to(np.arange(features, dtype=np.float32), (6, 4, features))
    assert_same(layer(x)[1], layer(x.copy())[1])
    x = np.zeros((1, 1, 3 * features), np.float32)[:, :, ::3]
    assert_same(layer(x)[1], layer(x.copy())[1])


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f2", "f4", "f8", "g"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_numeric_dtype_is_converted_to_the_dtype_of_the_layer(dtype: str, kind: str) -> None:
    layer = onward.GRU(5, 7, dtype=dtype, rng=0)
    x = (np.random.default_rng(0).random((6, 4, 5)) * 3).astype(kind)
    y, h = layer(x)
    assert y.dtype == h.dtype == dtype
    np.testing.assert_array_equal(y, layer(x.astype(dtype))[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_reaches_dependent_outputs_only(cell: str, dtype: str) -> None:
    case = odd(cell, layers=1, bidirectional=False, lengths=False, dtype=dtype, B=17, H=33)
    inputs = cases.inputs_of(case)
    x = inputs.x.copy()
    x[2, 5, 3] = np.nan
    (y, h, _), (y_nan, h_nan, _) = cases.run(case, inputs), cases.run(case, inputs._replace(x=x))
    others = np.arange(17) != 5
    assert_same([y[:, others], h[:, others], y[:2, 5]], [y_nan[:, others], h_nan[:, others], y_nan[:2, 5]])
    assert np.isnan(y_nan[2:, 5]).all()
    assert np.isnan(h_nan[:, 5]).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("huge", [np.inf, 1e38])
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_infinities_saturate(cell: str, huge: float, sign: int) -> None:
    case = odd(cell, layers=1, bidirectional=False, lengths=False, I=1, T=1)
    inputs = cases.inputs_of(case)
    x = np.full_like(inputs.x, sign * huge)
    with np.errstate(all="ignore"):
        right = oracle.run(case, inputs._replace(x=x))
    for mine, expected in zip(cases.run(case, inputs._replace(x=x)), right, strict=True):
        if mine is not None:
            assert np.isfinite(mine).all()
            np.testing.assert_allclose(mine, expected, rtol=0, atol=2e-6)


def test_overflow_in_conversion_gives_infinity_without_a_warning() -> None:
    y, _ = onward.LSTM(1, 7, rng=0)(np.full((1, 1, 1), 1e300))
    np.testing.assert_array_equal(y, onward.LSTM(1, 7, rng=0)(np.full((1, 1, 1), np.inf))[0])


@pytest.mark.parametrize("cell", CELLS)
def test_copies_give_the_same_bits_and_omit_packed_weights(cell: str) -> None:
    case = odd(cell)
    inputs, layer = cases.inputs_of(case), cases.layer_of(case)
    layer.load_state_dict(inputs.weights)
    answer = cases.run(case, inputs, layer)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(other) == repr(layer)
        assert_same(cases.run(case, inputs, other), answer)
    assert len(pickle.dumps(layer)) < 2 * sum(w.nbytes for w in layer.state_dict().values()) + 4096


@pytest.mark.parametrize("cell", CELLS)
def test_threads_can_share_a_layer(cell: str) -> None:
    case = odd(cell, H=33, T=50, B=5)
    layer = cases.layer_of(case)
    x = np.random.default_rng(0).standard_normal((8, 50, 5, 5)).astype(np.float32)
    answers: dict[int, Any] = {}
    start = threading.Barrier(8)  # so that they also pack the weights at the same time

    def call(index: int) -> None:
        start.wait()
        for _ in range(10):
            answers[index] = layer(x[index])[0]

    threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        np.testing.assert_array_equal(answers[index], layer(x[index])[0])


def test_new_weights_take_effect_after_a_call() -> None:
    layer, other, x = onward.GRU(5, 7, rng=0), onward.GRU(5, 7, rng=1), np.ones((6, 4, 5), np.float32)
    assert not np.array_equal(layer(x)[0], other(x)[0])
    layer.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(layer(x)[0], other(x)[0])


@pytest.mark.parametrize("layer_type", [onward.RNN, onward.LSTM, onward.GRU])
def test_initial_weights_fill_the_range_of_torch(layer_type: Any) -> None:
    for weight in layer_type(40, 25, rng=np.random.default_rng(0)).state_dict().values():
        assert weight.dtype == np.float32
        assert 0.15 < weight.max() <= 0.2
        assert -0.2 <= weight.min() < -0.15


def test_a_seed_reproduces_the_weights_and_none_draws_new_ones() -> None:
    first, again = onward.LSTM(5, 7, rng=3).state_dict(), onward.LSTM(5, 7, rng=3).state_dict()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["weight_hh_l0"], onward.LSTM(5, 7).state_dict()["weight_hh_l0"])


def test_dropout_does_nothing_at_inference() -> None:
    x = np.ones((6, 4, 5), np.float32)
    y, _ = onward.LSTM(5, 7, 2, dropout=0.5, rng=0)(x)
    np.testing.assert_array_equal(y, onward.LSTM(5, 7, 2, rng=0)(x)[0])


def test_a_length_of_one_unbatched_sequence_is_an_integer() -> None:
    layer, x = onward.LSTM(5, 7, bidirectional=True, rng=0), np.ones((6, 5), np.float32)
    y, (h, _) = layer(x, lengths=4)
    assert_same([y[:4], h], [layer(x[:4])[0], layer(x[:4])[1][0]])
    with pytest.raises(ArgumentError, match="lengths is 7, expected 0 to 6"):
        layer(x, lengths=7)

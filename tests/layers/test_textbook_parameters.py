"""Test layers made from the textbook's parameters against the textbook, and the way back."""

import numpy as np
import pytest
from support.textbook_cases import KINDS, forward, random_inputs

import onward
from onward import errors

CLASSES = {"rnn": onward.RNN, "lstm": onward.LSTM, "gru": onward.GRU, "gru_reset_after": onward.GRU}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("T", "m", "n_h", "n_x"), [(0, 1, 7, 5), (1, 5, 1, 3), (50, 17, 33, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_layer_from_the_textbook_swaps_gates_or_the_state_and_the_input(
    kind, T, m, n_h, n_x, dtype, tolerance
):
    inputs, parameters = random_inputs(kind, T, m, n_x, n_h, dtype=dtype)
    parameters = {name: array / 3 for name, array in parameters.items()}  # larger ones are chaotic
    a, c, _, _ = forward(kind, inputs, parameters)
    layer = CLASSES[kind].from_textbook(parameters)
    h0 = inputs["a0"].T[None]
    y, state = layer(inputs["x"].swapaxes(1, 2), (h0, inputs["c0"].T[None]) if kind == "lstm" else h0)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.swapaxes(1, 2), a, rtol=0, atol=tolerance)
    if kind == "lstm" and T:
        np.testing.assert_allclose(state[1][0].T, c[-1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_change_on_their_way_through_a_layer(kind):
    _, parameters = random_inputs(kind, 1, 1)
    found = CLASSES[kind].from_textbook(parameters).to_textbook()
    assert set(found) == set(parameters) - {"Wy", "Wya", "by"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, parameters[name], err_msg=name)


@pytest.mark.parametrize(
    "layer",
    [
        onward.RNN(5, 7, dtype="float64", rng=1),
        onward.LSTM(5, 7, dtype="float64", rng=2),
        onward.LSTM(5, 7, bias=False, dtype="float64", rng=3),
        onward.GRU(5, 7, dtype="float64", rng=4),
        onward.GRU(5, 7, reset_after=False, dtype="float64", rng=5),
    ],
    ids=repr,
)
def test_textbook_forgets_one_of_the_two_biases(layer):
    kind = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}[type(layer).__name__]
    kind += "_reset_after" if getattr(layer, "reset_after", False) else ""
    inputs, others = random_inputs(kind, 6, 3)
    output = {name: others[name] for name in others if name in ("Wy", "Wya", "by")}
    a, _, _, _ = forward(kind, inputs, layer.to_textbook() | output)
    h0 = inputs["a0"].T[None]
    y, _ = layer(inputs["x"].swapaxes(1, 2), (h0, inputs["c0"].T[None]) if kind == "lstm" else h0)
    np.testing.assert_allclose(y.swapaxes(1, 2), a, rtol=0, atol=1e-12)


def test_parameters_are_not_copies():
    layer = onward.LSTM(3, 4)
    before = layer.weight_ih_l0.copy()
    for array in layer.to_textbook().values():
        array[:] = 0
    np.testing.assert_array_equal(layer.weight_ih_l0, before)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (onward.LSTM(3, 4, num_layers=2), "num_layers=2"),
        (onward.GRU(3, 4, bidirectional=True), "bidirectional=True"),
        (onward.LSTM(3, 4, proj_size=2), "proj_size=2"),
        (onward.LSTM(3, 4).quantize("int8"), "int8 weights"),
        (onward.LSTM(3, 4, peephole=True), "peepholes"),
        (onward.RNN(3, 4, nonlinearity="relu"), "relu"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layer_that_the_textbook_cannot_compute_is_converted_anyway(layer, reason):
    with pytest.raises(errors.ArgumentError, match=f"has .*{reason}.*, but the textbook describes"):
        layer.to_textbook()


def test_wrong_parameters_are_errors_that_name_them():
    _, parameters = random_inputs("lstm", 1, 1)
    with pytest.raises(errors.ArgumentError, match="bo is missing: add it to the parameters"):
        onward.LSTM.from_textbook({name: parameters[name] for name in parameters if name != "bo"})
    with pytest.raises(
        errors.ArgumentError, match=r"unknown names .*'Wc', 'Wf'.* GRU.from_textbook takes Wr"
    ):
        onward.GRU.from_textbook(parameters)
    for name, wrong in [("Wi", (12, 7)), ("Wo", (12, 7)), ("bf", (7,)), ("bc", (1, 7)), ("Wi", (7,))]:
        with pytest.raises(errors.ShapeError, match=rf"^{name} has shape .*, expected \(n_h, "):
            onward.LSTM.from_textbook(parameters | {name: np.zeros(wrong)})
    with pytest.raises(errors.ArgumentError, match="parameters has type list"):
        onward.LSTM.from_textbook([1, 2])

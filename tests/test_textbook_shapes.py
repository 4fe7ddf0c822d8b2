"""Test the shapes and dtypes of the textbook, its caches, and its errors for wrong shapes."""

import numpy as np
import pytest
from support.textbook_cases import (
    BACKWARD,
    KINDS,
    cell_forward,
    forward,
    one_hot,
    random_inputs,
)

from onward.textbook import (
    cross_entropy_loss,
    cross_entropy_loss_t,
    gru_cell_backward,
    lstm_cell_backward,
    rnn_cell_backward,
    rnn_forward,
    sigmoid,
    sigmoid_deriv,
    softmax,
    softmax_deriv,
    softmax_deriv_vectorized,
    tanh,
    tanh_deriv,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("labels_dtype", [np.float64, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_keep_their_dtype(kind, dtype, labels_dtype):
    inputs, parameters = random_inputs(kind, T=3, m=4, dtype=dtype)
    a, c, y_pred, caches = forward(kind, inputs, parameters)
    gradients = BACKWARD[kind](np.ones_like(a), caches, one_hot(3, 3, 4).astype(labels_dtype))
    outputs = [
        a,
        y_pred,
        *([] if c is None else [c]),
        *gradients.values(),
        *cell_outputs(kind, inputs, parameters),
    ]
    assert {output.dtype for output in outputs} == {np.dtype(dtype)}


def cell_outputs(kind, inputs, parameters):
    a_next, c_next, yt_pred, _ = cell_forward(kind, inputs, parameters)
    return [a_next, yt_pred] if c_next is None else [a_next, c_next, yt_pred]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_and_loss_keep_their_dtype(dtype):
    x = np.random.default_rng(6).standard_normal((3, 4)).astype(dtype)
    s = softmax(x)
    outputs = [sigmoid(x), sigmoid_deriv(x), tanh(x), tanh_deriv(x), s, softmax_deriv(s)]
    outputs += [softmax_deriv_vectorized(s), cross_entropy_loss_t(s, s)]
    assert {output.dtype for output in outputs} == {np.dtype(dtype)}


@pytest.mark.parametrize("kind", KINDS)
def test_integers_are_converted_to_floats(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    whole = {name: np.round(2 * array) for name, array in (inputs | parameters).items()}
    ints = {name: array.astype(int) for name, array in whole.items()}
    outputs = []
    for arrays in (whole, ints):
        a, _, y_pred, caches = forward(kind, arrays, {name: arrays[name] for name in parameters})
        gradients = BACKWARD[kind](np.ones((3, 7, 4), int), caches, one_hot(3, 3, 4))
        outputs.append({"a": a, "y_pred": y_pred} | gradients)
    for name, expected in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], expected, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("T", "m"), [(0, 4), (3, 0), (0, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_sequence_or_batch_has_empty_outputs_and_no_loss(kind, T, m):
    inputs, parameters = random_inputs(kind, T, m)
    a, c, y_pred, caches = forward(kind, inputs, parameters)
    assert a.shape == (T, 7, m) and y_pred.shape == (T, 3, m) and (c is None or c.shape == (T, 7, m))
    assert len(caches) == T
    assert cross_entropy_loss(np.zeros((T, 3, m)), y_pred) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch_has_zero_gradients(kind):
    inputs, parameters = random_inputs(kind, T=3, m=0)
    a, _, _, caches = forward(kind, inputs, parameters)
    gradients = BACKWARD[kind](np.zeros_like(a), caches, np.zeros((3, 3, 0)))
    assert set(gradients) == {"d" + name for name in inputs | parameters}
    for name, array in (inputs | parameters).items():
        np.testing.assert_array_equal(gradients["d" + name], np.zeros(array.shape), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_over_no_steps_is_an_error_that_says_so(kind):
    a, _, _, caches = forward(kind, *random_inputs(kind, T=0, m=4))
    with pytest.raises(ValueError, match=r"caches is empty, expected one cache per time step.* skip"):
        BACKWARD[kind](a, caches)


@pytest.mark.parametrize("kind", KINDS)
def test_caches_are_a_list_of_readable_dicts_as_in_the_notebook(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    a, c, y_pred, caches = forward(kind, inputs, parameters)
    assert type(caches) is list and all(type(cache) is dict for cache in caches)
    outputs = {"a": a} if c is None else {"a": a, "c": c}
    for t, cache in enumerate(caches):
        assert cache["param"] is parameters
        np.testing.assert_array_equal(cache["xt"], inputs["x"][t])
        np.testing.assert_array_equal(cache["yt_pred"], y_pred[t])
        for name, array in outputs.items():
            np.testing.assert_array_equal(cache[f"{name}_next"], array[t])
            np.testing.assert_array_equal(cache[f"{name}_prev"], array[t - 1] if t else inputs[f"{name}0"])


def test_caches_name_the_gates():
    *_, lstm = cell_forward("lstm", *random_inputs("lstm", T=1, m=4))
    new_cell = lstm["forget_gate"] * lstm["c_prev"] + lstm["input_gate"] * lstm["candidate"]
    np.testing.assert_allclose(lstm["c_next"], new_cell, rtol=1e-14)
    np.testing.assert_allclose(lstm["a_next"], lstm["output_gate"] * np.tanh(new_cell), rtol=1e-14)
    for kind in ("gru", "gru_reset_after"):
        *_, gru = cell_forward(kind, *random_inputs(kind, T=1, m=4))
        z, n, r = gru["update_gate"], gru["candidate"], gru["reset_gate"]
        np.testing.assert_allclose(gru["a_next"], (1 - z) * n + z * gru["a_prev"], rtol=1e-14)
        Wr, br = gru["param"]["Wr"], gru["param"]["br"]
        np.testing.assert_array_equal(r, sigmoid(Wr @ np.concatenate([gru["a_prev"], gru["xt"]]) + br))
        assert gru["reset_after"] is (kind == "gru_reset_after")


def broken(kind, name, array):
    """Run `kind`'s sequence and cell with one array replaced or removed; return the error messages."""
    inputs, parameters = random_inputs(kind, T=3, m=4)
    target = inputs if name in inputs else parameters
    if array is None:
        del target[name]
    else:
        target[name] = array
    messages = []
    for run in (forward, cell_forward):
        with pytest.raises(ValueError) as error:
            run(kind, inputs, parameters)
        messages.append(str(error.value))
    return messages


@pytest.mark.parametrize(
    ("kind", "name", "shape", "expected"),
    [
        ("rnn", "a0", (7, 1), "(n_h, m) where"),  # NumPy would broadcast it over the batch
        ("rnn", "a0", (7,), "(n_h, m) where"),
        ("rnn", "Waa", (7, 6), "(n_h, n_h) where n_h=7"),
        ("rnn", "Wax", (5, 7), "(n_h, n_x) where n_h=7, n_x="),
        ("rnn", "ba", (7,), "(n_h, 1) where n_h=7"),
        ("rnn", "by", (1, 3), "(n_y, 1) where n_y=3"),
        ("lstm", "c0", (7, 1), "(n_h, m) where"),
        ("lstm", "Wf", (12, 7), "(n_h, n_h+n_x) where n_h=7, n_x=5"),
        ("lstm", "Wo", (7, 7), "(n_h, n_h+n_x) where n_h=7, n_x=5"),
        ("lstm", "bf", (7, 4), "(n_h, 1) where"),
        ("gru", "Wz", (12, 7), "(n_h, n_h+n_x) where"),
        ("gru_reset_after", "bnr", (3, 1), "(n_h, 1) where"),
    ],
)
def test_wrong_shape_is_an_error_that_states_the_expected_one(kind, name, shape, expected):
    for message in broken(kind, name, np.zeros(shape)):
        assert f"has shape {shape}, expected {expected}" in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (5, 4, 3), (4, 3, 5), (3, 5), (3, 6, 4)])
def test_transposed_x_is_not_blamed_on_another_argument(kind, shape):
    sequence, cell = broken(kind, "x", np.zeros(shape))
    assert sequence.startswith(f"x has shape {shape}, expected (T, n_x, m) where ")
    assert cell.startswith(f"xt has shape {shape[1:]}, expected (n_x, m) where ")


@pytest.mark.parametrize("kind", KINDS)
def test_each_single_wrong_array_is_the_one_that_the_error_names(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    for name, array in (inputs | parameters).items():
        wrong = np.zeros((*array.shape[:-2], *array.shape[:-3:-1]))  # the last two axes swapped
        if wrong.shape != array.shape:
            message, _ = broken(kind, name, wrong)
            assert message.startswith(f"{name} has shape {wrong.shape}, expected ")


def test_shape_error_names_the_array_the_shapes_and_the_fix():
    inputs, parameters = random_inputs("rnn", T=3, m=4)
    parameters["Waa"] = np.zeros((7, 6))
    with pytest.raises(ValueError) as error:
        rnn_forward(inputs["x"], inputs["a0"], parameters)
    start = "Waa has shape (7, 6), expected (n_h, n_h) where n_h=7: reshape or transpose Waa"
    assert str(error.value).startswith(start)


@pytest.mark.parametrize(
    ("kind", "name"), [("rnn", "Waa"), ("lstm", "bo"), ("gru", "Wy"), ("gru_reset_after", "bnr")]
)
def test_missing_parameter_is_named(kind, name):
    for message in broken(kind, name, None):
        assert f"{name} is missing: add it to the parameters, with shape (n_" in message


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes_of_gradients_and_labels_are_errors(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    a, _, _, caches = forward(kind, inputs, parameters)
    da = np.zeros_like(a)
    for wrong in (da[:2], da[:, :6], da[..., :1], da[0]):  # NumPy would broadcast the last two
        with pytest.raises(
            ValueError, match=r"^da has shape .* expected \(T, n_h, m\) where T=3, n_h=7, m=4"
        ):
            BACKWARD[kind](wrong, caches)
    classes = np.zeros((3, 4), int)
    for wrong in (classes, one_hot(2, 3, 4), one_hot(3, 3, 1), one_hot(3, 2, 4)):
        with pytest.raises(ValueError, match=r"^y has shape .* expected \(T, n_y, m\) where T=3.* one-hot"):
            BACKWARD[kind](da, caches, wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shape_of_a_cell_gradient_is_an_error(kind):
    cache = cell_forward(kind, *random_inputs(kind, T=1, m=4))[-1]
    right, wrong = np.zeros((7, 4)), np.zeros((7, 1))  # NumPy would broadcast it
    if kind == "lstm":
        calls = [(lstm_cell_backward, wrong, right), (lstm_cell_backward, right, wrong)]
    else:
        calls = [(rnn_cell_backward if kind == "rnn" else gru_cell_backward, wrong)]
    for backward, *gradients in calls:
        with pytest.raises(ValueError, match=r"^d[ac]_next has shape \(7, 1\), expected \(n_h, m\)"):
            backward(*gradients, cache)


def test_wrong_shapes_of_losses_and_jacobians_are_errors():
    with pytest.raises(ValueError, match=r"^y_t has shape \(3, 1\), expected \(n_y, m\) where n_y=3, m=4"):
        cross_entropy_loss_t(np.zeros((3, 1)), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"^y has shape \(1, 3, 4\), expected \(T, n_y, m\) where T=2"):
        cross_entropy_loss(np.zeros((1, 3, 4)), np.ones((2, 3, 4)))
    for jacobian in (softmax_deriv, softmax_deriv_vectorized):
        with pytest.raises(ValueError, match=r"^s has shape \(3,\), expected \(n, m\)"):
            jacobian(np.ones(3))

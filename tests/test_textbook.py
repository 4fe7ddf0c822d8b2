"""Test the textbook against an independent notebook, other libraries and central differences."""

import ast
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import support

from onward import textbook
from onward.textbook import (
    cross_entropy_loss,
    cross_entropy_loss_t,
    gru_backward,
    gru_cell_backward,
    gru_cell_forward,
    gru_forward,
    lstm_backward,
    lstm_cell_backward,
    lstm_cell_forward,
    lstm_forward,
    rnn_backward,
    rnn_cell_backward,
    rnn_cell_forward,
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

NOTEBOOK = support.DATA / "notebook.npz"

# ------------------------------------------------------------------------------------------------------------
# One signature for the four networks, with random weights
# ------------------------------------------------------------------------------------------------------------

GATES = {"lstm": ("f", "i", "o", "c"), "gru": ("r", "z", "n"), "gru_reset_after": ("r", "z", "n")}
KINDS = ("rnn", "lstm", "gru", "gru_reset_after")
BACKWARD = {
    "rnn": rnn_backward,
    "lstm": lstm_backward,
    "gru": gru_backward,
    "gru_reset_after": gru_backward,
}


def parameter_shapes(kind, n_x, n_h, n_y):
    if kind == "rnn":
        return {"Wax": (n_h, n_x), "Waa": (n_h, n_h), "ba": (n_h, 1), "Wya": (n_y, n_h), "by": (n_y, 1)}
    shapes = {"Wy": (n_y, n_h), "by": (n_y, 1)}
    for gate in GATES[kind]:
        shapes |= {"W" + gate: (n_h, n_h + n_x), "b" + gate: (n_h, 1)}
    return shapes | ({"bnr": (n_h, 1)} if kind == "gru_reset_after" else {})


def random_inputs(kind, T, m, n_x=5, n_h=7, n_y=3, dtype=np.float64):
    """Return the inputs of a sequence and its parameters as two dicts."""
    rng = np.random.default_rng([KINDS.index(kind), T, m])
    inputs = {"x": (T, n_x, m), "a0": (n_h, m)} | ({"c0": (n_h, m)} if kind == "lstm" else {})
    inputs = {name: rng.standard_normal(shape).astype(dtype) for name, shape in inputs.items()}
    shapes = parameter_shapes(kind, n_x, n_h, n_y)
    parameters = {name: (0.6 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    return inputs, parameters


def one_hot(T, n_y, m, seed=0):
    labels = np.random.default_rng(seed).integers(n_y, size=(T, m))
    return np.eye(n_y)[labels].transpose(0, 2, 1).copy()


def forward(kind, inputs, parameters):
    """Return a, c (None except for the LSTM), y_pred and caches."""
    x, a0 = inputs["x"], inputs["a0"]
    if kind == "lstm":
        return lstm_forward(x, a0, inputs["c0"], parameters)
    if kind == "rnn":
        a, y_pred, caches = rnn_forward(x, a0, parameters)
    else:
        a, y_pred, caches = gru_forward(x, a0, parameters, reset_after=kind == "gru_reset_after")
    return a, None, y_pred, caches


def cell_forward(kind, inputs, parameters):
    """Run the first step; return a_next, c_next (None except for the LSTM), yt_pred and cache."""
    xt, a_prev = inputs["x"][0], inputs["a0"]
    if kind == "lstm":
        return lstm_cell_forward(xt, a_prev, inputs["c0"], parameters)
    if kind == "rnn":
        a_next, yt_pred, cache = rnn_cell_forward(xt, a_prev, parameters)
    else:
        reset_after = kind == "gru_reset_after"
        a_next, yt_pred, cache = gru_cell_forward(xt, a_prev, parameters, reset_after=reset_after)
    return a_next, None, yt_pred, cache


def central_difference(f, array, step=1e-5):
    """Differentiate f(), a scalar or a vector, with respect to each element of `array`, which f reads."""
    gradient = np.zeros((*np.shape(f()), *array.shape))
    for index in np.ndindex(array.shape):
        old = array[index]
        array[index] = old + step
        above = f()
        array[index] = old - step
        below = f()
        array[index] = old
        gradient[..., *index] = (above - below) / (2 * step)
    return gradient


def assert_same_gradient(ours, numerical, name):
    assert ours.shape == numerical.shape, name
    error = np.max(np.abs(ours - numerical)) / np.max(np.abs(numerical))
    assert error < 1e-6, f"{name}: relative error {error:.1e}"


# ------------------------------------------------------------------------------------------------------------
# Results of other implementations
# ------------------------------------------------------------------------------------------------------------


def test_matches_every_result_of_the_notebook():
    notebook = dict(np.load(NOTEBOOK))
    used = set()

    def read(key):
        used.add(key)
        return notebook[key]

    def read_parameters(prefix, kind):
        return {name: read(prefix + name) for name in parameter_shapes(kind, 0, 0, 0)}

    ours = {
        "sigmoid": sigmoid(read("sigmoid_x")),
        "sigmoid_deriv": sigmoid_deriv(sigmoid(read("sigmoid_x"))),
        "tanh": tanh(read("sigmoid_x")),
        "tanh_deriv": tanh_deriv(tanh(read("sigmoid_x"))),
        "softmax": softmax(read("softmax_x")),
        "softmax_deriv_naive": softmax_deriv(read("softmax_deriv_x")),
        "softmax_deriv_vectorized": softmax_deriv_vectorized(read("softmax_deriv_x")),
        "loss": cross_entropy_loss_t(read("loss_y"), read("loss_ypred")),
    }
    ours["rnn_cell_a_next"], ours["rnn_cell_yt_pred"], _ = rnn_cell_forward(
        read("rnn_cell_xt"), read("rnn_cell_a_prev"), read_parameters("rnn_cell_", "rnn")
    )
    ours["lstm_cell_a_next"], ours["lstm_cell_c_next"], ours["lstm_cell_yt_pred"], _ = lstm_cell_forward(
        read("lstm_cell_xt"),
        read("lstm_cell_a_prev"),
        read("lstm_cell_c_prev"),
        read_parameters("lstm_cell_", "lstm"),
    )
    zero_state = np.zeros((8, 10))
    ours["rnn_a"], ours["rnn_y"], _ = rnn_forward(read("rnn_x"), zero_state, read_parameters("rnn_", "rnn"))
    ours["lstm_a"], ours["lstm_c"], ours["lstm_y"], _ = lstm_forward(
        read("lstm_x"), zero_state, zero_state, read_parameters("lstm_", "lstm")
    )

    for key, value in ours.items():
        assert value.shape == notebook[key].shape, key
        np.testing.assert_allclose(value, notebook[key], rtol=0, atol=1e-12, err_msg=key)
    assert used | set(ours) == set(notebook)


def wave(phase, *shape):
    return np.sin(phase + 1.7 * np.arange(np.prod(shape))).reshape(shape)


def wave_gru():
    parameters = {"bnr": wave(6, 3, 1), "Wy": wave(9, 2, 3), "by": wave(10, 2, 1)}
    for k, gate in enumerate("rzn"):
        parameters |= {"W" + gate: wave(k, 3, 5), "b" + gate: wave(k + 3, 3, 1)}
    return wave(7, 3, 2, 2), wave(8, 3, 2), parameters


def test_gru_matches_onnxruntime_without_linear_before_reset():
    a, _, _ = gru_forward(*wave_gru())
    expected = [  # onnxruntime 1.32, float32, linear_before_reset=0
        [[-0.56035453, -0.48249239], [-0.59966362, 0.54577661], [-0.11853012, -0.37132224]],
        [[-0.62141895, -0.65374553], [-0.30961436, 0.44006258], [-0.34263298, -0.13753064]],
        [[-0.55710036, -0.77767277], [-0.01069291, 0.22524226], [-0.41400215, 0.01704633]],
    ]
    np.testing.assert_allclose(a, expected, rtol=0, atol=1e-6)


def test_gru_with_reset_after_matches_pytorch():
    a, _, _ = gru_forward(*wave_gru(), reset_after=True)
    expected = [  # torch 2.13, float64; br and bz hold the sums of torch's two biases, bn and bnr one each
        [
            [-0.517226228988032, -0.552043171580903],
            [-0.598925149153983, 0.670905165705806],
            [-0.127010030261541, -0.342285674239531],
        ],
        [
            [-0.702046353679047, -0.762236652841477],
            [-0.297003347667801, 0.537179506926953],
            [-0.412468521386197, -0.121218326261925],
        ],
        [
            [-0.696066780975007, -0.873540879563080],
            [0.028902431656379, 0.089392864079651],
            [-0.491512613516062, 0.015863604805997],
        ],
    ]
    np.testing.assert_allclose(a, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reset_after", [False, True])
def test_update_gate_of_one_keeps_the_old_state(reset_after):
    x, a0, parameters = wave_gru()
    parameters["bz"] = np.full((3, 1), 1000.0)
    a, _, _ = gru_forward(x, a0, parameters, reset_after=reset_after)
    np.testing.assert_array_equal(a, [a0, a0, a0])


# ------------------------------------------------------------------------------------------------------------
# Gradients against central differences
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "m"), [(1, 1), (1, 4), (7, 1), (7, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_sequence_gradients_match_central_differences(kind, T, m):
    inputs, parameters = random_inputs(kind, T, m)
    rng = np.random.default_rng(1)
    da = rng.standard_normal((T, 7, m))
    labels = [one_hot(T, 3, m), rng.random((T, 3, m))]

    def losses():
        a, _, y_pred, _ = forward(kind, inputs, parameters)
        return np.array([np.sum(da * a), *(cross_entropy_loss(y, y_pred) for y in labels)])

    caches = forward(kind, inputs, parameters)[-1]
    from_above = BACKWARD[kind](da, caches)
    with_labels = [BACKWARD[kind](da, caches, y) for y in labels]

    everything = inputs | parameters
    head = {"by", "Wya" if kind == "rnn" else "Wy"}
    assert set(from_above) == {"d" + name for name in everything if name not in head}
    for name, array in everything.items():
        above, *below = central_difference(losses, array)
        if name not in head:
            assert_same_gradient(from_above["d" + name], above, name)
        for gradients, numerical in zip(with_labels, below, strict=True):
            assert set(gradients) == {"d" + name for name in everything}
            assert_same_gradient(gradients["d" + name], above + numerical, name)


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_cell_gradients_match_central_differences(kind, m):
    inputs, parameters = random_inputs(kind, 1, m)
    rng = np.random.default_rng(2)
    da_next, dc_next = rng.standard_normal((2, 7, m))

    def loss():
        a_next, c_next, _, _ = cell_forward(kind, inputs, parameters)
        return np.sum(da_next * a_next) + (0 if c_next is None else np.sum(dc_next * c_next))

    cache = cell_forward(kind, inputs, parameters)[-1]
    if kind == "rnn":
        gradients = rnn_cell_backward(da_next, cache)
    elif kind == "lstm":
        gradients = lstm_cell_backward(da_next, dc_next, cache)
    else:
        gradients = gru_cell_backward(da_next, cache)

    expected = {"dxt": inputs["x"], "da_prev": inputs["a0"]}
    expected |= {"dc_prev": inputs["c0"]} if kind == "lstm" else {}
    expected |= {"d" + name: array for name, array in parameters.items() if name not in ("Wya", "Wy", "by")}
    assert set(gradients) == set(expected)
    for name, array in expected.items():
        numerical = central_difference(loss, array)
        assert_same_gradient(gradients[name], numerical[0] if name == "dxt" else numerical, name)


@pytest.mark.parametrize("kind", KINDS)
def test_sequence_equals_its_cells_in_turn(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    a, c, y_pred, _ = forward(kind, inputs, parameters)
    state = dict(inputs)
    for t in range(3):
        state["x"] = inputs["x"][t : t + 1]
        a_next, c_next, yt_pred, _ = cell_forward(kind, state, parameters)
        np.testing.assert_array_equal(a[t], a_next)
        np.testing.assert_array_equal(y_pred[t], yt_pred)
        state["a0"] = a_next
        if kind == "lstm":
            np.testing.assert_array_equal(c[t], c_next)
            state["c0"] = c_next


def test_both_softmax_jacobians_match_central_differences():
    x = 3 * np.random.default_rng(3).standard_normal((5, 4))
    s = softmax(x)
    loops, vectorized = softmax_deriv(s), softmax_deriv_vectorized(s)
    numerical = np.zeros((5, 5, 4))
    for i in range(5):
        numerical[i] = central_difference(lambda i=i: np.sum(softmax(x)[i]), x)  # columns are independent
    assert_same_gradient(loops, numerical, "loops")
    np.testing.assert_allclose(vectorized, loops, rtol=0, atol=1e-16)
    np.testing.assert_allclose(loops.sum(axis=0), 0, atol=1e-15)  # the probabilities always sum to 1


@pytest.mark.parametrize(("f", "deriv"), [(sigmoid, sigmoid_deriv), (tanh, tanh_deriv)])
def test_activation_derivatives_match_central_differences(f, deriv):
    x = np.linspace(-6, 6, 25)
    assert_same_gradient(deriv(f(x)), central_difference(lambda: np.sum(f(x)), x), f.__name__)


# ------------------------------------------------------------------------------------------------------------
# Regressions
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_a_column_far_below_the_maximum_is_not_nan(dtype):
    x = np.array([[0.0, -5000.0, 5000.0], [1.0, -5001.0, 4990.0]], dtype)
    s = softmax(x)
    for column in range(3):
        np.testing.assert_array_equal(s[:, column], softmax(x[:, column]))
    np.testing.assert_allclose(s[0, :2], [1 / (1 + np.e), 1 / (1 + 1 / np.e)], rtol=1e-6)
    np.testing.assert_allclose(s.sum(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_does_not_overflow_or_warn(dtype):
    x = np.array([-np.inf, -1000, 0, 1000, np.inf, np.nan], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        s = sigmoid(x)
    np.testing.assert_array_equal(s, np.array([0, 0, 0.5, 1, 1, np.nan], dtype))


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float32, -87), (np.float64, -708)])
def test_small_sigmoid_keeps_all_its_digits(dtype, lowest):
    x = np.concatenate([np.linspace(lowest, 5, 200), -np.logspace(-8, 0, 50)]).astype(dtype)
    with localcontext(prec=50):
        exact = [1 / (1 + (-Decimal(float(value))).exp()) for value in x]
        errors = [abs(Decimal(float(s)) / e - 1) for s, e in zip(sigmoid(x), exact, strict=True)]
    assert max(errors) < 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_of_a_predicted_zero_is_large_and_finite(dtype):
    y_t = np.array([[1.0, 0.0], [0.0, 1.0]], dtype)
    ypred_t = np.array([[0.0, 0.25], [1.0, 0.75]], dtype)
    loss = cross_entropy_loss_t(y_t, ypred_t)
    np.testing.assert_allclose(loss, [-np.log(np.finfo(dtype).tiny), -np.log(0.75)], rtol=1e-6)
    assert loss[0] > 80


def test_predicted_zero_costs_nothing_where_the_label_is_zero():
    loss = cross_entropy_loss_t(np.array([[0.0], [1.0], [0.0]]), np.array([[0.0], [0.75], [0.25]]))
    np.testing.assert_array_equal(loss, [-np.log(0.75)])


def test_gradient_does_not_vanish_where_the_prediction_is_zero():
    _, parameters = random_inputs("rnn", T=1, m=1)
    parameters["by"] = np.array([[-2000.0], [0.0], [0.0]])
    a, y_pred, caches = rnn_forward(np.ones((1, 5, 1)), np.zeros((7, 1)), parameters)
    assert y_pred[0, 0, 0] == 0
    y = np.array([[[1.0], [0.0], [0.0]]])
    np.testing.assert_array_equal(rnn_backward(np.zeros_like(a), caches, y)["dby"], (y_pred - y)[0])


def test_loss_is_summed_over_time_and_averaged_over_the_batch():
    y, y_pred = one_hot(6, 3, 4), softmax(np.random.default_rng(4).standard_normal((3, 24)))
    y_pred = y_pred.reshape(3, 6, 4).transpose(1, 0, 2)
    loss = cross_entropy_loss(y, y_pred)
    assert type(loss) is float
    assert loss == pytest.approx(-np.sum(np.log(y_pred[y == 1])) / 4, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_labels_are_never_overwritten(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    labels, da = one_hot(3, 3, 4), np.random.default_rng(5).standard_normal((3, 7, 4))
    arrays = [*inputs.values(), *parameters.values(), labels, da]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    _, _, y_pred, caches = forward(kind, inputs, parameters)
    cross_entropy_loss(labels, y_pred)
    BACKWARD[kind](da, caches, labels)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("kind", KINDS)
def test_overwriting_the_outputs_does_not_change_the_gradients(kind):
    inputs, parameters = random_inputs(kind, T=3, m=4)
    a, c, y_pred, caches = forward(kind, inputs, parameters)
    da, labels = np.ones_like(a), one_hot(3, 3, 4)
    before = BACKWARD[kind](da, caches, labels)
    for output in (a, y_pred) if c is None else (a, c, y_pred):
        output[:] = 0.123
    after = BACKWARD[kind](da, caches, labels)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


# ------------------------------------------------------------------------------------------------------------
# Shapes and dtypes
# ------------------------------------------------------------------------------------------------------------


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
        ("rnn", "x", (3, 4, 5), "(n_h, m) where"),
        ("rnn", "Waa", (7, 6), "(n_h, n_h) where n_x=5, m=4, n_h=7"),
        ("rnn", "Wax", (5, 7), "(n_h, n_x) where n_x=5, m=4, n_h=7"),
        ("rnn", "ba", (7,), "(n_h, 1) where n_x=5, m=4, n_h=7"),
        ("rnn", "by", (1, 3), "(n_y, 1) where n_x=5, m=4, n_h=7, n_y=3"),
        ("lstm", "c0", (7, 1), "(n_h, m) where"),
        ("lstm", "Wo", (7, 7), "(n_h, n_h+n_x) where n_x=5, m=4, n_h=7"),
        ("lstm", "bf", (7, 4), "(n_h, 1) where"),
        ("gru", "Wz", (12, 7), "(n_h, n_h+n_x) where"),
        ("gru_reset_after", "bnr", (3, 1), "(n_h, 1) where"),
    ],
)
def test_wrong_shape_is_an_error_that_states_the_expected_one(kind, name, shape, expected):
    for message in broken(kind, name, np.zeros(shape)):
        message = message.replace("T=3, ", "")  # only the sequence has a T
        if name != "x":  # a wrong x is reported by the first array that disagrees with it
            assert str(shape) in message
        assert f"expected {expected}" in message


def test_shape_error_names_the_array_the_shapes_and_the_fix():
    inputs, parameters = random_inputs("rnn", T=3, m=4)
    parameters["Waa"] = np.zeros((7, 6))
    with pytest.raises(ValueError) as error:
        rnn_forward(inputs["x"], inputs["a0"], parameters)
    start = "Waa has shape (7, 6), expected (n_h, n_h) where T=3, n_x=5, m=4, n_h=7: reshape or transpose Waa"
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
            ValueError, match=r"^da has shape .* expected \(T, n_h, m\) where T=3, n_x=5, m=4, n_h=7"
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


# ------------------------------------------------------------------------------------------------------------
# The file itself
# ------------------------------------------------------------------------------------------------------------


def test_imports_numpy_only_and_has_no_class_or_assert():
    tree = ast.parse(Path(textbook.__file__).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        assert not isinstance(node, ast.ClassDef | ast.Assert)
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    assert imported == {"numpy", "numpy.typing", "typing"}  # typing: for annotations


def test_public_names_are_the_functions():
    functions = {
        name
        for name, value in vars(textbook).items()
        if callable(value)
        and getattr(value, "__module__", None) == textbook.__name__
        and not name.startswith("_")
    }
    assert set(textbook.__all__) == functions
    assert len(functions) == 21
    for name in functions:
        assert getattr(textbook, name).__doc__, name

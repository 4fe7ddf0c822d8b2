"""Test the textbook against an independent notebook, other libraries and central differences."""

import ast
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import support
from support.textbook_cases import (
    BACKWARD,
    KINDS,
    assert_same_gradient,
    cell_forward,
    central_difference,
    forward,
    one_hot,
    parameter_shapes,
    random_inputs,
)

from onward import textbook
from onward.textbook import (
    cross_entropy_loss,
    cross_entropy_loss_t,
    gru_cell_backward,
    gru_forward,
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


@pytest.mark.parametrize(("T", "m"), [(1, 2), (4, 1), (3, 2)])
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

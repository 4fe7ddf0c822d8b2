"""Backward passes, against central differences, the textbook and PyTorch's autograd."""

import pickle
from typing import Any

import numpy as np
import pytest
import support
from support import cases
from support.cases import CASES, GRADIENT_TOLERANCE, Case

import onward
from onward import textbook
from onward.errors import ArgumentError, ShapeError

CELLS = {
    "rnn_tanh": lambda **options: onward.RNN(3, 4, **options),
    "rnn_relu": lambda **options: onward.RNN(3, 4, nonlinearity="relu", **options),
    "lstm": lambda **options: onward.LSTM(3, 4, **options),
    "lstm_projected": lambda **options: onward.LSTM(3, 4, proj_size=2, **options),
    "gru": lambda **options: onward.GRU(3, 4, **options),
    "gru_reset_before": lambda **options: onward.GRU(3, 4, reset_after=False, **options),
}
GOLDEN = np.load(support.DATA / "golden_gradients.npz")
every_cell = pytest.mark.parametrize("cell", CELLS)


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def parts(state: Any) -> list[Any]:
    """All arrays of the state of a layer or a model."""
    if isinstance(state, tuple | list):
        return [part for one in state for part in parts(one)]
    return [] if state is None else [state]


def like(state: Any) -> Any:
    """A state of the same structure with random numbers."""
    if isinstance(state, tuple | list):
        return type(state)(like(part) for part in state)
    return None if state is None else draw(*state.shape, seed=state.size)


def assert_gradients(model: Any, x: Any, state: Any = None, lengths: Any = None) -> None:
    """Check the gradients of a random weighted sum of y and the final state by central differences."""
    y, final, cache = model.forward(x, state, lengths=lengths)
    dy, dfinal = draw(*y.shape, seed=1), like(final)
    dx, dstate, gradients = model.backward(dy, dfinal, cache)
    weights = model.state_dict()
    assert {name: g.shape for name, g in gradients.items()} == {name: w.shape for name, w in weights.items()}
    x, state = np.array(x), pickle.loads(pickle.dumps(state))

    def loss() -> float:
        model.load_state_dict(weights)
        y, final, _ = model.forward(x, state, lengths=lengths)
        ends = zip(parts(final), parts(dfinal), strict=True)
        return float((y * dy).sum()) + sum(float((a * b).sum()) for a, b in ends)

    checked = [(weights[name], gradient) for name, gradient in gradients.items()]
    checked += zip(parts(state), parts(dstate), strict=True) if state is not None else []
    checked += [(x, dx)] if dx is not None else []
    for variable, gradient in checked:
        direction = draw(*variable.shape, seed=2)
        start, step = variable.copy(), 1e-6
        variable += step * direction
        above = loss()
        variable[:] = start - step * direction
        below = loss()
        variable[:] = start
        slope = (above - below) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(slope, rel=2e-6, abs=2e-8)


@every_cell
@pytest.mark.parametrize("T", [1, 5])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_gradients_match_central_differences(cell: str, T: int, options: dict[str, Any]) -> None:
    layer = CELLS[cell](dtype="float64", rng=0, **options)
    _, state = layer(np.zeros((T, 3, 3)))
    assert_gradients(layer, draw(T, 3, 3), like(state))


@every_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_of_padded_rows_match_central_differences(cell: str, batch_first: bool) -> None:
    layer = CELLS[cell](num_layers=2, bidirectional=True, batch_first=batch_first, dtype="float64", rng=0)
    x = draw(4, 5, 3) if batch_first else draw(5, 4, 3)
    _, state = layer(x)
    assert_gradients(layer, x, like(state), lengths=[5, 2, 0, 1])


@pytest.mark.parametrize("case", [c for c in CASES if c.dtype == "float32"], ids=lambda case: case.id)
def test_float32_gradients_match_float64(case: Case) -> None:
    inputs, answers = cases.inputs_of(case), []
    for dtype in ("float32", "float64"):
        layer = cases.layer_of(case, dtype=dtype, batch_first=False)
        layer.load_state_dict(inputs.weights)
        state = inputs.h0 if inputs.c0 is None else (inputs.h0, inputs.c0)
        y, _, cache = layer.forward(inputs.x, state, lengths=inputs.lengths)
        dx, dstate, gradients = layer.backward(draw(*y.shape), None, cache)
        answers.append([dx, *parts(dstate), *gradients.values()])
    for mine, right in zip(*answers, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-4 * max(1, np.abs(right).max()))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.cell != "gru_reset_before"], ids=lambda case: case.id
)
def test_gradients_match_autograd(case: Case) -> None:
    mine = cases.gradients(case, cases.inputs_of(case)).values()
    samples = [cases.sample(gradient, 6) for gradient in mine]
    right = np.split(GOLDEN[case.id], np.cumsum([len(sample) for sample in samples])[:-1])
    for gradient, sample, golden in zip(mine, samples, right, strict=True):
        bound = GRADIENT_TOLERANCE[case.dtype] * np.abs(gradient).max()
        np.testing.assert_allclose(sample, golden, rtol=0, atol=bound)


def test_gradients_match_the_textbook() -> None:
    layer, x, dy = onward.GRU(3, 4, reset_after=False, dtype="float64", rng=0), draw(6, 2, 3), draw(6, 2, 4)
    w = layer.state_dict()
    parameters = {"Wy": np.ones((1, 4)), "by": np.ones((1, 1))}
    b = np.split(w["bias_ih_l0"] + w["bias_hh_l0"], 3)
    for k, gate in enumerate("rzn"):
        W, R = (np.split(w[f"weight_{kind}_l0"], 3)[k] for kind in ("ih", "hh"))
        parameters |= {f"W{gate}": np.hstack([R, W]), f"b{gate}": b[k][:, None]}
    *_, caches = textbook.gru_forward(x.swapaxes(1, 2), np.zeros((4, 2)), parameters)
    right = textbook.gru_backward(dy.swapaxes(1, 2), caches)
    _, _, cache = layer.forward(x)
    dx, dh0, gradients = layer.backward(dy, None, cache)
    close: Any = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)  # noqa: E731 a short name
    close(dx, right["dx"].swapaxes(1, 2))
    close(dh0[0], right["da0"].T)
    for k, gate in enumerate("rzn"):
        dR, dW = np.split(right[f"dW{gate}"], [4], axis=1)
        close(np.split(gradients["weight_ih_l0"], 3)[k], dW)
        close(np.split(gradients["weight_hh_l0"], 3)[k], dR)
        close(np.split(gradients["bias_ih_l0"], 3)[k], right[f"db{gate}"][:, 0])


@every_cell
def test_forward_gives_the_bits_of_a_call(cell: str) -> None:
    layer, x = CELLS[cell](num_layers=2, bidirectional=True, rng=0), draw(5, 4, 3)
    y, state = layer(x, lengths=[5, 2, 0, 1])
    same_y, same_state, _ = layer.forward(x, lengths=[5, 2, 0, 1])
    for one, other in zip([y, *parts(state)], [same_y, *parts(same_state)], strict=True):
        np.testing.assert_array_equal(one, other)


@every_cell
def test_padding_has_no_gradient_and_no_influence(cell: str) -> None:
    layer, lengths = CELLS[cell](num_layers=2, bidirectional=True, rng=0), np.array([5, 2, 0, 1])
    x, dy = draw(5, 4, 3), draw(5, 4, 2 * (layer.proj_size or 4))
    past = np.arange(5)[:, None] >= lengths
    answers = []
    for filling in (0, np.nan):
        x[past], dy[past] = filling, filling
        _, _, cache = layer.forward(x, lengths=lengths)
        dx, dstate, gradients = layer.backward(dy, None, cache)
        np.testing.assert_array_equal(dx[past], 0)
        answers.append([dx, *parts(dstate), *gradients.values()])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_padding_does_not_affect_the_gradients_of_a_linear_below() -> None:
    net = onward.Sequential(onward.Linear(3, 4, rng=0), onward.LSTM(4, 5, rng=1), onward.Last())
    x, lengths, answers = draw(5, 4, 3), np.array([5, 2, 0, 1]), []
    for filling in (0, np.nan):
        x[np.arange(5)[:, None] >= lengths] = filling
        y, _, cache = net.forward(x, lengths=lengths)
        answers.append(list(net.backward(np.ones_like(y), None, cache)[2].values()))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


@every_cell
def test_nan_reaches_every_dependent_gradient(cell: str) -> None:
    layer, dy = CELLS[cell](rng=0), draw(5, 2, CELLS[cell]().proj_size or 4)
    dy[3, 1] = np.nan
    _, _, cache = layer.forward(draw(5, 2, 3))
    dx, _, gradients = layer.backward(dy, None, cache)
    assert np.isnan(gradients["weight_ih_l0"]).any() and np.isnan(dx[3, 1]).any()
    assert np.isfinite(dx[:, 0]).all() and np.isfinite(dx[4]).all()


@every_cell
def test_gradients_have_the_same_bits_for_any_number_of_threads(cell: str) -> None:
    layer, x, answers = CELLS[cell](num_layers=2, bidirectional=True, rng=0), draw(6, 131, 3), []
    for threads in (1, 2, 3):
        onward.set_num_threads(threads)
        y, _, cache = layer.forward(x)
        dx, dstate, gradients = layer.backward(np.ones_like(y), None, cache)
        answers.append([dx, *parts(dstate), *gradients.values()])
    onward.set_num_threads(1)
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            np.testing.assert_array_equal(one, other)


def model(**options: Any) -> Any:
    return onward.Sequential(
        onward.Embedding(9, 3, padding_idx=2, rng=0, **options),
        onward.LSTM(3, 4, bidirectional=True, rng=1, **options),
        onward.GRU(8, 3, rng=2, **options),
        onward.Dropout(0.3),
        onward.Last(),
        onward.Linear(3, 2, rng=3, **options),
        onward.Softmax(),
    )


def test_gradients_of_a_model_match_central_differences() -> None:
    net, x = model(dtype="float64"), (np.arange(20).reshape(5, 4) * 7 % 9).clip(3)
    state = like(net(x, return_state=True)[1])
    assert_gradients(net, x, state, lengths=[5, 2, 0, 1])


@pytest.mark.parametrize("shape", [(0, 4), (0,)])
def test_last_has_no_gradient_for_rows_without_steps(shape: tuple[int, ...]) -> None:
    net, x = model(), np.zeros(shape, int)
    for lengths in (None, np.zeros(shape[1:], int)):
        y, _, cache = net.forward(x, lengths=lengths)
        _, _, gradients = net.backward(np.ones_like(y), None, cache)
        assert not gradients["0.weight"].any() and gradients["5.weight"].shape == (2, 3)
    last = onward.Last(batch_first=True)
    _, _, kept = last.forward(np.zeros((4, 0, 3)))
    assert last.backward(np.ones((4, 3)), None, kept)[0].shape == (4, 0, 3)


def test_lengths_that_change_before_backward_do_not_change_the_gradients() -> None:
    net, lengths, x = model(), np.array([5, 2, 0, 1]), np.ones((5, 4), int)
    _, _, cache = net.forward(x, lengths=lengths)
    dy = draw(4, 2)
    first = net.backward(dy, None, cache)[2]
    lengths[:] = 5
    again = net.backward(dy, None, cache)[2]
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_padding_idx_has_no_gradient() -> None:
    net = onward.Embedding(4, 3, padding_idx=2, rng=0)
    _, _, cache = net.forward([1, 2, 1])
    _, _, gradients = net.backward(np.ones((3, 3)), None, cache)
    assert gradients["weight"].tolist() == [[0] * 3, [2] * 3, [0] * 3, [0] * 3]


def test_a_cache_can_be_reused_and_pickled() -> None:
    net, x = model(), np.ones((5, 4), int)
    y, _, cache = net.forward(x)
    first = net.backward(np.ones_like(y), None, cache)[2]
    for kept in (cache, pickle.loads(pickle.dumps(cache))):
        again = net.backward(np.ones_like(y), None, kept)[2]
        assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("cell", "floats"), {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 6, "gru": 5, "gru_reset_before": 4}.items()
)
def test_a_cache_has_the_documented_size(cell: str, floats: int) -> None:
    _, _, cache = CELLS[cell](rng=0).forward(draw(5, 2, 3))
    held = [part for record in cache.records for part in record if part is not None and part is not record.x]
    owners = [part if part.base is None else part.base for part in held]
    assert sum({id(owner): owner.size for owner in owners}.values()) == floats * 5 * 2 * 4


def test_changing_y_does_not_change_the_cache() -> None:
    layer, x, answers = onward.LSTM(3, 4, rng=0), draw(5, 2, 3), []
    for value in (0, 7):
        y, _, cache = layer.forward(x)
        y *= value
        answers.append(layer.backward(np.ones((5, 2, 4)), None, cache)[2]["weight_hh_l0"])
    np.testing.assert_array_equal(*answers)


def test_backward_uses_newly_loaded_weights() -> None:
    layer, other, x = onward.GRU(3, 4, rng=0), onward.GRU(3, 4, rng=1), draw(5, 2, 3)
    y, _, cache = layer.forward(x)
    layer.backward(y, None, cache)  # packs the weights
    layer.load_state_dict(other.state_dict())
    answers = [one.backward(y, None, one.forward(x)[2])[0] for one in (layer, other)]
    np.testing.assert_array_equal(*answers)


def test_dropout_uses_one_mask_for_the_output_and_its_gradient() -> None:
    layer, x = onward.Dropout(0.25), np.ones((200, 50))
    y, _, mask = layer.forward(x, rng=np.random.default_rng(0))
    assert set(np.unique(y).tolist()) == {0, np.float64(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(layer.backward(x, None, mask)[0], y)
    np.testing.assert_array_equal(layer.forward(x)[0], x)
    deep = onward.LSTM(3, 4, 2, dropout=0.5, rng=0)
    plain, dropped = (deep.forward(draw(5, 2, 3), rng=rng) for rng in (None, np.random.default_rng(0)))
    assert not np.array_equal(plain[0], dropped[0])
    assert not np.array_equal(*(deep.backward(plain[0], None, cache)[0] for *_, cache in (plain, dropped)))


def test_empty_inputs_have_zero_gradients() -> None:
    for shape in ((0, 2, 3), (5, 0, 3)):
        layer = onward.LSTM(3, 4, rng=0)
        y, state, cache = layer.forward(np.ones(shape))
        dx, dstate, gradients = layer.backward(y, state, cache)
        assert dx.shape == shape and not any(gradient.any() for gradient in gradients.values())
        np.testing.assert_array_equal(dstate[0], state[0])


def test_a_seed_works_as_rng_and_each_dropout_draws_its_own_mask() -> None:
    net, x = onward.Sequential(onward.Dropout(), onward.Dropout()), np.ones((50, 40), np.float32)
    y, _, masks = net.forward(x, rng=3)
    np.testing.assert_array_equal(y, net.forward(x, rng=np.random.default_rng(3))[0])
    assert not np.array_equal(*masks)
    assert onward.LSTM(40, 4, 2, dropout=0.5).forward(x, rng=3)[0].shape == (50, 4)


def test_a_cache_of_another_layer_is_rejected() -> None:
    layers = [
        onward.LSTM(3, 4), onward.GRU(3, 4), onward.LSTM(3, 4, 2), onward.LSTM(3, 5), onward.LSTM(2, 4),
        onward.Linear(3, 4), onward.Sequential(onward.Linear(3, 4), onward.Last()),
    ]  # fmt: skip
    caches = [layer.forward(np.ones((2, 1, 2 if layer is layers[4] else 3)))[-1] for layer in layers]
    for layer in (*layers, onward.Last(), onward.Dropout(), onward.Embedding(3, 4), onward.Softmax()):
        for other, cache in [*zip(layers, caches, strict=True), (None, None)]:
            if other is not layer and not isinstance(cache, np.ndarray):
                with pytest.raises(ArgumentError, match="cache was not returned by the forward method of"):
                    layer.backward(np.ones((2, 1, 4)), None, cache)


def test_layers_without_gradients_raise() -> None:
    small = [onward.GRU(3, 4).quantize(precision) for precision in ("int8", "float16")]
    for layer in (onward.LSTM(3, 4, clip=1.0), *small, onward.Conv1d(1, 1, 1).quantize("int8")):
        with pytest.raises(ArgumentError, match="has no gradients"):
            layer.forward(np.ones((2, 1, 3)))


def test_dy_of_the_wrong_shape_is_rejected() -> None:
    for layer in (onward.LSTM(3, 4), onward.Linear(3, 4), onward.Sequential(onward.LSTM(3, 4))):
        *_, cache = layer.forward(np.ones((5, 2, 3)))
        with pytest.raises(ShapeError, match=r"dy has shape \(5, 2, 3\); expected \(5, 2, 4\)"):
            layer.backward(np.ones((5, 2, 3)), None, cache)

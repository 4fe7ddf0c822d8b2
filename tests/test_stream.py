"""Streams: a sequence step by step is the sequence in one call, and their state is nobody else's."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError

LAYERS = {
    "rnn": lambda H, **options: onward.RNN(5, H, 2, rng=0, **options),
    "relu": lambda H, **options: onward.RNN(5, H, 2, "relu", rng=0, **options),
    "lstm": lambda H, **options: onward.LSTM(5, H, 3, rng=0, **options),
    "lstm_projected": lambda H, **options: onward.LSTM(5, H, 3, proj_size=H // 2, rng=0, **options),
    "gru": lambda H, **options: onward.GRU(5, H, 2, rng=0, **options),
    "gru_reset_before": lambda H, **options: onward.GRU(5, H, 2, reset_after=False, rng=0, **options),
    "rnn_functions": lambda H, **options: onward.RNN(
        5, H, 2, ("leaky_relu", 0.1), clip=0.9, rng=0, **options
    ),
    "lstm_options": lambda H, **options: onward.LSTM(
        5, H, 3, peephole=True, coupled=True, clip=0.5, activations=("silu", "elu", "mish"), rng=0, **options
    ),
    "gru_options": lambda H, **options: onward.GRU(
        5, H, 2, reset_after=False, clip=0.6, activations=("softsign", "softplus"), rng=0, **options
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def numbers(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("H", [3, 33])
def test_steps_are_bitwise_the_whole_sequence(isa: str, name: str, dtype: str, H: int) -> None:
    layer, x = LAYERS[name](H, dtype=dtype), numbers(50, 5, dtype=dtype)
    y, state = layer(x)
    stream = layer.stream()
    np.testing.assert_array_equal(np.stack([stream(step) for step in x]), y)
    for mine, whole in zip(parts(stream.state), parts(state), strict=True):
        np.testing.assert_array_equal(mine, whole)


@every_layer
def test_a_state_taken_and_given_goes_on_where_it_was(name: str) -> None:
    layer, x = LAYERS[name](7), numbers(9, 5)
    first, second = layer.stream(), layer.stream()
    for step in x[:4]:
        first(step)
    second(x[0])  # an odd number of steps: another buffer holds the state
    second.state = first.state
    for step in x[4:]:
        np.testing.assert_array_equal(first(step), second(step))


@every_layer
def test_reset_starts_anew(name: str) -> None:
    layer, x = LAYERS[name](7), numbers(9, 5)
    stream = layer.stream()
    before = [stream(step) for step in x]
    stream.reset()
    for part in parts(stream.state):
        assert not part.any()
    np.testing.assert_array_equal([stream(step) for step in x], before)


def test_outputs_and_states_are_copies() -> None:
    stream, x = LAYERS["lstm"](7).stream(), numbers(5)
    y = stream(x)
    h, c = stream.state
    for array in (y, h, c):
        array[:] = 9
    np.testing.assert_array_equal(stream.state[0] == 9, np.zeros((3, 7), bool))
    np.testing.assert_array_equal(stream.state[1] == 9, np.zeros((3, 7), bool))


def test_two_streams_of_one_layer_do_not_meet() -> None:
    layer, x = LAYERS["gru"](7), numbers(2, 9, 5)
    streams = layer.stream(), layer.stream()
    mixed = np.array(
        [[stream(step) for stream, step in zip(streams, steps, strict=True)] for steps in x.swapaxes(0, 1)]
    )
    for row in range(2):
        np.testing.assert_array_equal(mixed[:, row], layer(x[row])[0])


def test_new_weights_do_not_change_a_stream_that_runs() -> None:
    layer, x = LAYERS["lstm"](7), numbers(9, 5)
    y, _ = layer(x)
    stream = layer.stream()
    layer.load_state_dict({name: 2 * weight for name, weight in layer.state_dict().items()})
    np.testing.assert_array_equal([stream(step) for step in x], y)


@pytest.mark.parametrize(
    "given", [[1, 2, 3, 4, 5], np.arange(5), np.arange(5.0), np.arange(10, dtype="f4")[::2]]
)
def test_what_converts_is_converted(given: Any) -> None:
    stream = LAYERS["lstm"](7).stream()
    y = stream(given)
    stream.reset()
    np.testing.assert_array_equal(stream(np.asarray(given, np.float32).copy()), y)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(4), ShapeError, r"\(4,\).*\(5,\)"),
        (np.zeros((2, 5)), ShapeError, r"\(2, 5\).*\(5,\)"),
        (np.zeros(4, "f4"), ShapeError, r"\(4,\).*\(5,\)"),
        (np.zeros(5, complex), DtypeError, "complex"),
        ("abcde", DtypeError, "U5"),
        (None, DtypeError, "object"),
    ],
)
def test_a_wrong_step_changes_nothing(x: Any, error: type[OnwardError], message: str) -> None:
    stream = LAYERS["lstm"](7).stream()
    stream(numbers(5))
    before = stream.state
    with pytest.raises(error, match=message):
        stream(x)
    for mine, was in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(mine, was)


def test_a_wrong_state_is_refused() -> None:
    stream = LAYERS["lstm"](7).stream()
    with pytest.raises(ArgumentError, match="pair"):
        stream.state = np.zeros((3, 7))
    with pytest.raises(ShapeError, match=r"\(3, 6\).*\(3, 7\)"):
        stream.state = np.zeros((3, 6)), np.zeros((3, 7))


def test_a_bidirectional_layer_cannot_stream() -> None:
    with pytest.raises(ArgumentError, match="reverse direction"):
        onward.LSTM(5, 7, bidirectional=True).stream()

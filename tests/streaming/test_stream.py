"""Streams: split sequences give the bits of whole ones, and each stream owns its state."""

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

import onward
from onward.errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError
from onward.layers.base import Layer

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
@in_one_test("dtype", ["float32", "float64"])
@in_one_test("H", [3, 33])
def test_steps_match_the_whole_sequence_bitwise(isa: str, name: str, dtype: str, H: int) -> None:
    layer, x = LAYERS[name](H, dtype=dtype), numbers(50, 5, dtype=dtype)
    y, state = layer(x)
    stream = layer.stream()
    np.testing.assert_array_equal(np.stack([stream(step) for step in x]), y)
    for mine, whole in zip(parts(stream.state), parts(state), strict=True):
        np.testing.assert_array_equal(mine, whole)


@every_layer
def test_assigned_state_continues_the_sequence(name: str) -> None:
    layer, x = LAYERS[name](7), numbers(9, 5)
    first, second = layer.stream(), layer.stream()
    for step in x[:4]:
        first(step)
    second(x[0])  # an odd number of steps, so that another buffer holds the state
    second.state = first.state
    for step in x[4:]:
        np.testing.assert_array_equal(first(step), second(step))


@every_layer
def test_reset_sets_the_state_to_zeros(name: str) -> None:
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


def test_streams_of_one_layer_are_independent() -> None:
    layer, x = LAYERS["gru"](7), numbers(2, 9, 5)
    streams = layer.stream(), layer.stream()
    mixed = np.array(
        [[stream(step) for stream, step in zip(streams, steps, strict=True)] for steps in x.swapaxes(0, 1)]
    )
    for row in range(2):
        np.testing.assert_array_equal(mixed[:, row], layer(x[row])[0])


def test_stream_keeps_the_weights_that_it_started_with() -> None:
    layer, x = LAYERS["lstm"](7), numbers(9, 5)
    y, _ = layer(x)
    stream = layer.stream()
    layer.load_state_dict({name: 2 * weight for name, weight in layer.state_dict().items()})
    np.testing.assert_array_equal([stream(step) for step in x], y)


@pytest.mark.parametrize(
    "given", [[1, 2, 3, 4, 5], np.arange(5), np.arange(5.0), np.arange(10, dtype="f4")[::2]]
)
def test_lists_integers_and_strided_arrays_are_converted(given: Any) -> None:
    stream = LAYERS["lstm"](7).stream()
    y = stream(given)
    stream.reset()
    np.testing.assert_array_equal(stream(np.asarray(given, np.float32).copy()), y)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(4), ShapeError, r"\(4,\).*\(5,\)"),
        (np.zeros((2, 4)), ShapeError, r"\(2, 4\).*\(5,\) or a block \(T, 5\)"),
        (np.zeros((2, 2, 5)), ShapeError, r"\(2, 2, 5\).*\(5,\)"),
        (np.zeros(4, "f4"), ShapeError, r"\(4,\).*\(5,\)"),
        (np.zeros(5, complex), DtypeError, "complex"),
        ("abcde", DtypeError, "U5"),
        (None, DtypeError, "object"),
    ],
)
def test_invalid_step_changes_nothing(x: Any, error: type[OnwardError], message: str) -> None:
    stream = LAYERS["lstm"](7).stream()
    stream(numbers(5))
    before = stream.state
    with pytest.raises(error, match=message):
        stream(x)
    for mine, was in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(mine, was)


@pytest.mark.parametrize("name", ["lstm", "softmax"])
@pytest.mark.parametrize("mask", [False, True])
def test_masked_step_is_rejected(name: str, mask: bool) -> None:
    net = models()[name] if name in models() else LAYERS[name](7)
    x = np.ma.masked_array(numbers(5), mask)  # the core reads it without conversion
    with pytest.raises(DtypeError, match="x is a masked array"):
        net.stream()(x)
    pool = net.pool(1)
    with pytest.raises(DtypeError, match="x is a masked array"):
        pool.step(pool.open(), x[None])


def test_subclass_of_an_array_is_read_as_an_array(tmp_path: Path) -> None:
    layer, x = LAYERS["lstm"](7), numbers(4, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(layer.stream()(mapped), layer(x)[0])


def test_invalid_state_is_rejected() -> None:
    stream = LAYERS["lstm"](7).stream()
    with pytest.raises(ArgumentError, match="pair"):
        stream.state = np.zeros((3, 7))
    with pytest.raises(ShapeError, match=r"\(3, 6\).*\(3, 7\)"):
        stream.state = np.zeros((3, 6)), np.zeros((3, 7))


def test_bidirectional_layer_cannot_stream() -> None:
    with pytest.raises(ArgumentError, match="reverse direction"):
        onward.LSTM(5, 7, bidirectional=True).stream()


def models(batch_first: bool = False) -> dict[str, onward.Sequential]:
    """Models that run in the core, and models that run layer by layer."""
    return {
        "chain": onward.Sequential(
            onward.LSTM(5, 33, 2, rng=0, batch_first=batch_first),
            onward.Linear(33, 6, rng=1),
            onward.GRU(6, 7, rng=2, batch_first=batch_first),
            onward.Linear(7, 3, rng=3),
        ),
        "linear_first": onward.Sequential(
            onward.Linear(5, 6, rng=1), onward.RNN(6, 9, rng=2, batch_first=batch_first)
        ),
        "softmax": onward.Sequential(
            onward.LSTM(5, 7, rng=0, batch_first=batch_first),
            onward.Linear(7, 3, rng=1),
            onward.Activation("elu"),
            onward.Softmax(),
        ),
        "embedding": onward.Sequential(
            onward.Embedding(11, 5, rng=0), onward.GRU(5, 7, rng=1, batch_first=batch_first)
        ),
    }


every_model = pytest.mark.parametrize("name", models())


def inputs(name: str, *shape: int) -> Any:
    if name == "embedding":
        return np.random.default_rng(2).integers(0, 11, shape)
    return numbers(*shape, 5)


def assert_same_states(mine: Any, others: Any) -> None:
    for mine_of_layer, other_of_layer in zip(mine, others, strict=True):
        for part, other in zip(parts(mine_of_layer), parts(other_of_layer), strict=True):
            np.testing.assert_array_equal(part, other)


@every_model
@pytest.mark.parametrize("cuts", [[1] * 25, [25], [7, 0, 1, 17]])
def test_blocks_match_the_whole_sequence_bitwise(isa: str, name: str, cuts: list[int]) -> None:
    net, x = models()[name], inputs(name, 25)
    whole, states = net(x, return_state=True)
    stream, t, ys = net.stream(), 0, []
    for steps in cuts:
        ys.append(stream(x[t : t + steps]))
        t += steps
    np.testing.assert_array_equal(np.concatenate(ys), whole)
    assert_same_states(stream.state, states)
    np.testing.assert_array_equal(net.stream()(x[0]), whole[0])


@every_model
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("B", [1, 5, 200])
def test_batches_match_the_whole_sequence_bitwise(name: str, batch_first: bool, B: int) -> None:
    net = models(batch_first)[name]
    x = inputs(name, B, 6) if batch_first else inputs(name, 6, B)
    time = 1 if batch_first else 0
    whole, states = net(x, return_state=True)
    stream = net.stream(batch=B)
    first, second = np.split(x, [4], time)
    y = [stream(first)]
    y += [np.expand_dims(stream(step), time) for step in np.moveaxis(second, time, 0)]
    np.testing.assert_array_equal(np.concatenate(y, time), whole)
    assert_same_states(stream.state, states)


def test_last_returns_each_step() -> None:
    net, x = (
        onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Last(), onward.Linear(7, 3, rng=1)),
        numbers(9, 5),
    )
    so_far = [net(x[: t + 1]) for t in range(9)]
    np.testing.assert_array_equal(net.stream()(x), so_far)
    by_layers = onward.Sequential(*net, onward.Softmax())
    np.testing.assert_array_equal(by_layers.stream()(x), [by_layers(x[: t + 1]) for t in range(9)])


@every_model
def test_out_is_filled_and_returned(name: str) -> None:
    net, x = models()[name], inputs(name, 9)
    y = np.full((9, net(x).shape[-1]), 9, np.float32)
    stream = net.stream()
    assert stream(x[:4], out=y[:4]).base is y
    for t in range(4, 9):
        stream(x[t], out=y[t])
    np.testing.assert_array_equal(y, net(x))


@every_model
@pytest.mark.parametrize("batch", [None, 2])
def test_empty_block_gives_an_empty_output(name: str, batch: int | None) -> None:
    """NumPy gives empty arrays strides of 0."""
    net = models()[name]
    x = np.empty_like(inputs(name, 0, *((batch,) if batch else ())))
    units = net(inputs(name, 1)).shape[-1]
    out = np.empty((*x.shape[: 1 + bool(batch)], units), np.float32)
    assert net.stream(batch)(x).shape == net.stream(batch)(x, out=out).shape == out.shape


@every_model
def test_assigned_or_loaded_state_is_copied(name: str, tmp_path: Path) -> None:
    """It neither aliases the user's array nor maps the file, which may change."""
    net, x = models()[name], inputs(name, 3)
    stream = net.stream()
    stream(x)
    state, expected = stream.state, stream.state
    stream.save(tmp_path / "state")
    others = net.stream(), net.stream()
    others[0].state = state
    others[1].load(tmp_path / "state")
    for of_layer in state:
        for part in parts(of_layer):
            part[:] = 7
    (tmp_path / "state").write_bytes(b"")
    for other in others:
        assert_same_states(other.state, expected)


@every_model
@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros(2, np.float32), ShapeError, r"out has shape \(2,\), but y has shape"),
        (np.zeros(3), DtypeError, "out is float64, but must be an array of float32"),
        ([0.0], DtypeError, "out is list"),
    ],
)
def test_invalid_out_changes_nothing(name: str, out: Any, error: type[OnwardError], words: str) -> None:
    net = models()[name]
    stream = net.stream()
    x = inputs(name)
    stream(x)
    before = stream.state
    with pytest.raises(error, match=words):
        stream(x, out=out)
    assert_same_states(stream.state, before)


@every_model
@pytest.mark.parametrize("branched", [copy.copy, copy.deepcopy, lambda stream: stream.copy()])
def test_branches_are_independent(name: str, branched: Any) -> None:
    net, x = models()[name], inputs(name, 9)
    stream = net.stream()
    stream(x[:4])
    branch = branched(stream)
    branch(x[0])
    np.testing.assert_array_equal(stream(x[4:]), net(x)[4:])
    np.testing.assert_array_equal(branch(x[1]), net(np.concatenate([x[:4], x[:2]]))[-1])


@every_model
def test_stream_of_a_model_keeps_its_weights(name: str) -> None:
    net, x = models()[name], inputs(name, 9)
    whole, stream = net(x), net.stream()
    net.load_state_dict({key: 2 * weight for key, weight in net.state_dict().items()})
    np.testing.assert_array_equal(stream(x), whole)


@every_model
@pytest.mark.parametrize("batch", [None, 3])
def test_saved_state_continues_in_another_stream(name: str, batch: int | None, tmp_path: Path) -> None:
    net, x = models()[name], inputs(name, 9, *((batch,) if batch else ()))
    first, second = net.stream(batch), net.stream(batch)
    first(x[:4])
    first.save(tmp_path / "state")
    second(x[:3])
    second.load(tmp_path / "state")
    np.testing.assert_array_equal(second(x[4:]), net(x)[4:])


def test_state_file_of_another_model_or_version_is_rejected(tmp_path: Path) -> None:
    net, path = models()["chain"], tmp_path / "state"
    stream = net.stream()
    stream(inputs("chain", 4))
    stream.save(path)
    content = path.read_bytes()
    before = stream.state

    def refused(words: str, into: Any = stream) -> None:
        with pytest.raises(FileError, match=words):
            into.load(path)

    refused("another model", models()["linear_first"].stream())
    other = models()["chain"]
    other.load_state_dict({key: weight + 1 for key, weight in other.state_dict().items()})
    refused("other weights", other.stream())
    refused("shape", net.stream(batch=2))
    refused("not the state of a pool", net.pool(2))
    path.write_bytes(content[:-8])
    refused("not a complete safetensors file.*; expected a file that stream.save wrote")
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    refused("format 9, but this Onward reads format 1")
    net.save(path)
    refused("not the state of a stream")
    assert_same_states(stream.state, before)


@pytest.mark.parametrize(
    "first",
    [onward.LayerNorm(5), onward.Dropout(0.5), onward.Activation("tanh"), onward.Softmax()],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize(
    "second", [onward.GRU(5, 5, rng=0), onward.Linear(5, 5, rng=1)], ids=["GRU", "Linear"]
)
def test_stream_takes_the_step_shape_from_the_first_layer_that_has_one(first: Layer, second: Layer) -> None:
    net = onward.Sequential(first, onward.Dropout(0.1), second, onward.LSTM(5, 3, rng=2))
    x = numbers(9, 5)
    np.testing.assert_array_equal(net.stream()(x), net(x))
    with pytest.raises(ShapeError, match=r"x has shape \(4,\), but must be one step \(5,\) or a block"):
        net.stream()(x[0, :4])
    pool = net.pool(2)
    np.testing.assert_array_equal(pool.step(pool.open(2), x[:2])[0], net(x[:1])[0])


def test_model_that_needs_future_steps_cannot_stream() -> None:
    both = onward.GRU(5, 7, bidirectional=True)
    for model in (both, onward.Sequential(onward.Linear(5, 5), both)):
        for live in (model.stream, lambda model=model: model.pool(4)):
            with pytest.raises(ArgumentError, match=r"GRU\(5, 7, .*cannot stream: its reverse direction"):
                live()
    with pytest.raises(ArgumentError, match=r"Softmax\(dim=0\) cannot stream: it needs the whole sequence"):
        onward.Sequential(onward.GRU(5, 7), onward.Softmax(0)).stream()
    with pytest.raises(ArgumentError, match="no recurrent layer"):
        onward.Sequential(onward.Linear(5, 5)).stream()


def test_calls_from_several_threads_are_atomic() -> None:
    net, x = models()["chain"], inputs("chain", 400)
    stream = net.stream()
    threads = [
        threading.Thread(target=lambda: [stream(x[:1].repeat(5, 0)) for _ in range(40)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(stream(x[0]), net(x[:1].repeat(401, 0))[-1])


class Residual(onward.GRU):
    """Adds the input of a layer to its output."""

    def sublayers(self) -> dict[str, Layer]:
        return {"gru.": onward.GRU(5, 5, rng=0)}

    def with_sublayers(self, sublayers: Any) -> Layer:
        return self

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: Any) -> tuple[Any, Any]:
        y, state = run_recurrent("gru.", self.sublayers()["gru."], x, state, lengths)
        return y + x, state


def test_a_model_that_does_not_call_its_layers_one_after_another_streams_what_it_computes() -> None:
    model, x = Residual(5, 5), numbers(7, 5)
    stream = model.stream()
    y = np.stack([stream(step) for step in x])
    np.testing.assert_array_equal(y, model.run(x, None, None, lambda _, layer, *rest: layer(*rest[:2]))[0])
